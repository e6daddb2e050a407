//! The saga with refusals, repeats, silence and failing handlers. The outcomes are the same with and without folding.

use crate::{
    participants_stub::Reaction,
    world::{Code, PAST_STEP_DEADLINE, World, header, history, id_of, states},
};
use contracts::{
    Message, OrderId,
    messages::{StepDone, StepRefused},
};
use orders::SagaMode;
use serde_json::json;

const DOS: [&str; 5] = ["stock.reserve", "coupon.hold", "points.hold", "stock.take", "payment.request"];

/// Undos that follow when the step at `index` is not done. `includes_own`: its own undo comes first.
fn undos(index: usize, includes_own: bool) -> Vec<&'static str> {
    let of = ["stock.release", "coupon.unhold", "points.unhold"];
    let reach = if includes_own { index + 1 } else { index };
    of[..reach.min(3)].iter().rev().copied().collect()
}

// G1, G2, G6
#[tokio::test]
async fn a_refused_step_fails_the_order_and_undoes_it() {
    let refusals = [Code::OutOfStock, Code::CouponUsed, Code::InsufficientPoints, Code::OutOfStock, Code::InsufficientFunds];
    for mode in World::run_modes() {
        for (index, (kind, code)) in DOS.into_iter().zip(refusals).enumerate() {
            let world = World::in_mode(mode).await;
            world.set_reaction(kind, Reaction::Refuse(code));
            let refused = world.order("k", &world.full_paid()).await.expect_problem(409, code.slug());
            let id: OrderId = refused.body["order_id"].as_str().and_then(|id| id.parse().ok()).expect("it names the order");
            assert_eq!(header(&refused, "location"), Some(format!("/v1/orders/{id}").as_str()));
            assert_eq!(refused.body["detail"], format!("No: {}.", code.slug()));
            assert!(refused.body["trace_id"].is_string(), "{}", refused.body);

            let messages = [&DOS[..=index], &undos(index, false)].concat();
            world.expect_messages(id, &[messages, vec!["order.failed"]].concat()).await;
            let order = world.get(id).await;
            assert_eq!((&order["state"], &order["saga"]["state"]), (&json!("FAILED"), &json!("UNDONE")));
            assert_eq!(order["reason"], json!({"type": code.slug(), "detail": format!("No: {}.", code.slug())}));
            assert_eq!(states(&order), if index < 3 { vec!["PENDING", "FAILED"] } else { vec!["PENDING", "PAYING", "FAILED"] });
            assert!(history(&order).contains(&format!("{kind} DO REFUSED")), "{:?}", history(&order));
            let ended = world.messages(id).await.pop();
            assert!(matches!(ended, Some(Message::OrderFailed(ended)) if ended.code == Some(code) && ended.member_id == world.buyer));
            world.audit().await;
        }
    }
}

// G4
#[tokio::test]
async fn repeated_answers_change_nothing() {
    let answers = ["stock.reserved", "coupon.held", "points.held", "stock.taken", "payment.approved"];
    for &fold in World::fold_settings() {
        for kind in answers {
            let world = World::with_fold(fold).await;
            world.app.faults.repeat("orders", kind, 1);
            let id = world.order_in_state(&world.full_paid(), "PAID").await;
            assert_eq!(world.app.faults.times_applied("orders", kind), 1);
            let kinds = [&DOS[..], &["stock.commit", "coupon.use", "points.use", "order.paid"]].concat();
            assert_eq!(world.emitted_kinds(id).await, kinds, "{kind}");
            world.audit().await;
        }
    }
}

// G4: the same for refusals, and for answers of undos.
#[tokio::test]
async fn repeated_refusals_and_undo_answers_change_nothing() {
    for &fold in World::fold_settings() {
        for kind in ["payment.cancelled", "points.released", "coupon.released", "stock.released"] {
            let world = World::with_fold(fold).await;
            let id = world.order_in_state(&world.full_paid(), "PAID").await;
            world.app.faults.repeat("orders", kind, 1);
            let _ = world.cancel(id, "c").await.expect(200);
            assert_eq!(world.app.faults.times_applied("orders", kind), 1);
            let kinds = world.emitted_kinds(id).await;
            assert_eq!(kinds[9..], ["payment.cancel", "points.unhold", "coupon.unhold", "stock.release", "order.cancelled"], "{kind}");
            world.audit().await;
        }
        for (index, (kind, answer)) in
            DOS.into_iter().zip(["stock.refused", "coupon.refused", "points.refused", "stock.take_refused", "payment.failed"]).enumerate()
        {
            let world = World::with_fold(fold).await;
            world.set_reaction(kind, Reaction::Refuse(Code::OutOfStock));
            world.app.faults.repeat("orders", answer, 1);
            let refused = world.order("k", &world.full_paid()).await.expect_problem(409, "out-of-stock");
            let id: OrderId = refused.body["order_id"].as_str().and_then(|id| id.parse().ok()).expect("it names the order");
            assert_eq!(world.app.faults.times_applied("orders", answer), 1);
            assert_eq!(world.emitted_kinds(id).await, [&DOS[..=index], &undos(index, false), &["order.failed"]].concat(), "{kind}");
            world.audit().await;
        }
    }
}

// G4: a participant that gets a request twice answers twice.
#[tokio::test]
async fn repeated_requests_change_nothing() {
    for &fold in World::fold_settings() {
        for (reader, kind) in ["stock", "coupons", "wallet", "stock", "payments"].into_iter().zip(DOS) {
            let world = World::with_fold(fold).await;
            world.app.faults.repeat(reader, kind, 1);
            let id = world.order_in_state(&world.full_paid(), "PAID").await;
            assert_eq!(world.app.faults.times_applied(reader, kind), 1);
            assert_eq!(world.emitted_kinds(id).await.len(), 9, "{kind}");
            world.audit().await;
        }
    }
}

// G5: a failing handler is retried, and takes effect once.
#[tokio::test]
async fn a_failing_handler_is_retried() {
    for &fold in World::fold_settings() {
        for kind in ["stock.reserved", "coupon.held", "points.held", "stock.taken", "payment.approved"] {
            let world = World::with_fold(fold).await;
            world.app.faults.fail("orders", kind, 1);
            let id = world.order_in_state(&world.full_paid(), "PAID").await;
            assert_eq!(world.app.faults.times_applied("orders", kind), 1);
            assert_eq!(world.emitted_kinds(id).await.len(), 9, "{kind}");
            world.audit().await;
        }
    }
}

// decisions.md section 4: a step with unknown outcome is undone, too, and its late answer changes nothing.
#[tokio::test]
async fn the_step_of_a_silent_participant_is_undone() {
    for mode in World::run_modes() {
        for (index, kind) in DOS.into_iter().enumerate().take(4) {
            let world = World::in_mode(mode).await;
            world.set_reaction(kind, Reaction::Silence);
            let id = world.start_order(&world.full_paid()).await;
            world.expect_received(id, &DOS[..=index]).await;
            world.advance_clock(PAST_STEP_DEADLINE).await;
            world.wait_for_state(id, "FAILED").await;
            // A slip may be ahead of its order, so every step it may have reached is undone.
            let reach = if mode.1 == SagaMode::Choreographed { vec!["payment.cancel"] } else { vec![] };
            let undone = undos(if reach.is_empty() { index } else { 4 }, true);
            world.expect_messages(id, &[&DOS[..=index], &reach, &undone, &["order.failed"]].concat()).await;
            let kinds = world.emitted_kinds(id).await;
            let order = world.get(id).await;
            assert_eq!(order["reason"]["type"], "step-timed-out");
            assert!(history(&order).contains(&format!("{kind} DO TIMED_OUT")), "{:?}", history(&order));

            let done = StepDone { order_id: id };
            let no = StepRefused { order_id: id, code: Code::OutOfStock, detail: "late".into() };
            for (source, late) in [
                ("stock", Message::StockReserved(done)),
                ("stock", Message::StockTaken(done)),
                ("stock", Message::StockReleased(done)),
                ("coupons", Message::CouponHeld(done)),
                ("coupons", Message::CouponRefused(no.clone())),
                ("wallet", Message::PointsHeld(done)),
                ("wallet", Message::PointsRefused(no)),
            ] {
                let read = format!(
                    "select coalesce((select seq from orders_positions where source='{source}'),0)-(select max(seq) from {source}_outbox)"
                );
                world.app.emit(source, id, late).await;
                world.app.eventually(&read, 0).await;
            }
            assert_eq!(world.get(id).await, order);
            assert_eq!(world.emitted_kinds(id).await, kinds);
            world.audit().await;
        }
    }
}

#[tokio::test]
async fn a_step_is_not_undone_before_its_deadline() {
    let world = World::new().await;
    world.set_reaction("coupon.hold", Reaction::Silence);
    let id = world.start_order(&world.full_paid()).await;
    world.advance_clock(PAST_STEP_DEADLINE - std::time::Duration::from_secs(2)).await;
    assert_eq!(world.get(id).await["state"], "PENDING");
    world.app.emit("coupons", id, Message::CouponHeld(StepDone { order_id: id })).await;
    world.wait_for_state(id, "PAID").await;
}

#[tokio::test]
async fn an_undo_is_repeated_until_it_is_done() {
    for mode in World::run_modes() {
        let world = World::in_mode(mode).await;
        world.set_reaction("coupon.unhold", Reaction::Silence);
        world.set_reaction("points.hold", Reaction::Refuse(Code::InsufficientPoints));
        let id = world.start_order(&world.full_paid()).await;
        world.expect_received(id, &["stock.reserve", "coupon.hold", "points.hold", "coupon.unhold"]).await;
        world.advance_clock(PAST_STEP_DEADLINE).await;
        world.expect_received(id, &["stock.reserve", "coupon.hold", "points.hold", "coupon.unhold", "coupon.unhold"]).await;
        assert_eq!(world.get(id).await["saga"]["state"], "UNDOING");
        world.set_reaction("coupon.unhold", Reaction::Comply);
        // The second repeat takes twice as long.
        world.advance_clock(PAST_STEP_DEADLINE * 2).await;
        world.wait_for_state(id, "FAILED").await;
        let undone = ["coupon.unhold", "coupon.unhold", "coupon.unhold", "stock.release", "order.failed"];
        world.expect_messages(id, &[&DOS[..3], &undone].concat()).await;
        world.audit().await;
    }
}

// G5: a saga stopped in the middle continues after the restart.
#[tokio::test]
async fn a_checkout_continues_after_a_restart() {
    for kind in ["stock.reserved", "coupon.held", "points.held", "stock.taken", "payment.approved"] {
        let world = World::with_fold(false).await;
        world.app.faults.hold("orders", kind);
        let id = world.start_order(&world.full_paid()).await;
        world.app.eventually(&format!("select (select count(*) from stock_outbox where kind='{kind}')+(select count(*) from coupons_outbox where kind='{kind}')+(select count(*) from wallet_outbox where kind='{kind}')+(select count(*) from payments_outbox where kind='{kind}')"), 1).await;
        let world = world.restart().await;
        world.wait_for_state(id, "PAID").await;
        assert_eq!(world.emitted_kinds(id).await.len(), 9, "{kind}");
        world.audit().await;
    }
}

#[tokio::test]
async fn an_answer_of_an_unknown_order_is_ignored() {
    let world = World::new().await;
    let unknown = OrderId(kit::ports::new_id());
    world.app.emit("stock", unknown, Message::StockReserved(StepDone { order_id: unknown })).await;
    let made = world.order("k", &world.plain_paid()).await.expect(201);
    assert_eq!(made.body["state"], "PAID");
    assert_eq!(world.emitted_kinds(id_of(&made)).await.len(), 4);
    world.audit().await;
}
