//! Several processes on one database: a key makes one order in any process, and a waiting caller is answered whichever process settles it.

use crate::{
    participants_stub::{ParticipantsStub, Reaction},
    world::{PAST_STEP_DEADLINE, PAST_UNPAID_TIMEOUT, World, id_of, settings},
};
use contracts::{MemberId, Sku};
use futures::future::join_all;
use kit::{Kit, Module, auth::Role, ports::new_id};
use orders::{Orders, SagaMode};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use testkit::App;

/// Stubs that are shared by all processes, and an orders service of each process.
fn services(participants: &ParticipantsStub, kit: &Kit, saga: SagaMode) -> Vec<Arc<dyn Module>> {
    let mut services = participants.services(kit);
    services.push(Arc::new(Orders::new(kit.clone(), settings(saga))));
    services
}

/// Two processes with one buyer. With one partition, the first process reads all messages.
async fn two_processes(partitions: i64, saga: SagaMode) -> (World, World) {
    let participants = ParticipantsStub::default();
    let app = App::builder().on_postgres().partitions(partitions).start(|kit| services(&participants, kit, saga)).await;
    let (buyer, seller) = (MemberId(new_id()), MemberId(new_id()));
    let (token, store) = (app.token(buyer, Role::Customer), participants.open_store(seller));
    let second = app.start_another_process(|kit| services(&participants, kit, saga)).await;
    let other = World { app: second, participants: participants.clone(), buyer, token: token.clone(), store, seller, saga };
    (World { app, participants, buyer, token, store, seller, saga }, other)
}

async fn add(world: &World, sku: Sku, key: &str) -> Value {
    let body = json!({"sku": sku, "quantity": 1});
    world.app.post("/v1/cart/items").bearer(&world.token).key(key).json(&body).send().await.expect(200).body
}

// decision 4: a caller that waits at the process without readers is answered when the other process brings the order to rest
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_caller_is_answered_by_another_process() {
    for saga in [SagaMode::Orchestrated, SagaMode::Choreographed] {
        let (one, other) = two_processes(1, saga).await;
        for n in 0..10 {
            // Orders on both processes, because either of them may be the reader.
            let body = one.full_paid();
            let (key, key_of_other) = (format!("a{n}"), format!("b{n}"));
            let other_body = other.full_paid();
            let both = async { tokio::join!(one.order(&key, &body), other.order(&key_of_other, &other_body)) };
            // Well before the wait of twenty seconds ends.
            let (first, second) = tokio::time::timeout(Duration::from_secs(15), both).await.expect("both are answered");
            for made in [first.expect(201), second.expect(201)] {
                assert_eq!(made.body["state"], "PAID", "{}", made.body);
            }
        }
        assert_eq!(one.app.sql_i64("select count(*) from orders_open_answers").await, 0);
        one.audit().await;
    }
}

// rows 58 and 60: one key on two processes at once makes one order
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_makes_one_order_on_any_process() {
    let (one, other) = two_processes(4, SagaMode::Orchestrated).await;
    for n in 0..10 {
        let (key, body) = (format!("k{n}"), one.plain_paid());
        let (first, second) = tokio::join!(one.order(&key, &body), other.order(&key, &body));
        let made: Vec<_> = [&first, &second].into_iter().filter(|answer| answer.status == 201).collect();
        let in_progress = [&first, &second].into_iter().filter(|answer| answer.problem() == "idempotency-in-progress").count();
        assert_eq!(made.len() + in_progress, 2, "{} {}", first.body, second.body);
        assert!(!made.is_empty());
        let again = other.order(&key, &body).await.expect(201);
        assert!(made.iter().all(|answer| answer.bytes == again.bytes));
        assert_eq!(one.order_count().await, n + 1);
    }
    one.audit().await;
}

// K2: quantities added through two processes at once sum up, also in a new cart
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quantities_added_on_two_processes_sum_up() {
    let (one, other) = two_processes(4, SagaMode::Orchestrated).await;
    let sku = one.sell(1_000);
    join_all((0..20).map(|n| {
        let (one, other) = (&one, &other);
        async move {
            let (key, of_other) = (format!("k{n}"), format!("o{n}"));
            let (first, again, second) = tokio::join!(add(one, sku, &key), add(other, sku, &key), add(other, sku, &of_other));
            assert_eq!(first, again, "a key counts once");
            assert_ne!(first, second);
        }
    }))
    .await;
    assert_eq!(one.quantities(&[sku]).await, [40]);
    assert_eq!(other.cart().await["version"], 40);
}

// K4, row 61: of two orders of one cart version on two processes, one is placed
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cart_version_is_ordered_once() {
    let (one, other) = two_processes(4, SagaMode::Orchestrated).await;
    let sku = one.sell(1_000);
    for n in 0..10 {
        let version = one.put(sku, 5 + n).await["version"].clone();
        let body = json!({"from_cart": true, "cart_version": version});
        let (key, key_of_other) = (format!("a{n}"), format!("b{n}"));
        let (first, second) = tokio::join!(one.order(&key, &body), other.order(&key_of_other, &body));
        let mut answers = [(first.status, first.problem()), (second.status, second.problem())];
        answers.sort_unstable();
        assert_eq!(answers, [(201, ""), (409, "cart-changed")]);
    }
    one.audit().await;
}

// O8: of concurrent paying and cancelling on two processes, one succeeds
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_paid_or_cancelled() {
    let (one, other) = two_processes(4, SagaMode::Orchestrated).await;
    one.set_reaction("payment.request", Reaction::Silence);
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(id_of(&one.order(&format!("o{n}"), &one.plain()).await.expect(201)));
    }
    for (n, id) in ids.iter().enumerate() {
        let (payments, cancellation) = (format!("/v1/orders/{id}/payments"), format!("/v1/orders/{id}/cancellation"));
        let (pay, cancel, wallet, nothing) = (format!("p{n}"), format!("c{n}"), json!({"method": "wallet"}), json!({}));
        let paying = one.post(&payments, &pay, &wallet).send();
        let cancelling = other.post(&cancellation, &cancel, &nothing).header("prefer", "wait=20").send();
        let (paying, cancelling) = tokio::join!(paying, cancelling);
        let is_requested = one.emitted_kinds(*id).await.contains(&"payment.request");
        match (paying.status, cancelling.status) {
            (202, 409) => assert!(is_requested && cancelling.problem() == "payment-in-progress"),
            (409, 200) => assert!(!is_requested && paying.problem() == "illegal-transition"),
            answers => panic!("{answers:?}: {} {}", paying.body, cancelling.body),
        }
    }
    one.audit().await;
}

// O7: both processes run the job at the same time, and each order ends once
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn due_orders_end_once() {
    let (one, other) = two_processes(4, SagaMode::Orchestrated).await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(id_of(&one.order(&format!("u{n}"), &one.plain()).await.expect(201)));
    }
    one.set_reaction("stock.reserve", Reaction::Silence);
    for n in 0..20 {
        let world = if n % 2 == 0 { &one } else { &other };
        ids.push(world.start_order(&world.plain()).await);
    }
    one.app.clock.advance(PAST_UNPAID_TIMEOUT.max(PAST_STEP_DEADLINE));
    for _ in 0..3 {
        tokio::join!(one.app.job("orders.due"), other.app.job("orders.due"));
    }
    one.app.eventually("select count(*) from orders_orders where saga_state='UNDONE'", 40).await;
    for id in &ids {
        let ends = one
            .emitted_kinds(*id)
            .await
            .into_iter()
            .filter(|kind| ["order.expired", "order.failed", "order.cancelled"].contains(kind))
            .count();
        assert!(ends <= 1, "{:?}", one.emitted_kinds(*id).await);
    }
    assert_eq!(one.app.sql_i64("select count(*) from orders_events where to_state in ('EXPIRED', 'FAILED')").await, 40);
    one.audit().await;
}
