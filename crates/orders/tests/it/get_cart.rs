use crate::world::World;
use serde_json::json;

// K1
#[tokio::test]
async fn the_cart_shows_current_prices() {
    let world = World::new().await;
    assert_eq!(world.cart().await, json!({"version": 0, "items": []}));
    let (on_sale, withdrawn) = (world.sell(1_000), world.sell(2_000));
    world.put(on_sale, 3).await;
    world.put(withdrawn, 1).await;
    world.participants.change_price(on_sale, 1_500);
    world.participants.withdraw(withdrawn);
    let cart = world.cart().await;
    assert_eq!((&cart["version"], cart["items"].as_array().map(Vec::len)), (&json!(2), Some(2)));
    let item = |sku| {
        cart["items"].as_array().and_then(|items| items.iter().find(|item| item["sku"] == json!(sku))).expect("the item is in the cart")
    };
    let (first, second) = (item(on_sale), item(withdrawn));
    assert_eq!((&first["quantity"], &first["product"]["price"], &first["product"]["name"]), (&json!(3), &json!(1_500), &json!("thing 1")));
    assert_eq!((&second["quantity"], &second["product"]), (&json!(1), &json!(null)));
}

#[tokio::test]
async fn only_the_members_own_devices_see_the_cart() {
    let world = World::new().await;
    let sku = world.sell(1_000);
    world.put(sku, 1).await;
    let other_device = world.app.token(world.buyer, kit::auth::Role::Customer);
    let seen = world.app.get("/v1/cart").bearer(&other_device).send().await.expect(200);
    assert_eq!(seen.body["items"][0]["sku"], json!(sku));
    let other = world.app.get("/v1/cart").bearer(&world.stranger_token()).send().await.expect(200);
    assert_eq!(other.body["items"], json!([]));
    let _ = world.app.get("/v1/cart").send().await.expect_problem(401, "unauthenticated");
    let world = world.restart().await;
    assert_eq!(world.quantities(&[sku]).await, [1]);
}
