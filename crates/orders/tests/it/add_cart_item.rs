use crate::world::{World, header};
use contracts::Sku;
use serde_json::{Value, json};
use testkit::TestRequest;

fn add(world: &World, sku: Sku, quantity: Value) -> TestRequest {
    world.app.post("/v1/cart/items").bearer(&world.token).json(&json!({"sku": sku, "quantity": quantity}))
}

// K2
#[tokio::test]
async fn added_quantities_sum_up() {
    let world = World::new().await;
    let (a, b) = (world.sell(1_000), world.sell(1_000));
    for (sku, quantity) in [(a, 2), (b, 1), (a, 3)] {
        let _ = add(&world, sku, json!(quantity)).send().await.expect(200);
    }
    assert_eq!(world.quantities(&[a, b]).await, [5, 1]);
    let together = futures::future::join_all((0..20).map(|_| add(&world, b, json!(1)).send())).await;
    let mut versions: Vec<i64> = together.iter().filter_map(|reply| reply.body["version"].as_i64()).collect();
    versions.sort_unstable();
    assert_eq!(versions, (4..24).collect::<Vec<_>>());
    assert_eq!(world.quantities(&[b]).await, [21]);
}

#[tokio::test]
async fn a_repeat_with_its_key_adds_once() {
    let world = World::new().await;
    let sku = world.sell(1_000);
    let first = add(&world, sku, json!(2)).key("k").send().await.expect(200);
    let again = add(&world, sku, json!(2)).key("k").send().await.expect(200);
    assert_eq!((&again.bytes, header(&again, "idempotent-replayed")), (&first.bytes, Some("true")));
    assert_eq!(world.quantities(&[sku]).await, [2]);
}

// row 42
#[tokio::test]
async fn too_many_units_or_items_are_refused() {
    let world = World::new().await;
    let sku = world.sell(1_000);
    for wrong in [json!(0), json!(-1), json!(1_001), json!(1.5), json!("2"), json!(null), json!(1_u64 << 63)] {
        let _ = add(&world, sku, wrong).send().await.expect_problem(422, "invalid-field");
    }
    let _ = add(&world, sku, json!(1_000)).send().await.expect(200);
    let _ = add(&world, sku, json!(1)).send().await.expect_problem(422, "invalid-field");
    for _ in 0..99 {
        let _ = add(&world, world.sell(1_000), json!(1)).send().await.expect(200);
    }
    let _ = add(&world, world.sell(1_000), json!(1)).send().await.expect_problem(422, "order-too-large");
    assert_eq!(world.app.sql_i64("select count(*) from orders_cart_items").await, 100);
    let body = json!({"sku": sku, "quantity": 1});
    let _ = world.app.post("/v1/cart/items").json(&body).send().await.expect_problem(401, "unauthenticated");
}
