//! Tests of carts, orders and their saga through the real router and database. The other services are stubs.

mod add_cart_item;
mod advance;
mod cancel;
mod cart;
mod choreography;
mod closing;
mod confirm;
mod create;
mod due;
mod get;
mod get_cart;
mod list;
mod list_sold;
mod participants_stub;
mod pay;
mod quote;
mod remove_cart_item;
mod replicas;
mod saga;
mod set_cart_item;
mod unpaid;
mod wait;
mod world;

// Each operation has a source file and a test file of its name.
#[tokio::test]
async fn every_operation_has_its_test_file() {
    let world = world::World::new().await;
    let api = serde_json::to_value(&world.app.process.openapi).expect("it is JSON");
    let paths = api["paths"].as_object().expect("there are paths");
    let operations: Vec<&str> = paths
        .values()
        .filter_map(|item| item.as_object())
        .flat_map(|item| item.values())
        .filter_map(|operation| operation["operationId"].as_str())
        .collect();
    assert!(operations.len() >= 9, "{operations:?}");
    for operation in operations {
        let verb = operation.strip_prefix("orders.").expect("an operation is named after its service");
        for file in [format!("src/api/{verb}.rs"), format!("tests/it/{verb}.rs")] {
            assert!(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(&file).exists(), "{operation} has no {file}");
        }
    }
}
