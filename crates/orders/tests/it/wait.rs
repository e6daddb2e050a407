//! `Prefer: wait`: the answer comes when the order rests, or when the wait is over; a repeat gets the same.

use crate::{
    others::{Reaction, done},
    world::{Code, STEP, World, header, id_of},
};
use contracts::{Message, OrderId, messages::StepDone};
use futures::future::join_all;
use serde_json::json;
use std::time::Duration;

/// The participant answers what it was last asked about an order, late.
async fn answer_late(world: &World, source: &'static str, kind: &str, id: OrderId) {
    world.said(kind, 1).await;
    let asked = world.messages(id).await.into_iter().rfind(|message| message.kind() == kind).expect("it was asked");
    world.app.emit(source, id, done(&asked).expect("it has an answer")).await;
}

async fn only_order(world: &World) -> OrderId {
    world.app.eventually("select count(*) from orders_orders", 1).await;
    let ids: Vec<(OrderId,)> = world.app.rows("select id from orders_orders").await;
    ids[0].0
}

#[tokio::test]
async fn the_answer_comes_when_the_order_rests() {
    for fold in [true, false] {
        let world = World::folding(fold).await;
        world.meet("payment.request", Reaction::Silence);
        let body = world.full_paid();
        let late = async {
            let id = only_order(&world).await;
            world.reaches(id, "PAYING").await;
            answer_late(&world, "payments", "payment.request", id).await;
        };
        // Well before the twenty seconds are over: it is woken.
        let both = async { tokio::join!(world.order("k", &body), late) };
        let (made, ()) = tokio::time::timeout(Duration::from_secs(15), both).await.expect("it is woken");
        let made = made.expect(201);
        assert_eq!(made.body["state"], "PAID");
        let again = world.order("k", &body).await;
        assert_eq!((again.status, &again.bytes, header(&again, "idempotent-replayed")), (201, &made.bytes, Some("true")));
        assert_eq!(world.app.sql_i64("select count(*) from orders_open_answers").await, 0);
    }
}

#[tokio::test]
async fn a_refusal_that_comes_later_is_a_whole_problem_too() {
    let world = World::folding(false).await;
    world.meet("payment.request", Reaction::Refuse(Code::InsufficientFunds));
    let body = world.plain_paid();
    let refused = world.order("k", &body).await.expect_problem(409, "insufficient-funds");
    assert!(refused.body["trace_id"].is_string() && refused.body["order_id"].is_string(), "{}", refused.body);
    let again = world.order("k", &body).await;
    assert_eq!((again.status, &again.bytes, header(&again, "location")), (409, &refused.bytes, header(&refused, "location")));
}

// decision 4: when the wait is over, the state then is the answer, for repeats too.
#[tokio::test]
async fn a_wait_that_is_over_gives_the_state_then() {
    for fold in [true, false] {
        let world = World::folding(fold).await;
        world.meet("stock.reserve", Reaction::Silence);
        let body = world.plain_paid();
        let made = world.post("/v1/orders", "k", &body).header("prefer", "respond-async, wait=1").send().await.expect(201);
        assert_eq!((&made.body["state"], &made.body["saga"]["step"]), (&json!("PENDING"), &json!("stock.reserve")));
        world.pass(STEP).await;
        world.reaches(id_of(&made), "FAILED").await;
        let again = world.post("/v1/orders", "k", &body).header("prefer", "respond-async, wait=1").send().await;
        assert_eq!((again.status, &again.bytes, header(&again, "idempotent-replayed")), (201, &made.bytes, Some("true")));
        assert_eq!(world.app.sql_i64("select count(*) from orders_open_answers").await, 0);
    }
}

// row 58
#[tokio::test]
async fn a_repeat_while_the_first_waits_is_told_so() {
    for fold in [true, false] {
        let world = World::folding(fold).await;
        world.meet("payment.request", Reaction::Silence);
        let body = world.plain_paid();
        let meanwhile = async {
            let id = only_order(&world).await;
            world.reaches(id, "PAYING").await;
            let early = world.order("k", &body).await.expect_problem(409, "idempotency-in-progress");
            assert!(header(&early, "retry-after").is_some());
            answer_late(&world, "payments", "payment.request", id).await;
        };
        let (made, ()) = tokio::join!(world.order("k", &body), meanwhile);
        assert_eq!(made.expect(201).body["state"], "PAID");
        assert_eq!(world.count().await, 1);
    }
}

/// Whose wait is over is answered; who wanted to wait longer goes on waiting.
#[tokio::test]
async fn one_wait_that_is_over_does_not_end_another() {
    let world = World::new().await;
    let id = world.ordered(&world.plain(), "AWAITING_PAYMENT").await;
    world.meet("stock.release", Reaction::Silence);
    let path = format!("/v1/orders/{id}/cancellation");
    let cancel = |key: &'static str, wait: &'static str| world.post(&path, key, &json!({})).header("prefer", wait).send();
    let short = async {
        let short = cancel("short", "wait=1").await.expect(202);
        assert_eq!(short.body["state"], "CANCELLING");
        world.app.emit("stock", id, Message::StockReleased(StepDone { order_id: id })).await;
    };
    let both = async { tokio::join!(cancel("long", "wait=20"), short) };
    let (long, ()) = tokio::time::timeout(Duration::from_secs(15), both).await.expect("it is woken");
    assert_eq!(long.expect(200).body["state"], "CANCELLED");
}

/// Who waits for the same order is told the same, each thing that happened once.
#[tokio::test]
async fn all_who_wait_for_an_order_are_told_the_same() {
    let world = World::new().await;
    let id = world.ordered(&world.plain(), "AWAITING_PAYMENT").await;
    world.meet("stock.release", Reaction::Silence);
    let path = format!("/v1/orders/{id}/cancellation");
    let cancel = |key: &'static str| world.post(&path, key, &json!({})).header("prefer", "wait=20").send();
    let undone = async {
        world.app.eventually("select count(*) from orders_open_answers", 2).await;
        world.app.emit("stock", id, Message::StockReleased(StepDone { order_id: id })).await;
    };
    let all = async { tokio::join!(cancel("one"), cancel("two"), undone) };
    let (one, two, ()) = tokio::time::timeout(Duration::from_secs(15), all).await.expect("they are woken");
    let shown = world.get(id).await;
    assert_eq!(one.expect(200).body, shown);
    assert_eq!(two.expect(200).body, shown);
}

/// The same request many times at once: each that is not told to come back gets the first one's answer, when it is there.
#[tokio::test]
async fn repeats_in_one_batch_wait_for_the_same_order() {
    for fold in [true, false] {
        let world = World::folding(fold).await;
        world.meet("payment.request", Reaction::Silence);
        let body = world.plain_paid();
        // Keeps the writer busy, so that the others are settled together.
        let other = world.post("/v1/orders", "other", &world.plain()).send();
        let repeats = join_all((0..20).map(|_| world.order("k", &body)));
        let late = async {
            world.app.eventually("select count(*) from orders_orders where state='PAYING'", 1).await;
            let ids: Vec<(OrderId,)> = world.app.rows("select id from orders_orders where state='PAYING'").await;
            answer_late(&world, "payments", "payment.request", ids[0].0).await;
        };
        let all = async { tokio::join!(other, repeats, late) };
        let (_, answers, ()) = tokio::time::timeout(Duration::from_secs(15), all).await.expect("they are woken");
        let made = answers.iter().find(|answer| answer.status == 201).expect("one made it");
        for answer in &answers {
            let is_told_to_come_back = (answer.status, answer.problem()) == (409, "idempotency-in-progress");
            assert!(is_told_to_come_back || answer.bytes == made.bytes, "{} {}", answer.status, answer.body);
        }
        assert_eq!(made.body["state"], "PAID");
        assert_eq!(world.count().await, 2);
    }
}

/// The caller is gone before its answer: the key gets it all the same.
#[tokio::test]
async fn who_hangs_up_finds_the_answer_later() {
    let world = World::new().await;
    world.meet("payment.request", Reaction::Silence);
    let body = world.plain_paid();
    let gone = tokio::time::timeout(Duration::from_millis(300), world.order("k", &body)).await;
    assert!(gone.is_err(), "it had to wait");
    let id = only_order(&world).await;
    world.reaches(id, "PAYING").await;
    let world = world.restart().await;
    let _ = world.order("k", &body).await.expect_problem(409, "idempotency-in-progress");
    answer_late(&world, "payments", "payment.request", id).await;
    world.reaches(id, "PAID").await;
    let found = world.order("k", &body).await.expect(201);
    assert_eq!((id_of(&found), &found.body["state"]), (id, &json!("PAID")));
    assert_eq!(world.count().await, 1);
    world.audit().await;
}

#[tokio::test]
async fn a_wait_that_cannot_be_read_is_none() {
    let world = World::new().await;
    world.meet("stock.reserve", Reaction::Silence);
    for (n, prefer) in ["wait=soon", "wait", "wait=-1", "handling=strict", "wait=99999999999999999999"].into_iter().enumerate() {
        let made = world.post("/v1/orders", &format!("k{n}"), &world.plain()).header("prefer", prefer).send().await.expect(201);
        assert_eq!(made.body["state"], "PENDING", "{prefer}");
    }
}
