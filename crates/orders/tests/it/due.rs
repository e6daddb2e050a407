//! The job `orders.due`: expiry of unpaid orders.

use crate::{
    participants_stub::{ParticipantsStub, Reaction},
    world::{Code, PAST_STEP_DEADLINE, PAST_UNPAID_TIMEOUT, World, settings, states},
};
use contracts::{MemberId, Message};
use kit::{auth::Role, ports::new_id};
use orders::{Orders, SagaMode};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use testkit::App;

// O7
#[tokio::test]
async fn an_unpaid_order_expires_once_with_everything_undone() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let id = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
        world.advance_clock(PAST_UNPAID_TIMEOUT - Duration::from_secs(2)).await;
        assert_eq!(world.get(id).await["state"], "AWAITING_PAYMENT");
        world.advance_clock(Duration::from_secs(2)).await;
        world.wait_for_state(id, "EXPIRED").await;
        world.advance_clock(PAST_UNPAID_TIMEOUT).await;
        world.advance_clock(PAST_UNPAID_TIMEOUT).await;
        let order = world.get(id).await;
        assert_eq!(states(&order), ["PENDING", "AWAITING_PAYMENT", "EXPIRED"]);
        assert_eq!(order["reason"]["type"], "order-expired");
        let undone = ["points.unhold", "coupon.unhold", "stock.release"];
        assert_eq!(world.emitted_kinds(id).await[3..], [&undone[..], &["order.expired"]].concat());
        world.expect_received(id, &[&["stock.reserve", "coupon.hold", "points.hold"], &undone[..]].concat()).await;
        world.audit().await;
    }
}

// The job runs while the undo of its last pass is still running, and again after a restart.
#[tokio::test]
async fn expiry_survives_a_restart_and_repeats() {
    let world = World::with_fold(false).await;
    let id = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
    world.app.faults.hold("wallet", "points.unhold");
    world.advance_clock(PAST_UNPAID_TIMEOUT).await;
    world.app.job("orders.due").await;
    assert_eq!(world.get(id).await["state"], "AWAITING_PAYMENT");
    let _ = world.pay(id, "p").await.expect_problem(409, "order-expired");
    let world = world.restart().await;
    world.app.job("orders.due").await;
    world.wait_for_state(id, "EXPIRED").await;
    let kinds = world.emitted_kinds(id).await;
    assert_eq!(kinds.iter().filter(|kind| **kind == "order.expired").count(), 1);
    assert_eq!(kinds.iter().filter(|kind| **kind == "stock.release").count(), 1);
    world.audit().await;
}

#[tokio::test]
async fn an_order_whose_payment_was_refused_expires_too() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let id = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
        world.set_reaction("payment.request", Reaction::Refuse(Code::InsufficientFunds));
        let _ = world.pay(id, "p").await.expect_problem(409, "insufficient-funds");
        world.advance_clock(PAST_UNPAID_TIMEOUT).await;
        world.wait_for_state(id, "EXPIRED").await;
        assert_eq!(world.emitted_kinds(id).await[5..], ["points.unhold", "coupon.unhold", "stock.release", "order.expired"]);
        world.audit().await;
    }
}

// A payment is running when the ten minutes end, and is refused after that. The order can no longer be paid, so it ends.
#[tokio::test]
async fn a_payment_refused_after_the_deadline_ends_the_order() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let id = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
        world.set_reaction("payment.request", Reaction::Silence);
        let _ = world.post(&format!("/v1/orders/{id}/payments"), "p", &json!({"method": "wallet"})).send().await.expect(202);
        world.advance_clock(PAST_UNPAID_TIMEOUT).await;
        assert_eq!(world.get(id).await["state"], "PAYING");
        let request = world.messages(id).await.pop().expect("a payment was requested");
        assert_eq!(request.kind(), "payment.request");
        world.app.emit("payments", id, crate::participants_stub::refusing_answer(&request, Code::PaymentFailed)).await;
        world.wait_for_state(id, "AWAITING_PAYMENT").await;
        let _ = world.pay(id, "p2").await.expect_problem(409, "order-expired");
        world.app.job("orders.due").await;
        world.wait_for_state(id, "EXPIRED").await;
        world.audit().await;
    }
}

// More orders than one pass handles.
#[tokio::test]
async fn more_orders_than_one_pass_expire_in_one_run() {
    let world = World::new().await;
    let body = world.plain();
    let keys: Vec<String> = (0..430).map(|n| format!("k{n}")).collect();
    let made = futures::future::join_all(keys.iter().map(|key| world.order(key, &body))).await;
    assert!(made.iter().all(|made| made.status == 201));
    world.advance_clock(PAST_UNPAID_TIMEOUT).await;
    assert_eq!(world.app.sql_i64("select count(*) from orders_orders where state='EXPIRED'").await, 430);
    let ended = world.app.messages("orders").await.into_iter().filter(|(_, message)| matches!(message, Message::OrderExpired(_))).count();
    assert_eq!(ended, 430);
    world.audit().await;
}

#[tokio::test]
async fn orders_that_are_not_due_stay_unchanged() {
    let world = World::new().await;
    let paid = world.order_in_state(&world.plain_paid(), "PAID").await;
    let cancelled = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
    let _ = world.cancel(cancelled, "c").await.expect(200);
    let before = (world.get(paid).await, world.get(cancelled).await);
    for time in [PAST_STEP_DEADLINE, PAST_UNPAID_TIMEOUT, Duration::from_secs(86_400)] {
        world.advance_clock(time).await;
    }
    assert_eq!((world.get(paid).await, world.get(cancelled).await), before);
    assert_eq!(world.app.sql_i64("select count(*) from orders_orders where due_at is not null").await, 0);
}

/// Starts the world on PostgreSQL, also if the other tests run on SQLite.
async fn world_on_postgres() -> World {
    let participants = ParticipantsStub::default();
    let services = |kit: &kit::Kit| {
        let mut services = participants.services(kit);
        services.push(Arc::new(Orders::new(kit.clone(), settings(SagaMode::Orchestrated))));
        services
    };
    let app = App::builder().on_postgres().start(services).await;
    let (buyer, seller) = (MemberId(new_id()), MemberId(new_id()));
    let (token, store) = (app.token(buyer, Role::Customer), participants.open_store(seller));
    World { app, participants, buyer, token, store, seller, saga: SagaMode::Orchestrated }
}

// Finding 9: an operator's transaction locks one order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_order_delays_no_other() {
    let world = world_on_postgres().await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await);
    }
    let mut operator = world.app.kit().db.open_writer().await.expect("a connection");
    operator.begin().await.expect("the transaction begins");
    operator.batch(&format!("select state from orders_orders where id='{}' for update", ids[2].0)).await.expect("the row is free");
    world.advance_clock(PAST_UNPAID_TIMEOUT).await;
    world.app.eventually("select count(*) from orders_orders where state='EXPIRED'", 5).await;
    assert_eq!(world.get(ids[2]).await["state"], "AWAITING_PAYMENT");
    operator.rollback().await.expect("the transaction ends");
    world.app.job("orders.due").await;
    world.wait_for_state(ids[2], "EXPIRED").await;
    world.audit().await;
}

// Finding 18: an unanswered undo is repeated ever less often.
#[tokio::test]
async fn an_unanswered_undo_is_repeated_less_and_less() {
    for mode in World::run_modes() {
        let world = World::in_mode(mode).await;
        let id = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
        world.set_reaction("stock.release", Reaction::Silence);
        let _ = world.post(&format!("/v1/orders/{id}/cancellation"), "c", &json!({})).send().await.expect(202);
        let undos = async || {
            let sent = world.emitted_kinds(id).await;
            sent.iter().filter(|kind| ["stock.release", "orders.slip"].contains(kind)).count()
        };
        let first = undos().await;
        // After 30 seconds, then 1, 2, 4, 8, 10 and 10 minutes.
        for (n, seconds) in [30, 60, 120, 240, 480, 600, 600].into_iter().enumerate() {
            world.advance_clock(Duration::from_secs(seconds - 1)).await;
            assert_eq!(undos().await, first + n, "{seconds}");
            world.advance_clock(Duration::from_secs(1)).await;
            assert_eq!(undos().await, first + n + 1, "{seconds}");
        }
        world.set_reaction("stock.release", Reaction::Comply);
        world.advance_clock(Duration::from_secs(600)).await;
        world.wait_for_state(id, "CANCELLED").await;
        world.audit().await;
    }
}
