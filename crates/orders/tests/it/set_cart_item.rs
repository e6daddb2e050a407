use crate::world::World;
use kit::ports::new_id;
use serde_json::json;

// K2
#[tokio::test]
async fn setting_replaces_and_zero_or_less_removes() {
    let world = World::new().await;
    let sku = world.sell(1_000);
    assert_eq!(world.put(sku, 5).await, json!({"version": 1, "items": [{"sku": sku, "quantity": 5}]}));
    assert_eq!(world.put(sku, 2).await["items"][0]["quantity"], 2);
    // Nothing changes, so the version that the buyer saw stays valid.
    assert_eq!(world.put(sku, 2).await["version"], 2);
    assert_eq!(world.put(sku, 0).await, json!({"version": 3, "items": []}));
    world.put(sku, 1).await;
    assert_eq!(world.put(sku, -7).await["items"], json!([]));
    assert_eq!(world.app.sql_i64("select count(*) from orders_cart_items").await, 0);
}

#[tokio::test]
async fn bad_quantities_and_items_are_refused() {
    let world = World::new().await;
    let path = format!("/v1/cart/items/{}", new_id());
    for wrong in [json!({"quantity": 1_001}), json!({"quantity": "2"}), json!({"quantity": 1.5})] {
        let _ = world.app.put(&path).bearer(&world.token).json(&wrong).send().await.expect_problem(422, "invalid-field");
    }
    let extra = json!({"quantity": 1, "price": 1});
    let _ = world.app.put(&path).bearer(&world.token).json(&extra).send().await.expect_problem(422, "unknown-field");
    let one = json!({"quantity": 1});
    let _ = world.app.put("/v1/cart/items/7").bearer(&world.token).json(&one).send().await.expect_problem(404, "not-found");
    let _ = world.app.put(&path).json(&one).send().await.expect_problem(401, "unauthenticated");
    assert_eq!(world.cart().await["version"], 0);
}
