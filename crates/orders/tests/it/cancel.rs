use crate::{
    participants_stub::Reaction,
    world::{Code, World, header, id_of, states},
};
use contracts::{Message, messages::StepDone};
use serde_json::json;

const ALL_UNDOS: [&str; 5] = ["payment.cancel", "points.unhold", "coupon.unhold", "stock.release", "order.cancelled"];

// O8
#[tokio::test]
async fn cancelling_a_paid_order_undoes_every_step() {
    for &fold in World::fold_settings() {
        for prepared in [false, true] {
            let world = World::with_fold(fold).await;
            let id = world.order_in_state(&world.full_paid(), "PAID").await;
            if prepared {
                let _ = world.advance(id, "PREPARING").await.expect(200);
            }
            let cancelled = world.cancel(id, "c").await.expect(200);
            assert_eq!(
                states(&cancelled.body)[2 + usize::from(prepared)..],
                [if prepared { "PREPARING" } else { "PAID" }, "CANCELLING", "CANCELLED"]
            );
            assert_eq!(world.emitted_kinds(id).await[9..], ALL_UNDOS);
            assert_eq!(cancelled.body["saga"]["state"], "UNDONE");
            world.audit().await;
        }
    }
}

#[tokio::test]
async fn cancelling_an_unpaid_order_releases_its_holds() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let id = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
        let body = json!({"reason": "found it cheaper"});
        let path = format!("/v1/orders/{id}/cancellation");
        let cancelled = world.post(&path, "c", &body).header("prefer", "wait=20").send().await.expect(200);
        assert_eq!(cancelled.body["reason"]["detail"], "found it cheaper");
        assert_eq!(world.emitted_kinds(id).await[3..], ALL_UNDOS[1..]);
        let ended = world.messages(id).await.pop();
        assert!(matches!(ended, Some(Message::OrderCancelled(ended)) if ended.detail == "found it cheaper"));
        world.audit().await;
    }
}

// After a refused payment the order rests at its payment step, so that step is undone, too.
#[tokio::test]
async fn an_order_whose_payment_was_refused_can_be_cancelled() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let id = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
        world.set_reaction("payment.request", Reaction::Refuse(Code::InsufficientFunds));
        let _ = world.pay(id, "p").await.expect_problem(409, "insufficient-funds");
        let _ = world.cancel(id, "c").await.expect(200);
        assert_eq!(world.emitted_kinds(id).await[5..], ALL_UNDOS);
        world.audit().await;
    }
}

#[tokio::test]
async fn cancelling_a_pending_order_undoes_the_running_step() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        world.set_reaction("coupon.hold", Reaction::Silence);
        let id = world.start_order(&world.full_paid()).await;
        world.wait_for_emitted("coupon.hold", 1).await;
        let cancelled = world.cancel(id, "c").await.expect(200);
        assert_eq!(states(&cancelled.body), ["PENDING", "CANCELLING", "CANCELLED"]);
        assert_eq!(world.emitted_kinds(id).await[2..], ["coupon.unhold", "stock.release", "order.cancelled"]);
        world.app.emit("coupons", id, Message::CouponHeld(StepDone { order_id: id })).await;
        assert_eq!(world.get(id).await["state"], "CANCELLED");
        world.audit().await;
    }
}

// row 62
#[tokio::test]
async fn cancelling_twice_equals_cancelling_once() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let id = world.order_in_state(&world.full_paid(), "PAID").await;
        let first = world.cancel(id, "c1").await.expect(200);
        let same = world.cancel(id, "c1").await.expect(200);
        assert_eq!((&same.bytes, header(&same, "idempotent-replayed")), (&first.bytes, Some("true")));
        let second = world.cancel(id, "c2").await.expect(200);
        assert_eq!(second.body, first.body);
        assert_eq!(world.emitted_kinds(id).await[9..], ALL_UNDOS);
        world.audit().await;
    }
}

#[tokio::test]
async fn cancelling_again_during_the_undo_is_accepted() {
    let world = World::new().await;
    let id = world.order_in_state(&world.plain_paid(), "PAID").await;
    world.set_reaction("payment.cancel", Reaction::Silence);
    let path = format!("/v1/orders/{id}/cancellation");
    for key in ["c1", "c2"] {
        let running = world.post(&path, key, &json!({})).send().await.expect(202);
        assert_eq!(running.body["state"], "CANCELLING");
    }
    assert_eq!(world.emitted_kinds(id).await.iter().filter(|kind| **kind == "payment.cancel").count(), 1);
}

// row 62
#[tokio::test]
async fn dispatched_or_ended_orders_cannot_be_cancelled() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        let id = world.order_in_state(&world.plain_paid(), "PAID").await;
        let _ = world.advance(id, "PREPARING").await.expect(200);
        for state in ["SHIPPING", "DELIVERED"] {
            let _ = world.advance(id, state).await.expect(200);
            let _ = world.cancel(id, state).await.expect_problem(409, "illegal-transition");
        }
        let _ = world.app.post(format!("/v1/orders/{id}/confirmation")).bearer(&world.token).send().await.expect(200);
        let _ = world.cancel(id, "confirmed").await.expect_problem(409, "illegal-transition");

        world.set_reaction("stock.reserve", Reaction::Refuse(Code::OutOfStock));
        let failed = world.order("f", &world.plain()).await.expect_problem(409, "out-of-stock");
        let failed = failed.body["order_id"].as_str().and_then(|id| id.parse().ok()).expect("the problem names the order");
        let _ = world.cancel(failed, "failed").await.expect_problem(409, "illegal-transition");
        world.set_reaction("stock.reserve", Reaction::Comply);

        let expired = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
        world.advance_clock(crate::world::PAST_UNPAID_TIMEOUT).await;
        world.wait_for_state(expired, "EXPIRED").await;
        let _ = world.cancel(expired, "expired").await.expect_problem(409, "illegal-transition");
        world.audit().await;
    }
}

#[tokio::test]
async fn an_order_being_paid_cannot_be_cancelled() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        world.set_reaction("payment.request", Reaction::Silence);
        let id = world.start_order(&world.plain_paid()).await;
        world.wait_for_state(id, "PAYING").await;
        let _ = world.cancel(id, "c").await.expect_problem(409, "payment-in-progress");
        assert_eq!(world.get(id).await["state"], "PAYING");
    }
}

// Paying and cancelling at once: one succeeds, and the other is refused.
#[tokio::test]
async fn of_concurrent_paying_and_cancelling_one_succeeds() {
    for &fold in World::fold_settings() {
        let world = World::with_fold(fold).await;
        world.set_reaction("payment.request", Reaction::Silence);
        let mut winners = [0, 0];
        for n in 0..20 {
            let made = world.order(&format!("o{n}"), &world.plain()).await.expect(201);
            let id = id_of(&made);
            let (pay, cancel) = (format!("p{n}"), format!("c{n}"));
            let wallet = json!({"method": "wallet"});
            let (payments, cancellation) = (format!("/v1/orders/{id}/payments"), format!("/v1/orders/{id}/cancellation"));
            let paying = world.post(&payments, &pay, &wallet).send();
            let cancelling = world.post(&cancellation, &cancel, &json!({})).header("prefer", "wait=20").send();
            let (paying, cancelling) = if n % 2 == 0 {
                tokio::join!(paying, cancelling)
            } else {
                let (cancelling, paying) = tokio::join!(cancelling, paying);
                (paying, cancelling)
            };
            let is_requested = world.emitted_kinds(id).await.contains(&"payment.request");
            match (paying.status, cancelling.status) {
                (202, 409) => {
                    assert_eq!(cancelling.problem(), "payment-in-progress");
                    assert!(is_requested);
                    winners[0] += 1;
                }
                (409, 200) => {
                    assert_eq!(paying.problem(), "illegal-transition");
                    assert!(!is_requested, "a cancelled order was charged");
                    winners[1] += 1;
                }
                other => panic!("{other:?}: {} {}", paying.body, cancelling.body),
            }
        }
        assert_eq!(winners.iter().sum::<i32>(), 20);
        world.audit().await;
    }
}

// rows 37 and 56
#[tokio::test]
async fn only_the_buyer_or_an_operator_cancels_and_with_a_key() {
    let world = World::new().await;
    let id = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
    let path = format!("/v1/orders/{id}/cancellation");
    let _ = world.app.post(&path).bearer(&world.token).send().await.expect_problem(400, "idempotency-key-missing");
    let _ = world.app.post(&path).key("k").send().await.expect_problem(401, "unauthenticated");
    for other in [world.stranger_token(), world.seller_token()] {
        let _ = world.app.post(&path).bearer(&other).key("k").send().await.expect_problem(404, "not-found");
    }
    let blank = json!({"reason": "\u{202e}"});
    let _ = world.post(&path, "bad", &blank).send().await.expect_problem(422, "invalid-field");
    assert_eq!(world.get(id).await["state"], "AWAITING_PAYMENT");
    let cancelled = world.app.post(&path).bearer(&world.operator_token()).key("k").header("prefer", "wait=20").send().await.expect(200);
    assert_eq!((&cancelled.body["state"], &cancelled.body["reason"]["detail"]), (&json!("CANCELLED"), &json!("Cancelled by the mall.")));
}
