//! Choreographed checkouts: the itinerary travels from participant to participant, and comes to the same as orchestrated ones (G3).

use crate::{
    others::{Reaction, passed_on},
    world::{Code, STEP, UNPAID, World, history, id_of, states},
};
use contracts::{
    Message, OrderId,
    messages::{Outcome, RoutingSlip, Visit},
};
use orders::SagaMode::{Choreographed, Orchestrated};
use serde_json::json;
use std::time::Duration;

const DOS: [&str; 5] = ["stock.reserve", "coupon.hold", "points.hold", "stock.take", "payment.request"];
const FINALS: [&str; 4] = ["stock.commit", "coupon.use", "points.use", "order.paid"];
const UNDOS: [&str; 4] = ["payment.cancel", "points.unhold", "coupon.unhold", "stock.release"];

async fn world(fold: bool) -> World {
    World::led((fold, Choreographed)).await
}

/// Slips that an order sent off so far.
async fn slips(world: &World, id: OrderId) -> Vec<RoutingSlip> {
    world.messages(id).await.iter().filter_map(|message| message.slip().cloned()).collect()
}

// G3, O1, G1, G2
#[tokio::test]
async fn one_slip_orders_and_pays() {
    for fold in [true, false] {
        let world = world(fold).await;
        let made = world.order("k", &world.full_paid()).await.expect(201);
        let id = id_of(&made);
        assert_eq!(states(&made.body), ["PENDING", "PAYING", "PAID"]);
        assert_eq!(history(&made.body), DOS.map(|step| format!("{step} DO OK")));
        assert_eq!(made.body["saga"]["state"], "DONE");
        assert_eq!(world.story(id).await, [&["orders.slip"], &FINALS[..]].concat());
        world.expect_story(id, &[&DOS[..], &FINALS].concat()).await;
        assert_eq!(world.get(id).await, made.body);
        world.audit().await;
    }
}

// G3, Y2: a refused payment leaves what is held; the next attempt is a slip of its own.
#[tokio::test]
async fn an_order_is_placed_by_one_slip_and_paid_by_others() {
    for fold in [true, false] {
        let world = world(fold).await;
        let id = world.ordered(&world.full(), "AWAITING_PAYMENT").await;
        world.expect_story(id, &DOS[..3]).await;
        world.meet("payment.request", Reaction::Refuse(Code::InsufficientFunds));
        let _ = world.pay(id, "p1").await.expect_problem(409, "insufficient-funds");
        assert_eq!(world.get(id).await["state"], "AWAITING_PAYMENT");
        world.meet("payment.request", Reaction::Comply);
        let paid = world.pay(id, "p2").await.expect(200);
        assert_eq!(paid.body["state"], "PAID");
        world.expect_story(id, &[&DOS[..], &["payment.request"], &FINALS].concat()).await;
        let runs: Vec<u32> = slips(&world, id).await.iter().map(|slip| slip.run).collect();
        assert_eq!(runs, [1, 2, 3]);
        world.audit().await;
    }
}

// G3, decision 1: gone at payment, what the first slip held is given back by the second.
#[tokio::test]
async fn a_slip_that_pays_goes_back_over_what_another_held() {
    for fold in [true, false] {
        let world = world(fold).await;
        let id = world.ordered(&world.full(), "AWAITING_PAYMENT").await;
        world.meet("stock.take", Reaction::Refuse(Code::OutOfStock));
        let _ = world.pay(id, "p").await.expect_problem(409, "out-of-stock");
        world.expect_story(id, &[&DOS[..4], &UNDOS[1..], &["order.failed"]].concat()).await;
        assert_eq!(world.get(id).await["state"], "FAILED");
        world.audit().await;
    }
}

// G3, O7, O8
#[tokio::test]
async fn orders_are_cancelled_and_expire_by_a_slip_back() {
    for fold in [true, false] {
        let world = world(fold).await;
        let paid = world.ordered(&world.full_paid(), "PAID").await;
        world.expect_story(paid, &[&DOS[..], &FINALS].concat()).await;
        let gone = world.cancel(paid, "c").await.expect(200);
        assert_eq!((&gone.body["state"], &gone.body["saga"]["state"]), (&json!("CANCELLED"), &json!("UNDONE")));
        world.expect_story(paid, &[&DOS[..], &FINALS, &UNDOS, &["order.cancelled"]].concat()).await;
        let unpaid = world.ordered(&world.full(), "AWAITING_PAYMENT").await;
        let _ = world.cancel(unpaid, "c2").await.expect(200);
        world.expect_story(unpaid, &[&DOS[..3], &UNDOS[1..], &["order.cancelled"]].concat()).await;
        let forgotten = world.ordered(&world.full(), "AWAITING_PAYMENT").await;
        world.pass(UNPAID).await;
        world.reaches(forgotten, "EXPIRED").await;
        world.pass(UNPAID).await;
        world.expect_story(forgotten, &[&DOS[..3], &UNDOS[1..], &["order.expired"]].concat()).await;
        world.audit().await;
    }
}

// G3: what a participant does with the slip while the buyer cancels is undone as well, wherever the slip is by then.
#[tokio::test]
async fn a_pending_order_is_undone_as_far_as_its_slip_may_be() {
    for fold in [true, false] {
        let world = world(fold).await;
        world.meet("coupon.hold", Reaction::Silence);
        let id = world.started(&world.full_paid()).await;
        world.hear(id, &DOS[..2]).await;
        let gone = world.cancel(id, "c").await.expect(200);
        assert_eq!(states(&gone.body), ["PENDING", "CANCELLING", "CANCELLED"]);
        world.expect_story(id, &[&DOS[..2], &UNDOS, &["order.cancelled"]].concat()).await;
        // The first slip comes through after all: it is older than the one that undid everything.
        let mut late = slips(&world, id).await.swap_remove(0);
        late.next = None;
        late.log = (0..late.stops.len()).map(|stop| Visit { stop, outcome: Outcome::Done, at: world.app.clock_now() }).collect();
        let before = world.get(id).await;
        world.app.emit("payments", id, passed_on("payments", late)).await;
        let read =
            "select (select max(seq) from payments_outbox)-(select coalesce(max(seq),0) from orders_positions where source='payments')";
        world.app.eventually(read, 0).await;
        assert_eq!(world.get(id).await, before);
        world.audit().await;
    }
}

/// Every message of a choreographed checkout at each of its readers.
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

/// Hop by hop, some readers come to a slip after the order has come to rest.
async fn struck(world: &World, reader: &str, kind: &str) {
    for _ in 0..500 {
        if world.app.faults.struck(reader, kind) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{reader} never met the trouble with {kind}");
}

// G3, G4, G5: each slip comes twice, and each handler fails once.
#[tokio::test]
async fn every_slip_may_come_twice_or_fail_once() {
    for fold in [true, false] {
        for (reader, kind) in READINGS {
            for repeat in [true, false] {
                let world = world(fold).await;
                if repeat {
                    world.app.faults.repeat(reader, kind, 1);
                } else {
                    world.app.faults.fail(reader, kind, 1);
                }
                let id = world.ordered(&world.full_paid(), "PAID").await;
                struck(&world, reader, kind).await;
                assert_eq!(world.story(id).await, [&["orders.slip"], &FINALS[..]].concat(), "{reader} {kind}");
                let order = world.get(id).await;
                assert_eq!(history(&order), DOS.map(|step| format!("{step} DO OK")), "{reader} {kind}");
                world.audit().await;
            }
        }
    }
}

// G3: orders hears the end first, and the way there afterwards.
#[tokio::test]
async fn orders_may_be_far_behind_its_slips() {
    let world = world(false).await;
    let behind = ["stock.slip", "coupons.slip", "wallet.slip"];
    for kind in behind {
        world.app.faults.hold("orders", kind);
    }
    let made = world.order("k", &world.full_paid()).await.expect(201);
    assert_eq!(history(&made.body), DOS.map(|step| format!("{step} DO OK")), "the last slip alone tells everything");
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

// G3, G5: a slip that is held up is overtaken by the slip back of its order; a restart loses neither.
#[tokio::test]
async fn a_slip_that_is_held_up_is_given_up() {
    for (reader, kind) in [("stock", "orders.slip"), ("coupons", "stock.slip"), ("wallet", "coupons.slip")] {
        let world = world(false).await;
        world.app.faults.hold(reader, kind);
        let id = world.started(&world.full_paid()).await;
        let source = kind.split_once('.').expect("a kind").0;
        world.app.eventually(&format!("select count(*) from {source}_outbox where kind='{kind}'"), 1).await;
        world.pass(STEP).await;
        let world = world.restart().await;
        world.reaches(id, "FAILED").await;
        assert_eq!(world.get(id).await["reason"]["type"], "step-timed-out");
        let runs: Vec<u32> = slips(&world, id).await.iter().map(|slip| slip.run).collect();
        assert_eq!(runs, [1, 2], "{reader} {kind}");
        world.audit().await;
    }
}

// G3: the mode is the order's, not the mall's.
#[tokio::test]
async fn an_order_ends_in_the_mode_it_began_in() {
    let world = world(false).await;
    let choreographed = world.ordered(&world.full(), "AWAITING_PAYMENT").await;
    let world = world.restart_as(Orchestrated).await;
    let orchestrated = world.ordered(&world.full(), "AWAITING_PAYMENT").await;
    let world = world.restart_as(Choreographed).await;
    for id in [choreographed, orchestrated] {
        let paid = world.pay(id, &id.to_string()).await.expect(200);
        assert_eq!(paid.body["state"], "PAID");
        world.hear(id, &[&DOS[..], &FINALS[..3]].concat()).await;
    }
    assert_eq!(world.story(choreographed).await, [&["orders.slip", "orders.slip"], &FINALS[..]].concat());
    assert_eq!(world.story(orchestrated).await, [&DOS[..], &FINALS].concat());
    world.audit().await;
}

#[tokio::test]
async fn a_slip_of_an_unknown_order_harms_nobody() {
    let world = world(true).await;
    let id = world.ordered(&world.plain_paid(), "PAID").await;
    let nobody = OrderId(kit::ports::new_id());
    let stray = RoutingSlip { order_id: nobody, next: None, ..slips(&world, id).await.swap_remove(0) };
    world.app.emit("stock", nobody, Message::StockSlip(stray)).await;
    let id = world.ordered(&world.plain_paid(), "PAID").await;
    world.expect_story(id, &["stock.reserve", "payment.request", "stock.commit", "order.paid"]).await;
    world.audit().await;
}
