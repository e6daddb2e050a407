//! `catalog.get`

use crate::world::{World, id, skus};
use contracts::ProductId;
use kit::ports::new_id;
use serde_json::json;

// P1 P5 P13
#[tokio::test]
async fn a_product_has_its_options_and_quantities() {
    let world = World::new().await;
    let body = json!({"name": "Merlot \"M\"", "description": "red\ndry", "price": 20_000,
        "options": [{"name": "750 ml", "stock": 12}, {"name": "375 ml", "price_delta": -8_000, "stock": 3}]});
    let created = world.create(&body).await.expect(201).body;
    let (of, options) = (id(&created), skus(&created));
    let answer = world.app.get(format!("/v1/products/{of}")).send().await.expect(200);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(
        answer.body,
        json!({
            "id": of, "name": "Merlot \"M\"", "store": {"id": world.store_id, "name": "Cellar \"9\""}, "price": 20_000,
            "lowest_price": 12_000, "lowest_price_reason": "option", "available": 15,
            "options": [
                {"sku": options[0], "name": "750 ml", "price": 20_000, "available": 12},
                {"sku": options[1], "name": "375 ml", "price": 12_000, "available": 3},
            ],
            "description": "red\ndry", "state": "on_sale", "stock_policy": "reserve_on_order", "max_unpaid_per_member": null,
            "created_at": world.app.clock_now(), "version": 1,
        })
    );
    world.set_available(options[0], 0);
    let detail = world.detail(of).await;
    assert_eq!((&detail["available"], &detail["options"][0]["available"]), (&json!(3), &json!(0)), "quantities are never cached");
}

// P5
#[tokio::test]
async fn the_lowest_price_names_its_source() {
    let world = World::new().await;
    let (plain, _) = world.product("Rose", 1_000, 1).await;
    let dear =
        world.create(&json!({"name": "Vase", "price": 100, "options": [{"name": "glass", "price_delta": 50}]})).await.expect(201).body;
    let (plain, dear) = (world.detail(plain).await, world.detail(id(&dear)).await);
    assert_eq!((&plain["lowest_price"], &plain["lowest_price_reason"]), (&json!(1_000), &json!("list_price")));
    assert_eq!((&dear["lowest_price"], &dear["lowest_price_reason"]), (&json!(150), &json!("option")));
}

// P1 row 21
#[tokio::test]
async fn an_unknown_product_is_not_found() {
    let world = World::new().await;
    for unknown in [ProductId(new_id()).to_string(), "1".into(), "..%2f..%2fetc".into(), "%27%20or%201=1--".into()] {
        let _ = world.app.get(format!("/v1/products/{unknown}")).send().await.expect_problem(404, "not-found");
    }
}

// Z1: a product is shown without its store name while the stores service is unavailable.
#[tokio::test]
async fn products_are_shown_without_an_unknown_store_name() {
    let world = World::new().await;
    world.set_stores_unavailable(true);
    let (first, _) = world.product("Rose", 1_000, 5).await;
    let shown = world.detail(first).await;
    assert_eq!((&shown["name"], &shown["store"]["name"], &shown["available"]), (&json!("Rose"), &json!(""), &json!(5)));
    assert_eq!(world.list("").await["items"][0]["name"], "Rose");
    world.set_stores_unavailable(false);
    let (second, _) = world.product("Iris", 1_000, 5).await;
    assert_ne!(world.detail(second).await["store"]["name"], "", "the missing name is not cached");
}
