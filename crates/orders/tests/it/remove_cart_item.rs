use crate::world::World;
use serde_json::json;

// K2
#[tokio::test]
async fn removing_twice_equals_removing_once() {
    let world = World::new().await;
    let (a, b) = (world.sell(1_000), world.sell(1_000));
    world.put(a, 5).await;
    world.put(b, 1).await;
    let remove = |token: String| world.app.delete(format!("/v1/cart/items/{a}")).bearer(&token).send();
    // Removing from another member's cart changes only that cart.
    assert_eq!(remove(world.stranger_token()).await.expect(200).body["items"], json!([]));
    assert_eq!(world.quantities(&[a, b]).await, [5, 1]);
    for _ in 0..2 {
        let left = remove(world.token.clone()).await.expect(200);
        assert_eq!(left.body, json!({"version": 3, "items": [{"sku": b, "quantity": 1}]}));
    }
    let _ = world.app.delete(format!("/v1/cart/items/{a}")).send().await.expect_problem(401, "unauthenticated");
}
