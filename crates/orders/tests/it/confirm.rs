use crate::world::{World, states};
use contracts::{Message, OrderId};
use kit::ports::new_id;
use testkit::TestResponse;

async fn confirm(world: &World, id: OrderId, token: &str) -> TestResponse {
    world.app.post(format!("/v1/orders/{id}/confirmation")).bearer(token).send().await
}

async fn delivered(world: &World) -> OrderId {
    let id = world.order_in_state(&world.full_paid(), "PAID").await;
    for state in ["PREPARING", "SHIPPING", "DELIVERED"] {
        let _ = world.advance(id, state).await.expect(200);
    }
    id
}

// O10
#[tokio::test]
async fn a_confirmed_purchase_is_final_and_emitted_once() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let id = delivered(&world).await;
        let first = confirm(&world, id, &world.token).await.expect(200);
        assert_eq!(states(&first.body)[5..], ["DELIVERED", "CONFIRMED"]);
        let again = confirm(&world, id, &world.token).await.expect(200);
        assert_eq!(again.body, first.body);
        let amounts: Vec<i64> = world
            .messages(id)
            .await
            .into_iter()
            .filter_map(|message| match message {
                Message::OrderConfirmed(confirmed) if confirmed.member_id == world.buyer => Some(confirmed.cash_paid.0),
                _ => None,
            })
            .collect();
        assert_eq!(amounts, [12_500]);
        let _ = world.advance(id, "DELIVERED").await.expect_problem(409, "illegal-transition");
        let _ = world.cancel(id, "c").await.expect_problem(409, "illegal-transition");
        world.audit().await;
    }
}

#[tokio::test]
async fn only_delivered_orders_can_be_confirmed() {
    let world = World::new().await;
    let id = world.order_in_state(&world.plain_paid(), "PAID").await;
    for state in ["PAID", "PREPARING", "SHIPPING"] {
        if state != "PAID" {
            let _ = world.advance(id, state).await.expect(200);
        }
        let _ = confirm(&world, id, &world.token).await.expect_problem(409, "illegal-transition");
    }
    assert!(!world.emitted_kinds(id).await.contains(&"order.confirmed"));
}

// row 37
#[tokio::test]
async fn only_the_buyer_confirms() {
    let world = World::new().await;
    let id = delivered(&world).await;
    for other in [world.stranger_token(), world.seller_token(), world.operator_token()] {
        let _ = confirm(&world, id, &other).await.expect_problem(404, "not-found");
    }
    let _ = confirm(&world, OrderId(new_id()), &world.token).await.expect_problem(404, "not-found");
    let _ = world.app.post(format!("/v1/orders/{id}/confirmation")).send().await.expect_problem(401, "unauthenticated");
    assert_eq!(world.get(id).await["state"], "DELIVERED");
}
