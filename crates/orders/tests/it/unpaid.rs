//! Limits on orders without payment, and the pause after one that the buyer let go.

use crate::{
    participants_stub::ParticipantsStub,
    world::{PAST_UNPAID_TIMEOUT, World, with_field},
};
use contracts::{MemberId, Sku};
use futures::future::join_all;
use kit::{auth::Role, ports::new_id};
use orders::{Orders, OrdersSettings, SagaMode};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use testkit::{App, TestResponse};

/// Parallel requests of one member.
const CLICKS: usize = 64;

fn order_of(sku: Sku, quantity: u32) -> Value {
    json!({"items": [{"sku": sku, "quantity": quantity}]})
}

fn paid(body: Value) -> Value {
    with_field(body, "payment", json!({"method": "wallet"}))
}

fn count(answers: &[TestResponse], status: u16, problem: &str) -> usize {
    answers.iter().filter(|answer| (answer.status, answer.problem()) == (status, problem)).count()
}

/// Sends each order with a key of its own, in turn to each of these processes.
async fn click(worlds: &[&World], bodies: &[Value]) -> Vec<TestResponse> {
    let keys: Vec<String> = bodies.iter().map(|_| new_id().to_string()).collect();
    let requests = bodies.iter().zip(&keys).zip(worlds.iter().cycle());
    join_all(requests.map(|((body, key), world)| world.order(key, body))).await
}

// H4: with the policy `reserve_on_order`, a member without money holds no more than the limits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_orders_stop_exactly_at_the_limits() {
    for &fold in World::fold_settings() {
        let world = World::with_limits(fold).await;
        let sku = world.sell(5_000);
        let answers = click(&[&world], &vec![order_of(sku, 3); CLICKS]).await;
        assert_eq!((count(&answers, 201, ""), count(&answers, 409, "unpaid-limit")), (3, CLICKS - 3));
        let others: Vec<Value> = (0..CLICKS).map(|_| order_of(world.sell(1_000), 1)).collect();
        let answers = click(&[&world], &others).await;
        assert_eq!((count(&answers, 201, ""), count(&answers, 409, "unpaid-limit")), (7, CLICKS - 7));
        assert_eq!(world.order_count().await, 10);
        // Payment in the same call has no limit, and a payment makes room.
        let _ = world.order("paid", &paid(order_of(sku, 100))).await.expect(201);
        let id = crate::world::id_of(answers.iter().find(|answer| answer.status == 201).expect("seven were placed"));
        let _ = world.pay(id, "p").await.expect(200);
        let _ = world.order("room", &order_of(world.sell(1_000), 1)).await.expect(201);
        let _ = world.order("full", &order_of(world.sell(1_000), 1)).await.expect_problem(409, "unpaid-limit");
        world.audit().await;
    }
}

// H4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limits_hold_over_two_processes() {
    let participants = ParticipantsStub::default();
    let services = |kit: &kit::Kit| {
        let mut services = participants.services(kit);
        services.push(Arc::new(Orders::new(kit.clone(), OrdersSettings::default())));
        services
    };
    let app = App::builder().on_postgres().partitions(4).start(services).await;
    let (seller, saga) = (MemberId(new_id()), SagaMode::Orchestrated);
    let store = participants.open_store(seller);
    let second = app.start_another_process(services).await;
    let (buyer, other_buyer) = (MemberId(new_id()), MemberId(new_id()));
    let token = app.token(buyer, Role::Customer);
    let other = World { app: second, participants: participants.clone(), buyer, token: token.clone(), store, seller, saga };
    let mut one = World { app, participants: participants.clone(), buyer, token, store, seller, saga };
    // The first orders of a member race for its row.
    let bodies: Vec<Value> = (0..CLICKS).map(|_| order_of(one.sell(1_000), 1)).collect();
    let answers = click(&[&one, &other], &bodies).await;
    assert_eq!((count(&answers, 201, ""), count(&answers, 409, "unpaid-limit")), (10, CLICKS - 10));
    one.token = one.app.token(other_buyer, Role::Customer);
    let _ = one.order("another member", &one.plain()).await.expect(201);
    one.audit().await;
}

// H4
#[tokio::test]
async fn a_product_has_a_limit_of_its_own() {
    let world = World::with_limits(true).await;
    let (one_each, paid_only, many, taken_late) =
        (world.sell(1_000), world.sell(1_000), world.sell(1_000), world.sell_deduct_on_payment(1_000));
    for (sku, most) in [(one_each, 1), (paid_only, 0), (many, 500), (taken_late, 0)] {
        world.participants.limit_unpaid(sku, most);
    }
    let refused = world.order("k1", &order_of(one_each, 2)).await.expect_problem(409, "unpaid-limit");
    assert!(refused.body["detail"].as_str().is_some_and(|detail| detail.starts_with("At most 1 of “thing 1”")), "{}", refused.body);
    let _ = world.order("k2", &order_of(paid_only, 1)).await.expect_problem(409, "unpaid-limit");
    let _ = world.order("k3", &paid(order_of(paid_only, 1))).await.expect(201);
    let _ = world.order("k4", &order_of(one_each, 1)).await.expect(201);
    let _ = world.order("k5", &order_of(many, 500)).await.expect(201);
    // Nothing of it is reserved before the payment.
    let _ = world.order("k6", &order_of(taken_late, 1_000)).await.expect(201);
    assert_eq!(world.order_count().await, 4);
}

// H4: released units are not taken back at once, and each further lapse pauses longer.
#[tokio::test]
async fn a_lapse_pauses_orders_without_payment() {
    for &fold in World::fold_settings() {
        let mut world = World::with_limits(fold).await;
        let sku = world.sell(5_000);
        for pause in [60, 120] {
            world.token = world.app.token(world.buyer, Role::Customer);
            let id = world.order_in_state(&order_of(sku, 10), "AWAITING_PAYMENT").await;
            world.advance_clock(PAST_UNPAID_TIMEOUT).await;
            world.wait_for_state(id, "EXPIRED").await;
            world.app.clock.advance(Duration::from_secs(pause - 1));
            let refused = world.order(&format!("a{pause}"), &order_of(sku, 1)).await.expect_problem(409, "unpaid-paused");
            assert!(refused.body["detail"].as_str().is_some_and(|detail| detail.contains("2026-11-20T00:")), "{}", refused.body);
            let _ = world.order(&format!("b{pause}"), &paid(order_of(sku, 1))).await.expect(201);
            world.app.clock.advance(Duration::from_secs(1));
        }
        world.token = world.app.token(world.buyer, Role::Customer);
        let id = world.order_in_state(&order_of(sku, 1), "AWAITING_PAYMENT").await;
        let _ = world.cancel(id, "c").await.expect(200);
        let _ = world.order("again", &order_of(sku, 1)).await.expect_problem(409, "unpaid-paused");
        assert_eq!(world.app.sql_i64("select lapses from orders_unpaid").await, 3);
        world.audit().await;
    }
}

// H4: only the buyer's own decision counts.
#[tokio::test]
async fn an_order_ended_by_others_is_no_lapse() {
    let world = World::with_limits(true).await;
    let id = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
    let cancellation = world.app.post(format!("/v1/orders/{id}/cancellation")).bearer(&world.operator_token());
    let _ = cancellation.key("c").json(&json!({})).header("prefer", "wait=20").send().await.expect(200);
    let paid_order = world.order_in_state(&world.plain_paid(), "PAID").await;
    let _ = world.cancel(paid_order, "p").await.expect(200);
    let _ = world.order("again", &world.plain()).await.expect(201);
}

// H5: an order that ended unpaid a week ago keeps its sums and states only.
#[tokio::test]
async fn unpaid_orders_are_compacted_after_a_week() {
    let mut world = World::new().await;
    let expired = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
    let paid = world.order_in_state(&world.full_paid(), "PAID").await;
    let cancelled = world.order_in_state(&world.full_paid(), "PAID").await;
    let _ = world.cancel(cancelled, "c").await.expect(200);
    world.advance_clock(PAST_UNPAID_TIMEOUT).await;
    let before = world.get(expired).await;
    world.app.job("orders.compact").await;
    assert_eq!(world.get(expired).await, before);
    world.app.clock.advance(Duration::from_secs(7 * 24 * 3600 + 1));
    world.app.job("orders.compact").await;
    world.app.job("orders.compact").await;
    let after = world.get(expired).await;
    assert_eq!((&after["lines"], &after["coupons"], &after["saga"]["history"]), (&json!([]), &json!([]), &json!([])));
    assert_eq!((&after["states"], &after["total"]), (&before["states"], &before["total"]));
    for kept in [paid, cancelled] {
        assert_eq!(world.get(kept).await["lines"].as_array().map(Vec::len), Some(2));
    }
    assert_eq!(world.app.sql_i64("select count(*) from orders_lines").await, 4);
    let checks = kit_checks(&world).await;
    assert_eq!(checks, Vec::<String>::new());
    world.token = world.app.token(world.buyer, Role::Customer);
    let _ = world.order("new", &world.plain()).await.expect(201);
}

/// Violated invariants of the orders service.
async fn kit_checks(world: &World) -> Vec<String> {
    let mut violated = Vec::new();
    for check in <Orders as kit::engine::Service>::checks() {
        let sql = check.sql.replace(":now", &world.app.clock_now().0.to_string());
        if world.app.sql_i64(&format!("select count(*) from ({sql}) broken")).await != 0 {
            violated.push(check.id.to_owned());
        }
    }
    violated
}
