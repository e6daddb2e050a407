//! Every message of a checkout, in both directions, fails once, comes twice, and comes after the deadline: at each of its readers,
//! folded and hop by hop, orchestrated and choreographed. Afterwards every order is completed or fully undone, nothing is held, and the audit is clean.
//! (G1, G3, G4, G5, S9 with both policies, C18.)
//!
//! The list of messages is made from the code: whatever a service reads from another's stream is on it.

mod stories;
mod trial;

use crate::stage::Stage;
use onrush::{documents::readings, settings::SagaMode};
use std::collections::BTreeMap;
use stories::Story;
use trial::{Place, Trial, Trouble};

/// Read from streams, and not part of any order's course.
const ELSEWHERE: &[&str] = &["skus.listed", "store.created"];

/// What orders and the participants of an orchestrated checkout ask and answer. A choreographed one says it on slips.
const ORCHESTRATED: &[&str] = &[
    "stock.reserve",
    "stock.take",
    "stock.release",
    "coupon.hold",
    "coupon.unhold",
    "points.hold",
    "points.unhold",
    "payment.request",
    "payment.cancel",
    "stock.reserved",
    "stock.refused",
    "stock.taken",
    "stock.take_refused",
    "stock.released",
    "coupon.held",
    "coupon.refused",
    "coupon.released",
    "points.held",
    "points.refused",
    "points.released",
    "payment.approved",
    "payment.failed",
    "payment.cancelled",
];

/// Every reader of every message that belongs to an order led like this.
fn places(saga: SagaMode) -> Vec<Place> {
    let mut places = Vec::new();
    let other_way = |kind: &str| match saga {
        SagaMode::Orchestrated => kind.ends_with(".slip"),
        SagaMode::Choreographed => ORCHESTRATED.contains(&kind),
    };
    for (reader, source, kinds) in readings() {
        let kinds = kinds.into_iter().filter(|kind| !ELSEWHERE.contains(kind) && !other_way(kind));
        places.extend(kinds.map(|kind| Place { reader, source, kind }));
    }
    places
}

/// Which story brings a message to its reader, and how that story ends when nothing goes wrong.
async fn untroubled(stage: &Stage) -> BTreeMap<Place, (Story, Vec<String>)> {
    let mut found = BTreeMap::new();
    for story in Story::ALL {
        let trial = Trial::of(stage, None, Trouble::Fail).await;
        story.play(&trial).await;
        let states = trial.states().await;
        assert_eq!(states, story.ends(), "{story:?}");
        for place in trial.reached(&places(stage.settings.saga)).await {
            found.entry(place).or_insert_with(|| (*story, states.clone()));
        }
        stage.assert_clean(&format!("{story:?}")).await;
    }
    found
}

async fn trouble_everywhere(fold: bool, saga: SagaMode) {
    let stage = Stage::led(fold, saga).await;
    let stories = untroubled(&stage).await;
    let never: Vec<Place> = places(saga).into_iter().filter(|place| !stories.contains_key(place)).collect();
    assert!(never.is_empty(), "no story brings these to their reader: {never:?}");
    for (place, (story, states)) in &stories {
        for trouble in [Trouble::Fail, Trouble::Repeat, Trouble::Late] {
            let named = format!("{place:?} {trouble:?} in {story:?}, fold {fold}, {saga:?}");
            let trial = Trial::of(&stage, Some(*place), trouble).await;
            story.play(&trial).await;
            trial.ends(&named);
            let ended = trial.states().await;
            if trouble == Trouble::Late {
                let at_rest = |state: &String| ["PAID", "CONFIRMED", "FAILED", "CANCELLED"].contains(&state.as_str());
                assert!(ended.iter().all(at_rest), "{named}: {ended:?}");
            } else {
                assert_eq!(&ended, states, "{named}");
            }
            stage.assert_clean(&named).await;
            assert_eq!(stage.app.sql_i64(NOT_AT_REST).await, 0, "{named}: something is held, or does not end");
        }
    }
}

/// Stories leave nothing open, so this counts what a trouble left behind.
const NOT_AT_REST: &str = "select (select count(*) from orders_orders where saga_state not in ('DONE','UNDONE'))
    +(select coalesce(sum(reserved),0) from stock_items)+(select count(*) from stock_holds where state='ACTIVE')
    +(select coalesce(sum(held),0) from wallet_accounts)+(select count(*) from wallet_holds where state='HELD')
    +(select count(*) from coupons_issued where state='HELD')+(select count(*) from coupons_holds where state='HELD')
    +(select count(*) from payments_payments where state in ('INTENT','UNKNOWN'))+(select count(*) from payments_refunds where state='PENDING')
    +(select count(*) from orders_dead_letters)+(select count(*) from stock_dead_letters)+(select count(*) from coupons_dead_letters)
    +(select count(*) from wallet_dead_letters)+(select count(*) from payments_dead_letters)";

#[tokio::test(flavor = "multi_thread")]
async fn every_message_fails_comes_twice_and_comes_late_folded() {
    trouble_everywhere(true, SagaMode::Orchestrated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_fails_comes_twice_and_comes_late_hop_by_hop() {
    trouble_everywhere(false, SagaMode::Orchestrated).await;
}

// G3
#[tokio::test(flavor = "multi_thread")]
async fn every_slip_fails_comes_twice_and_comes_late_folded() {
    trouble_everywhere(true, SagaMode::Choreographed).await;
}

// G3
#[tokio::test(flavor = "multi_thread")]
async fn every_slip_fails_comes_twice_and_comes_late_hop_by_hop() {
    trouble_everywhere(false, SagaMode::Choreographed).await;
}
