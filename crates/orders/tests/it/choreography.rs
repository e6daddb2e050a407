//! Choreographed checkouts: a routing slip travels from participant to participant, with the same outcomes as orchestrated checkouts (G3).

use crate::{
    participants_stub::{Reaction, slip_message},
    world::{Code, PAST_STEP_DEADLINE, PAST_UNPAID_TIMEOUT, World, history, id_of, states},
};
use contracts::{
    Message, OrderId,
    messages::{RoutingSlip, SlipEntry, StepOutcome},
};
use orders::SagaMode::{Choreographed, Orchestrated};
use serde_json::json;
use std::time::Duration;

const DOS: [&str; 5] = ["stock.reserve", "coupon.hold", "points.hold", "stock.take", "payment.request"];
const FINALS: [&str; 4] = ["stock.commit", "coupon.use", "points.use", "order.paid"];
const UNDOS: [&str; 4] = ["payment.cancel", "points.unhold", "coupon.unhold", "stock.release"];

async fn world(fold: bool) -> World {
    World::in_mode((fold, Choreographed)).await
}

/// Slips that the order has sent so far.
async fn slips(world: &World, id: OrderId) -> Vec<RoutingSlip> {
    world.messages(id).await.iter().filter_map(|message| message.slip().cloned()).collect()
}

// G3, O1, G1, G2
#[tokio::test]
async fn one_slip_places_and_pays_an_order() {
    for &fold in World::fold_settings() {
        let world = world(fold).await;
        let made = world.order("k", &world.full_paid()).await.expect(201);
        let id = id_of(&made);
        assert_eq!(states(&made.body), ["PENDING", "PAYING", "PAID"]);
        assert_eq!(history(&made.body), DOS.map(|step| format!("{step} DO OK")));
        assert_eq!(made.body["saga"]["state"], "DONE");
        assert_eq!(world.emitted_kinds(id).await, [&["orders.slip"], &FINALS[..]].concat());
        world.expect_messages(id, &[&DOS[..], &FINALS].concat()).await;
        assert_eq!(world.get(id).await, made.body);
        world.audit().await;
    }
}

// G3, Y2: a refused payment keeps the holds, and the next attempt sends a new slip.
#[tokio::test]
async fn one_slip_places_an_order_and_later_slips_pay_it() {
    for &fold in World::fold_settings() {
        let world = world(fold).await;
        let id = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
        world.expect_messages(id, &DOS[..3]).await;
        world.set_reaction("payment.request", Reaction::Refuse(Code::InsufficientFunds));
        let _ = world.pay(id, "p1").await.expect_problem(409, "insufficient-funds");
        assert_eq!(world.get(id).await["state"], "AWAITING_PAYMENT");
        world.set_reaction("payment.request", Reaction::Comply);
        let paid = world.pay(id, "p2").await.expect(200);
        assert_eq!(paid.body["state"], "PAID");
        world.expect_messages(id, &[&DOS[..], &["payment.request"], &FINALS].concat()).await;
        let runs: Vec<u32> = slips(&world, id).await.iter().map(|slip| slip.run).collect();
        assert_eq!(runs, [1, 2, 3]);
        world.audit().await;
    }
}

// G3, decision 1: stock is sold out at payment, so the second slip undoes the holds of the first.
#[tokio::test]
async fn a_refused_payment_slip_undoes_the_holds_of_the_first() {
    for &fold in World::fold_settings() {
        let world = world(fold).await;
        let id = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
        world.set_reaction("stock.take", Reaction::Refuse(Code::OutOfStock));
        let _ = world.pay(id, "p").await.expect_problem(409, "out-of-stock");
        world.expect_messages(id, &[&DOS[..4], &UNDOS[1..], &["order.failed"]].concat()).await;
        assert_eq!(world.get(id).await["state"], "FAILED");
        world.audit().await;
    }
}

// G3, O7, O8
#[tokio::test]
async fn cancelling_and_expiry_send_an_undo_slip() {
    for &fold in World::fold_settings() {
        let world = world(fold).await;
        let paid = world.order_in_state(&world.full_paid(), "PAID").await;
        world.expect_messages(paid, &[&DOS[..], &FINALS].concat()).await;
        let cancelled = world.cancel(paid, "c").await.expect(200);
        assert_eq!((&cancelled.body["state"], &cancelled.body["saga"]["state"]), (&json!("CANCELLED"), &json!("UNDONE")));
        world.expect_messages(paid, &[&DOS[..], &FINALS, &UNDOS, &["order.cancelled"]].concat()).await;
        let unpaid = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
        let _ = world.cancel(unpaid, "c2").await.expect(200);
        world.expect_messages(unpaid, &[&DOS[..3], &UNDOS[1..], &["order.cancelled"]].concat()).await;
        let forgotten = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
        world.advance_clock(PAST_UNPAID_TIMEOUT).await;
        world.wait_for_state(forgotten, "EXPIRED").await;
        world.advance_clock(PAST_UNPAID_TIMEOUT).await;
        world.expect_messages(forgotten, &[&DOS[..3], &UNDOS[1..], &["order.expired"]].concat()).await;
        world.audit().await;
    }
}

// G3: cancelling undoes every step that the slip may have reached meanwhile.
#[tokio::test]
async fn cancelling_undoes_all_steps_the_slip_may_have_reached() {
    for &fold in World::fold_settings() {
        let world = world(fold).await;
        world.set_reaction("coupon.hold", Reaction::Silence);
        let id = world.start_order(&world.full_paid()).await;
        world.expect_received(id, &DOS[..2]).await;
        let cancelled = world.cancel(id, "c").await.expect(200);
        assert_eq!(states(&cancelled.body), ["PENDING", "CANCELLING", "CANCELLED"]);
        world.expect_messages(id, &[&DOS[..2], &UNDOS, &["order.cancelled"]].concat()).await;
        // The first slip arrives late. Its run is older than that of the undo slip, so it changes nothing.
        let mut late = slips(&world, id).await.swap_remove(0);
        late.next = None;
        late.log = (0..late.stops.len()).map(|stop| SlipEntry { stop, outcome: StepOutcome::Done, at: world.app.clock_now() }).collect();
        let before = world.get(id).await;
        world.app.emit("payments", id, slip_message("payments", late)).await;
        let read =
            "select (select max(seq) from payments_outbox)-(select coalesce(max(seq),0) from orders_positions where source='payments')";
        world.app.eventually(read, 0).await;
        assert_eq!(world.get(id).await, before);
        world.audit().await;
    }
}

/// Every message kind of a choreographed checkout with each of its readers.
const READINGS: [(&str, &str); 13] = [
    ("stock", "orders.slip"),
    ("coupons", "stock.slip"),
    ("wallet", "coupons.slip"),
    ("stock", "wallet.slip"),
    ("payments", "stock.slip"),
    ("orders", "stock.slip"),
    ("orders", "coupons.slip"),
    ("orders", "wallet.slip"),
    ("orders", "payments.slip"),
    ("payments", "orders.slip"),
    ("wallet", "stock.slip"),
    ("coupons", "orders.slip"),
    ("stock", "payments.slip"),
];

/// Waits until the fault has occurred. Without folding, some readers reach a slip after the order is at rest.
async fn wait_for_fault(world: &World, reader: &str, kind: &str) {
    for _ in 0..500 {
        if world.app.faults.times_applied(reader, kind) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the fault of {kind} did not occur at {reader}");
}

// G3, G4, G5: each slip is delivered twice, or its handler fails once.
#[tokio::test]
async fn repeated_slips_and_failing_handlers_change_nothing() {
    for &fold in World::fold_settings() {
        for (reader, kind) in READINGS {
            for repeat in [true, false] {
                let world = world(fold).await;
                if repeat {
                    world.app.faults.repeat(reader, kind, 1);
                } else {
                    world.app.faults.fail(reader, kind, 1);
                }
                let id = world.order_in_state(&world.full_paid(), "PAID").await;
                wait_for_fault(&world, reader, kind).await;
                assert_eq!(world.emitted_kinds(id).await, [&["orders.slip"], &FINALS[..]].concat(), "{reader} {kind}");
                let order = world.get(id).await;
                assert_eq!(history(&order), DOS.map(|step| format!("{step} DO OK")), "{reader} {kind}");
                world.audit().await;
            }
        }
    }
}

// G3: orders reads the last slip first, and the earlier ones afterwards.
#[tokio::test]
async fn the_last_slip_completes_an_order_before_earlier_ones() {
    let world = world(false).await;
    let behind = ["stock.slip", "coupons.slip", "wallet.slip"];
    for kind in behind {
        world.app.faults.hold("orders", kind);
    }
    let made = world.order("k", &world.full_paid()).await.expect(201);
    assert_eq!(history(&made.body), DOS.map(|step| format!("{step} DO OK")), "the last slip contains the whole history");
    for kind in behind {
        world.app.faults.release("orders", kind);
    }
    for source in ["stock", "coupons", "wallet"] {
        let behind = format!(
            "select (select max(seq) from {source}_outbox)-(select coalesce(max(seq),0) from orders_positions where source='{source}')"
        );
        world.app.eventually(&behind, 0).await;
    }
    assert_eq!(world.get(id_of(&made)).await, made.body);
    world.audit().await;
}

// G3, G5: the undo slip overtakes a delayed slip of the order. A restart loses neither.
#[tokio::test]
async fn a_delayed_slip_times_out_and_is_undone() {
    for (reader, kind) in [("stock", "orders.slip"), ("coupons", "stock.slip"), ("wallet", "coupons.slip")] {
        let world = world(false).await;
        world.app.faults.hold(reader, kind);
        let id = world.start_order(&world.full_paid()).await;
        let source = kind.split_once('.').expect("a kind").0;
        world.app.eventually(&format!("select count(*) from {source}_outbox where kind='{kind}'"), 1).await;
        world.advance_clock(PAST_STEP_DEADLINE).await;
        let world = world.restart().await;
        world.wait_for_state(id, "FAILED").await;
        assert_eq!(world.get(id).await["reason"]["type"], "step-timed-out");
        let runs: Vec<u32> = slips(&world, id).await.iter().map(|slip| slip.run).collect();
        assert_eq!(runs, [1, 2], "{reader} {kind}");
        world.audit().await;
    }
}

// G3: the mode belongs to the order. A later change of the setting does not affect it.
#[tokio::test]
async fn an_order_ends_in_the_mode_it_began_in() {
    let world = world(false).await;
    let choreographed = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
    let world = world.restart_as(Orchestrated).await;
    let orchestrated = world.order_in_state(&world.full(), "AWAITING_PAYMENT").await;
    let world = world.restart_as(Choreographed).await;
    for id in [choreographed, orchestrated] {
        let paid = world.pay(id, &id.to_string()).await.expect(200);
        assert_eq!(paid.body["state"], "PAID");
        world.expect_received(id, &[&DOS[..], &FINALS[..3]].concat()).await;
    }
    assert_eq!(world.emitted_kinds(choreographed).await, [&["orders.slip", "orders.slip"], &FINALS[..]].concat());
    assert_eq!(world.emitted_kinds(orchestrated).await, [&DOS[..], &FINALS].concat());
    world.audit().await;
}

#[tokio::test]
async fn a_slip_of_an_unknown_order_is_ignored() {
    let world = world(true).await;
    let id = world.order_in_state(&world.plain_paid(), "PAID").await;
    let unknown = OrderId(kit::ports::new_id());
    let stray = RoutingSlip { order_id: unknown, next: None, ..slips(&world, id).await.swap_remove(0) };
    world.app.emit("stock", unknown, Message::StockSlip(stray)).await;
    let id = world.order_in_state(&world.plain_paid(), "PAID").await;
    world.expect_messages(id, &["stock.reserve", "payment.request", "stock.commit", "order.paid"]).await;
    world.audit().await;
}
