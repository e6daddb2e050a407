//! `Prefer: wait`: the answer comes when the order comes to rest or the wait ends. A repeat gets the same answer.

use crate::{
    participants_stub::{Reaction, compliant_answer},
    world::{Code, PAST_STEP_DEADLINE, World, header, id_of},
};
use contracts::{Message, OrderId, messages::StepDone};
use futures::future::join_all;
use serde_json::json;
use std::time::Duration;

/// Emits the late answer of a participant to its last request of this kind.
async fn answer_late(world: &World, source: &'static str, kind: &str, id: OrderId) {
    world.wait_for_emitted(kind, 1).await;
    let request = world.messages(id).await.into_iter().rfind(|message| message.kind() == kind).expect("the message was emitted");
    world.app.emit(source, id, compliant_answer(&request).expect("it has an answer")).await;
}

async fn only_order(world: &World) -> OrderId {
    world.app.eventually("select count(*) from orders_orders", 1).await;
    let ids: Vec<(OrderId,)> = world.app.rows("select id from orders_orders").await;
    ids[0].0
}

#[tokio::test]
async fn the_answer_comes_when_the_order_comes_to_rest() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        world.set_reaction("payment.request", Reaction::Silence);
        let body = world.full_paid();
        let late = async {
            let id = only_order(&world).await;
            world.wait_for_state(id, "PAYING").await;
            answer_late(&world, "payments", "payment.request", id).await;
        };
        // Well before the wait of twenty seconds ends: the caller is woken.
        let both = async { tokio::join!(world.order("k", &body), late) };
        let (made, ()) = tokio::time::timeout(Duration::from_secs(15), both).await.expect("the caller is woken");
        let made = made.expect(201);
        assert_eq!(made.body["state"], "PAID");
        let again = world.order("k", &body).await;
        assert_eq!((again.status, &again.bytes, header(&again, "idempotent-replayed")), (201, &made.bytes, Some("true")));
        assert_eq!(world.app.sql_i64("select count(*) from orders_open_answers").await, 0);
    }
}

#[tokio::test]
async fn a_late_refusal_is_a_complete_problem() {
    let world = World::with_fold(false).await;
    world.set_reaction("payment.request", Reaction::Refuse(Code::InsufficientFunds));
    let body = world.plain_paid();
    let refused = world.order("k", &body).await.expect_problem(409, "insufficient-funds");
    assert!(refused.body["trace_id"].is_string() && refused.body["order_id"].is_string(), "{}", refused.body);
    let again = world.order("k", &body).await;
    assert_eq!((again.status, &again.bytes, header(&again, "location")), (409, &refused.bytes, header(&refused, "location")));
}

// decision 4: when the wait ends, the current state becomes the answer, for repeats, too.
#[tokio::test]
async fn the_end_of_the_wait_answers_the_current_state() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        world.set_reaction("stock.reserve", Reaction::Silence);
        let body = world.plain_paid();
        let made = world.post("/v1/orders", "k", &body).header("prefer", "respond-async, wait=1").send().await.expect(201);
        assert_eq!((&made.body["state"], &made.body["saga"]["step"]), (&json!("PENDING"), &json!("stock.reserve")));
        world.advance_clock(PAST_STEP_DEADLINE).await;
        world.wait_for_state(id_of(&made), "FAILED").await;
        let again = world.post("/v1/orders", "k", &body).header("prefer", "respond-async, wait=1").send().await;
        assert_eq!((again.status, &again.bytes, header(&again, "idempotent-replayed")), (201, &made.bytes, Some("true")));
        assert_eq!(world.app.sql_i64("select count(*) from orders_open_answers").await, 0);
    }
}

// row 58
#[tokio::test]
async fn a_repeat_while_the_first_waits_is_refused() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        world.set_reaction("payment.request", Reaction::Silence);
        let body = world.plain_paid();
        let meanwhile = async {
            let id = only_order(&world).await;
            world.wait_for_state(id, "PAYING").await;
            let early = world.order("k", &body).await.expect_problem(409, "idempotency-in-progress");
            assert!(header(&early, "retry-after").is_some());
            answer_late(&world, "payments", "payment.request", id).await;
        };
        let (made, ()) = tokio::join!(world.order("k", &body), meanwhile);
        assert_eq!(made.expect(201).body["state"], "PAID");
        assert_eq!(world.order_count().await, 1);
    }
}

// A caller is answered when its wait ends, and a caller with a longer wait continues to wait.
#[tokio::test]
async fn the_end_of_one_wait_does_not_end_another() {
    let world = World::new().await;
    let id = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
    world.set_reaction("stock.release", Reaction::Silence);
    let path = format!("/v1/orders/{id}/cancellation");
    let cancel = |key: &'static str, wait: &'static str| world.post(&path, key, &json!({})).header("prefer", wait).send();
    let short = async {
        let short = cancel("short", "wait=1").await.expect(202);
        assert_eq!(short.body["state"], "CANCELLING");
        world.app.emit("stock", id, Message::StockReleased(StepDone { order_id: id })).await;
    };
    let both = async { tokio::join!(cancel("long", "wait=20"), short) };
    let (long, ()) = tokio::time::timeout(Duration::from_secs(15), both).await.expect("the caller is woken");
    assert_eq!(long.expect(200).body["state"], "CANCELLED");
}

// All callers that wait for an order get the same answer, with each event once.
#[tokio::test]
async fn all_callers_waiting_for_an_order_get_one_answer() {
    let world = World::new().await;
    let id = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
    world.set_reaction("stock.release", Reaction::Silence);
    let path = format!("/v1/orders/{id}/cancellation");
    let cancel = |key: &'static str| world.post(&path, key, &json!({})).header("prefer", "wait=20").send();
    let undone = async {
        world.app.eventually("select count(*) from orders_open_answers", 2).await;
        world.app.emit("stock", id, Message::StockReleased(StepDone { order_id: id })).await;
    };
    let all = async { tokio::join!(cancel("one"), cancel("two"), undone) };
    let (one, two, ()) = tokio::time::timeout(Duration::from_secs(15), all).await.expect("the callers are woken");
    let shown = world.get(id).await;
    assert_eq!(one.expect(200).body, shown);
    assert_eq!(two.expect(200).body, shown);
}

// The same request many times at once: each is refused as in progress, or gets the answer of the first.
#[tokio::test]
async fn repeats_in_one_batch_wait_for_the_same_order() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        world.set_reaction("payment.request", Reaction::Silence);
        let body = world.plain_paid();
        // Keeps the writer busy, so that the repeats are executed in one batch.
        let other = world.post("/v1/orders", "other", &world.plain()).send();
        let repeats = join_all((0..20).map(|_| world.order("k", &body)));
        let late = async {
            world.app.eventually("select count(*) from orders_orders where state='PAYING'", 1).await;
            let ids: Vec<(OrderId,)> = world.app.rows("select id from orders_orders where state='PAYING'").await;
            answer_late(&world, "payments", "payment.request", ids[0].0).await;
        };
        let all = async { tokio::join!(other, repeats, late) };
        let (_, answers, ()) = tokio::time::timeout(Duration::from_secs(15), all).await.expect("the callers are woken");
        let made = answers.iter().find(|answer| answer.status == 201).expect("one made it");
        for answer in &answers {
            let is_in_progress = (answer.status, answer.problem()) == (409, "idempotency-in-progress");
            assert!(is_in_progress || answer.bytes == made.bytes, "{} {}", answer.status, answer.body);
        }
        assert_eq!(made.body["state"], "PAID");
        assert_eq!(world.order_count().await, 2);
    }
}

// The caller disconnects before its answer: the answer is still stored with the key.
#[tokio::test]
async fn a_disconnected_caller_finds_the_answer_later() {
    let world = World::new().await;
    world.set_reaction("payment.request", Reaction::Silence);
    let body = world.plain_paid();
    let timed_out = tokio::time::timeout(Duration::from_millis(300), world.order("k", &body)).await;
    assert!(timed_out.is_err(), "it had to wait");
    let id = only_order(&world).await;
    world.wait_for_state(id, "PAYING").await;
    let world = world.restart().await;
    let _ = world.order("k", &body).await.expect_problem(409, "idempotency-in-progress");
    answer_late(&world, "payments", "payment.request", id).await;
    world.wait_for_state(id, "PAID").await;
    let found = world.order("k", &body).await.expect(201);
    assert_eq!((id_of(&found), &found.body["state"]), (id, &json!("PAID")));
    assert_eq!(world.order_count().await, 1);
    world.audit().await;
}

#[tokio::test]
async fn an_unreadable_wait_is_ignored() {
    let world = World::new().await;
    world.set_reaction("stock.reserve", Reaction::Silence);
    for (n, prefer) in ["wait=soon", "wait", "wait=-1", "handling=strict", "wait=99999999999999999999"].into_iter().enumerate() {
        let made = world.post("/v1/orders", &format!("k{n}"), &world.plain()).header("prefer", prefer).send().await.expect(201);
        assert_eq!(made.body["state"], "PENDING", "{prefer}");
    }
}
