//! `stock.get`

use crate::world::{World, order};
use contracts::{MemberId, Sku};
use kit::{auth::Role, ports::new_id};
use serde_json::json;

// S3
#[tokio::test]
async fn the_seller_and_operators_see_the_quantities() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let of = order();
    world.send(of, vec![world.reserve(of, &[(sku, 2)])]).await;
    for token in [world.seller(), world.operator()] {
        let body = world.app.get(format!("/v1/stock/{sku}")).bearer(&token).send().await.expect(200).body;
        assert_eq!(body, json!({"sku": sku, "on_hand": 5, "reserved": 2, "available": 3, "sold": 0}));
    }
}

// rows 21, 23, 40
#[tokio::test]
async fn the_quantities_are_hidden_from_all_others() {
    let world = World::new().await;
    let sku = world.sku(5).await;
    let path = format!("/v1/stock/{sku}");
    let _ = world.app.get(&path).send().await.expect_problem(401, "unauthenticated");
    let customer = world.app.token(MemberId(new_id()), Role::Customer);
    let _ = world.app.get(&path).bearer(&customer).send().await.expect_problem(403, "forbidden");
    let stranger = world.app.token(MemberId(new_id()), Role::Seller);
    let _ = world.app.get(&path).bearer(&stranger).send().await.expect_problem(404, "not-found");
    for unknown in [Sku(new_id()).to_string(), "1".into(), "%2e%2e%2fetc".into(), "' or 1=1--".replace(' ', "%20")] {
        let _ = world.app.get(format!("/v1/stock/{unknown}")).bearer(&world.operator()).send().await.expect_problem(404, "not-found");
    }
}
