use crate::{
    participants_stub::{Reaction, compliant_answer},
    world::{Code, PAST_UNPAID_TIMEOUT, World, header, states, with_field},
};
use contracts::{Message, messages::PaymentMethod};
use serde_json::json;
use std::time::Duration;

// Y2, G1
#[tokio::test]
async fn an_order_is_paid_in_a_second_call() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let id = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
        let paid = world.pay(id, "p").await.expect(200);
        assert_eq!(states(&paid.body), ["PENDING", "AWAITING_PAYMENT", "PAYING", "PAID"]);
        assert_eq!(
            world.emitted_kinds(id).await[3..],
            ["stock.take", "payment.request", "stock.commit", "coupon.use", "points.use", "order.paid"]
        );
        let requested = world.messages(id).await.into_iter().find_map(|message| match message {
            Message::PaymentRequest(request) => Some((request.amount.0, request.method, request.member_id)),
            _ => None,
        });
        assert_eq!(requested, Some((12_500, PaymentMethod::Wallet, world.buyer)));

        let again = world.pay(id, "p").await;
        assert_eq!((again.status, &again.bytes, header(&again, "idempotent-replayed")), (200, &paid.bytes, Some("true")));
        let _ = world.pay(id, "another").await.expect_problem(409, "already-paid");
        assert_eq!(world.emitted_kinds(id).await.iter().filter(|kind| **kind == "payment.request").count(), 1);
        world.audit().await;
    }
}

// Y2: problem code 5002
#[tokio::test]
async fn an_amount_other_than_the_total_is_refused() {
    let world = World::new().await;
    let id = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
    let path = format!("/v1/orders/{id}/payments");
    for (key, amount) in [("a", 4_999), ("b", 5_001), ("c", -5_000), ("d", 0)] {
        let body = json!({"method": "wallet", "amount": amount});
        let refused = world.post(&path, key, &body).send().await.expect_problem(409, "amount-mismatch");
        assert_eq!(refused.body["code"], 5002);
    }
    assert_eq!(world.get(id).await["state"], "AWAITING_PAYMENT");
    let paid = world.post(&path, "e", &json!({"method": "wallet", "amount": 5_000})).header("prefer", "wait=20").send().await.expect(200);
    assert_eq!(paid.body["state"], "PAID");
}

#[tokio::test]
async fn a_refused_payment_may_be_retried() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let id = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
        world.set_reaction("payment.request", Reaction::Refuse(Code::InsufficientFunds));
        let refused = world.pay(id, "p1").await.expect_problem(409, "insufficient-funds");
        assert_eq!(refused.body["order_id"], json!(id));
        assert_eq!(header(&refused, "location"), Some(format!("/v1/orders/{id}").as_str()));
        let order = world.get(id).await;
        assert_eq!((&order["state"], &order["reason"]["type"]), (&json!("AWAITING_PAYMENT"), &json!("insufficient-funds")));

        world.set_reaction("payment.request", Reaction::Comply);
        let same = world.pay(id, "p1").await.expect_problem(409, "insufficient-funds");
        assert_eq!(same.bytes, refused.bytes);
        let paid = world.pay(id, "p2").await.expect(200);
        assert_eq!((&paid.body["state"], &paid.body["reason"]), (&json!("PAID"), &json!(null)));
        let kinds = world.emitted_kinds(id).await;
        assert_eq!(kinds[3..6], ["stock.take", "payment.request", "payment.request"], "stock is taken once");
        world.audit().await;
    }
}

// decision 1: when stock is sold out at payment, nothing is charged.
#[tokio::test]
async fn sold_out_stock_at_payment_charges_nothing() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let id = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
        world.set_reaction("stock.take", Reaction::Refuse(Code::OutOfStock));
        let _ = world.pay(id, "p").await.expect_problem(409, "out-of-stock");
        assert_eq!(world.emitted_kinds(id).await[3..], ["stock.take", "points.unhold", "coupon.unhold", "stock.release", "order.failed"]);
        assert_eq!(world.get(id).await["state"], "FAILED");
        let _ = world.pay(id, "p2").await.expect_problem(409, "illegal-transition");
        world.audit().await;
    }
}

// decisions.md section 3: one payment at a time.
#[tokio::test]
async fn only_one_payment_runs_at_a_time() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let id = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
        world.set_reaction("payment.request", Reaction::Silence);
        let path = format!("/v1/orders/{id}/payments");
        let body = json!({"method": "wallet"});
        let keys: Vec<String> = (0..10).map(|n| format!("p{n}")).collect();
        let tries = futures::future::join_all(keys.iter().map(|key| world.post(&path, key, &body).send())).await;
        assert_eq!(tries.iter().filter(|reply| reply.status == 202).count(), 1);
        assert_eq!(tries.iter().filter(|reply| reply.problem() == "payment-in-progress").count(), 9);
        let running = tries.iter().find(|reply| reply.status == 202).expect("one of them runs");
        assert_eq!(running.body["state"], "PAYING");
        assert_eq!(world.emitted_kinds(id).await.iter().filter(|kind| **kind == "payment.request").count(), 1);
        world.audit().await;
    }
}

// A late answer of an earlier attempt must not change the running one.
#[tokio::test]
async fn only_the_running_attempt_counts() {
    let world = World::new().await;
    let id = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
    world.set_reaction("payment.request", Reaction::Refuse(Code::PaymentFailed));
    let _ = world.pay(id, "p1").await.expect_problem(409, "payment-failed");
    let first = world.payment_id(id).await;
    world.set_reaction("payment.request", Reaction::Silence);
    let _ = world.post(&format!("/v1/orders/{id}/payments"), "p2", &json!({"method": "wallet"})).send().await.expect(202);
    let second = world.payment_id(id).await;
    assert_ne!(first, second);
    let requested = world
        .messages(id)
        .await
        .into_iter()
        .find(|message| matches!(message, Message::PaymentRequest(request) if request.payment_id == first));
    let stale = compliant_answer(&requested.expect("the message was emitted")).expect("it has an answer");
    world.app.emit("payments", id, stale).await;
    assert_eq!(world.get(id).await["state"], "PAYING");
}

// O7, row 62
#[tokio::test]
async fn ended_orders_cannot_be_paid() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let expired = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
        let cancelled = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
        let _ = world.cancel(cancelled, "c").await.expect(200);
        let _ = world.pay(cancelled, "p1").await.expect_problem(409, "illegal-transition");
        // The deadline applies even before the job has run.
        world.app.clock.advance(PAST_UNPAID_TIMEOUT);
        let _ = world.pay(expired, "p2").await.expect_problem(409, "order-expired");
        world.app.job("orders.due").await;
        world.wait_for_state(expired, "EXPIRED").await;
        let _ = world.pay(expired, "p3").await.expect_problem(409, "order-expired");
        world.audit().await;
    }
}

#[tokio::test]
async fn an_order_that_costs_nothing_is_paid_by_method_none() {
    let world = World::new().await;
    // R11: nothing is left to pay.
    let free = world.order_in_state(&with_field(world.plain(), "coupons", json!([world.coupon(9_000)])), "PAID").await;
    let _ = world.pay(free, "p").await.expect_problem(409, "already-paid");
    assert_eq!(world.get(free).await["payment"]["method"], "none");
    let dear = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
    let none = json!({"method": "none"});
    let refused = world.post(&format!("/v1/orders/{dear}/payments"), "q", &none).send().await;
    let _ = refused.expect_problem(422, "payment-method-not-allowed");
}

// rows 37, 56 and 57
#[tokio::test]
async fn paying_requires_the_buyer_and_a_key() {
    let world = World::new().await;
    let id = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
    let path = format!("/v1/orders/{id}/payments");
    let body = json!({"method": "wallet"});
    let _ = world.app.post(&path).bearer(&world.token).json(&body).send().await.expect_problem(400, "idempotency-key-missing");
    let _ = world.app.post(&path).key("k").json(&body).send().await.expect_problem(401, "unauthenticated");
    for other in [world.stranger_token(), world.seller_token(), world.operator_token()] {
        let _ = world.app.post(&path).bearer(&other).key("k").json(&body).send().await.expect_problem(404, "not-found");
    }
    let unknown = format!("/v1/orders/{}/payments", kit::ports::new_id());
    let _ = world.post(&unknown, "k", &body).send().await.expect_problem(404, "not-found");
    let _ = world.post(&path, "k", &body).send().await.expect_problem(422, "idempotency-key-mismatch");
    assert_eq!(world.get(id).await["state"], "AWAITING_PAYMENT");
}

// design.md section 4: the outcome of a provider call may stay unknown for long.
#[tokio::test]
async fn an_unknown_payment_is_neither_refused_nor_expired() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let id = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
        world.set_reaction("payment.request", Reaction::Silence);
        let _ = world.post(&format!("/v1/orders/{id}/payments"), "p", &json!({"method": "wallet"})).send().await.expect(202);
        world.wait_for_emitted("payment.request", 1).await;
        for _ in 0..5 {
            world.advance_clock(Duration::from_secs(3_600)).await;
        }
        assert_eq!(world.get(id).await["state"], "PAYING");
        let requested = world.messages(id).await.pop().expect("the message was emitted");
        world.app.emit("payments", id, compliant_answer(&requested).expect("it has an answer")).await;
        world.wait_for_state(id, "PAID").await;
        world.audit().await;
    }
}
