use crate::{
    participants_stub::Reaction,
    world::{World, header, states},
};
use contracts::{MemberId, OrderId, messages::StockPolicy};
use kit::{auth::Role, ports::new_id};
use serde_json::json;
use testkit::TestResponse;

async fn advance_as(world: &World, token: &str, id: OrderId, state: &str) -> TestResponse {
    world.app.post(format!("/v1/orders/{id}/fulfilment")).bearer(token).json(&json!({"state": state})).send().await
}

// O5, D1: forward only, one state at a time.
#[tokio::test]
async fn a_paid_order_moves_forward_one_state_at_a_time() {
    let world = World::new().await;
    let id = world.order_in_state(&world.plain_paid(), "PAID").await;
    for wrong in ["SHIPPING", "DELIVERED", "CONFIRMED", "CANCELLED", "EXPIRED", "AWAITING_PAYMENT"] {
        let _ = world.advance(id, wrong).await.expect_problem(409, "illegal-transition");
    }
    for next in ["PREPARING", "SHIPPING", "DELIVERED"] {
        let moved = world.advance(id, next).await.expect(200);
        assert_eq!(moved.body["state"], next);
        let again = world.advance(id, next).await.expect(200);
        assert_eq!(again.body["states"], moved.body["states"]);
    }
    let _ = world.advance(id, "PREPARING").await.expect_problem(409, "illegal-transition");
    assert_eq!(states(&world.get(id).await), ["PENDING", "PAYING", "PAID", "PREPARING", "SHIPPING", "DELIVERED"]);
    let _ = world.advance(id, "LOST").await.expect_problem(422, "invalid-field");
    world.audit().await;
}

#[tokio::test]
async fn an_unpaid_order_does_not_advance() {
    let world = World::new().await;
    let waiting = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
    let cancelled = world.order_in_state(&world.plain_paid(), "PAID").await;
    let _ = world.cancel(cancelled, "c").await.expect(200);
    world.set_reaction("payment.request", Reaction::Silence);
    let paying = world.start_order(&world.plain_paid()).await;
    for id in [waiting, cancelled, paying] {
        // N3: also the state that the order is in.
        for state in ["PREPARING", "SHIPPING", "DELIVERED", "PAID", "CANCELLED", "AWAITING_PAYMENT", "PAYING"] {
            let _ = world.advance(id, state).await.expect_problem(409, "illegal-transition");
        }
    }
}

// rows 39 and 40
#[tokio::test]
async fn only_the_seller_of_all_lines_or_an_operator_advances_it() {
    let world = World::new().await;
    let other = MemberId(new_id());
    let other_store = world.participants.open_store(other);
    let other_token = world.app.token(other, Role::Seller);
    let theirs = world.participants.sell_in(other_store, 7_000, StockPolicy::ReserveOnOrder);
    let ours = world.order_in_state(&world.plain_paid(), "PAID").await;
    let body = json!({"items": [{"sku": world.sell(1), "quantity": 1}, {"sku": theirs, "quantity": 1}], "payment": {"method": "wallet"}});
    let mixed = world.order_in_state(&body, "PAID").await;

    let _ = advance_as(&world, &world.token, ours, "PREPARING").await.expect_problem(403, "forbidden");
    let _ = advance_as(&world, &other_token, ours, "PREPARING").await.expect_problem(404, "not-found");
    for seller in [&other_token, &world.seller_token()] {
        let _ = advance_as(&world, seller, mixed, "PREPARING").await.expect_problem(404, "not-found");
    }
    let _ = advance_as(&world, &world.seller_token(), OrderId(new_id()), "PREPARING").await.expect_problem(404, "not-found");
    let _ = advance_as(&world, &world.seller_token(), ours, "PREPARING").await.expect(200);
    let _ = advance_as(&world, &world.operator_token(), mixed, "PREPARING").await.expect(200);
}

#[tokio::test]
async fn a_repeat_with_its_key_gets_the_first_answer() {
    let world = World::new().await;
    let id = world.order_in_state(&world.plain_paid(), "PAID").await;
    let path = format!("/v1/orders/{id}/fulfilment");
    let send = || world.app.post(&path).bearer(&world.operator_token()).json(&json!({"state": "PREPARING"}));
    let token = world.operator_token();
    let keyed = || world.app.post(&path).bearer(&token).key("k").json(&json!({"state": "PREPARING"})).send();
    let first = keyed().await.expect(200);
    let _ = world.advance(id, "SHIPPING").await.expect(200);
    let again = keyed().await.expect(200);
    assert_eq!((&again.bytes, header(&again, "idempotent-replayed")), (&first.bytes, Some("true")));
    let _ = send().send().await.expect_problem(409, "illegal-transition");
}
