use crate::world::World;
use contracts::{MemberId, StoreId, messages::StockPolicy};
use kit::{auth::Role, ports::new_id};
use serde_json::{Value, json};
use testkit::TestResponse;

async fn sold(world: &World, store: StoreId, token: &str, query: &str) -> TestResponse {
    world.app.get(format!("/v1/stores/{store}/orders{query}")).bearer(token).send().await
}

fn skus(order: &Value) -> Vec<&Value> {
    order["lines"].as_array().expect("lines").iter().map(|line| &line["sku"]).collect()
}

// O6, row 40
#[tokio::test]
async fn a_seller_sees_only_lines_of_the_own_store() {
    let world = World::new().await;
    let other = MemberId(new_id());
    let other_store = world.participants.open_store(other);
    let (ours, theirs) = (world.sell(5_000), world.participants.sell_in(other_store, 7_000, StockPolicy::ReserveOnOrder));
    let both = json!({"items": [{"sku": ours, "quantity": 1}, {"sku": theirs, "quantity": 2}], "payment": {"method": "wallet"}});
    let shared = world.order_in_state(&both, "PAID").await;
    let only_theirs = json!({"items": [{"sku": theirs, "quantity": 1}], "payment": {"method": "wallet"}});
    let _ = world.order_in_state(&only_theirs, "PAID").await;

    let page = sold(&world, world.store, &world.seller_token(), "").await.expect(200);
    let items = page.body["items"].as_array().expect("a list");
    assert_eq!(items.len(), 1);
    assert_eq!((&items[0]["id"], skus(&items[0])), (&json!(shared), vec![&json!(ours)]));

    let other_token = world.app.token(other, Role::Seller);
    let page = sold(&world, other_store, &other_token, "").await.expect(200);
    let items = page.body["items"].as_array().expect("a list");
    assert_eq!(items.iter().map(skus).collect::<Vec<_>>(), vec![vec![&json!(theirs)]; 2]);

    let _ = sold(&world, world.store, &other_token, "").await.expect_problem(404, "not-found");
    let _ = sold(&world, StoreId(new_id()), &other_token, "").await.expect_problem(404, "not-found");
    let _ = sold(&world, world.store, &world.token, "").await.expect_problem(403, "forbidden");
    let _ = sold(&world, world.store, &world.operator_token(), "").await.expect(200);
}

#[tokio::test]
async fn pages_list_each_order_once() {
    let world = World::new().await;
    let mut all = Vec::new();
    for _ in 0..5 {
        // An order with two lines is listed once.
        let items = json!([{"sku": world.sell(1_000), "quantity": 1}, {"sku": world.sell(2_000), "quantity": 1}]);
        all.push(json!(world.order_in_state(&json!({"items": items}), "AWAITING_PAYMENT").await));
    }
    all.reverse();
    let seller = world.seller_token();
    let (mut found, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = sold(&world, world.store, &seller, &query).await.expect(200);
        found.extend(page.body["items"].as_array().expect("a list").iter().map(|order| order["id"].clone()));
        match page.body["next_cursor"].as_str() {
            Some(next) => query = format!("?limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, all);
    let refused = sold(&world, world.store, &seller, "?limit=0").await;
    let _ = refused.expect_problem(422, "invalid-parameter");
}

// H1
#[tokio::test]
async fn a_large_page_takes_no_connection_from_other_reads() {
    let world = World::new().await;
    let (seller, db) = (world.seller_token(), world.app.kit_of("orders").db.clone());
    let held = (db.heavy_reader().await.expect("free"), db.heavy_reader().await.expect("free"));
    let request = world.app.get(format!("/v1/stores/{}/orders", world.store)).bearer(&seller).once();
    let refused = request.send().await.expect_problem(503, "unavailable");
    assert_eq!(refused.headers["retry-after"], "1");
    let _ = world.app.get("/v1/orders").bearer(&world.token).send().await.expect(200);
    drop(held);
    let _ = sold(&world, world.store, &seller, "").await.expect(200);
}
