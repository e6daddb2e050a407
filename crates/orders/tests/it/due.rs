//! What happens by the clock.

use crate::{
    others::Reaction,
    world::{Code, STEP, UNPAID, World, states},
};
use contracts::Message;
use serde_json::json;
use std::time::Duration;

// O7
#[tokio::test]
async fn an_unpaid_order_expires_once_with_everything_undone() {
    for fold in [true, false] {
        let world = World::folding(fold).await;
        let id = world.ordered(&world.full(), "AWAITING_PAYMENT").await;
        world.pass(UNPAID - Duration::from_secs(2)).await;
        assert_eq!(world.get(id).await["state"], "AWAITING_PAYMENT");
        world.pass(Duration::from_secs(2)).await;
        world.reaches(id, "EXPIRED").await;
        world.pass(UNPAID).await;
        world.pass(UNPAID).await;
        let order = world.get(id).await;
        assert_eq!(states(&order), ["PENDING", "AWAITING_PAYMENT", "EXPIRED"]);
        assert_eq!(order["reason"]["type"], "order-expired");
        let undone = ["points.unhold", "coupon.unhold", "stock.release"];
        assert_eq!(world.story(id).await[3..], [&undone[..], &["order.expired"]].concat());
        world.hear(id, &[&["stock.reserve", "coupon.hold", "points.hold"], &undone[..]].concat()).await;
        world.audit().await;
    }
}

/// The job comes by while the undo of its last pass is still on its way, and again after a restart.
#[tokio::test]
async fn expiry_survives_a_restart_and_repeats() {
    let world = World::folding(false).await;
    let id = world.ordered(&world.full(), "AWAITING_PAYMENT").await;
    world.app.faults.hold("wallet", "points.unhold");
    world.pass(UNPAID).await;
    world.app.job("orders.due").await;
    assert_eq!(world.get(id).await["state"], "AWAITING_PAYMENT");
    let _ = world.pay(id, "p").await.expect_problem(409, "order-expired");
    let world = world.restart().await;
    world.app.job("orders.due").await;
    world.reaches(id, "EXPIRED").await;
    let story = world.story(id).await;
    assert_eq!(story.iter().filter(|kind| **kind == "order.expired").count(), 1);
    assert_eq!(story.iter().filter(|kind| **kind == "stock.release").count(), 1);
    world.audit().await;
}

#[tokio::test]
async fn an_order_whose_payment_was_refused_expires_too() {
    for fold in [true, false] {
        let world = World::folding(fold).await;
        let id = world.ordered(&world.full(), "AWAITING_PAYMENT").await;
        world.meet("payment.request", Reaction::Refuse(Code::InsufficientFunds));
        let _ = world.pay(id, "p").await.expect_problem(409, "insufficient-funds");
        world.pass(UNPAID).await;
        world.reaches(id, "EXPIRED").await;
        assert_eq!(world.story(id).await[5..], ["points.unhold", "coupon.unhold", "stock.release", "order.expired"]);
        world.audit().await;
    }
}

/// A payment under way when the ten minutes end, and refused after that: nobody can pay any more, so the order ends.
#[tokio::test]
async fn a_payment_refused_after_the_deadline_ends_the_order() {
    for fold in [true, false] {
        let world = World::folding(fold).await;
        let id = world.ordered(&world.plain(), "AWAITING_PAYMENT").await;
        world.meet("payment.request", Reaction::Silence);
        let _ = world.post(&format!("/v1/orders/{id}/payments"), "p", &json!({"method": "wallet"})).send().await.expect(202);
        world.pass(UNPAID).await;
        assert_eq!(world.get(id).await["state"], "PAYING");
        let asked = world.messages(id).await.pop().expect("it was asked");
        assert_eq!(asked.kind(), "payment.request");
        world.app.emit("payments", id, crate::others::refused(&asked, Code::PaymentFailed)).await;
        world.reaches(id, "AWAITING_PAYMENT").await;
        let _ = world.pay(id, "p2").await.expect_problem(409, "order-expired");
        world.app.job("orders.due").await;
        world.reaches(id, "EXPIRED").await;
        world.audit().await;
    }
}

// More than one pass takes.
#[tokio::test]
async fn many_orders_expire_in_one_go() {
    let world = World::new().await;
    let body = world.plain();
    let keys: Vec<String> = (0..430).map(|n| format!("k{n}")).collect();
    let made = futures::future::join_all(keys.iter().map(|key| world.order(key, &body))).await;
    assert!(made.iter().all(|made| made.status == 201));
    world.pass(UNPAID).await;
    assert_eq!(world.app.sql_i64("select count(*) from orders_orders where state='EXPIRED'").await, 430);
    let ended = world.app.messages("orders").await.into_iter().filter(|(_, message)| matches!(message, Message::OrderExpired(_))).count();
    assert_eq!(ended, 430);
    world.audit().await;
}

#[tokio::test]
async fn what_is_not_due_is_left_alone() {
    let world = World::new().await;
    let paid = world.ordered(&world.plain_paid(), "PAID").await;
    let gone = world.ordered(&world.plain(), "AWAITING_PAYMENT").await;
    let _ = world.cancel(gone, "c").await.expect(200);
    let before = (world.get(paid).await, world.get(gone).await);
    for time in [STEP, UNPAID, Duration::from_secs(86_400)] {
        world.pass(time).await;
    }
    assert_eq!((world.get(paid).await, world.get(gone).await), before);
    assert_eq!(world.app.sql_i64("select count(*) from orders_orders where due_at is not null").await, 0);
}
