//! Every message of a checkout, in both directions, fails once, comes twice, and comes after the deadline: at each of its readers,
//! folded and hop by hop, orchestrated and choreographed. Afterwards every order is completed or fully undone, nothing is held, and the audit is clean.
//! (G1, G3, G4, G5, E2, S9 with both policies, C18.)
//!
//! The list of messages is made from the code: whatever a service reads from another's stream is on it.

mod stories;
mod trial;

use crate::mall::{Mall, folds};
use onrush::{documents::readings, settings::SagaMode};
use std::collections::BTreeMap;
use stories::Story;
use trial::{Place, Trial, Trouble};

/// Read from streams, and not part of any order's course.
const ELSEWHERE: &[&str] = &["skus.listed", "store.created"];

/// Said to who holds something when the order is paid, however the checkout was led.
const FINAL: &[&str] = &["stock.commit", "coupon.use", "points.use"];

/// Every reader of every message that belongs to an order led like this.
fn places(saga: SagaMode) -> Vec<Place> {
    let mut places = Vec::new();
    let of_this_way = |kind: &str| {
        let of_both = kind.starts_with("order.") || FINAL.contains(&kind);
        // What orders and the participants of an orchestrated checkout ask and answer, a choreographed one says on slips.
        of_both || kind.ends_with(".slip") == (saga == SagaMode::Choreographed)
    };
    for (reader, source, kinds) in readings() {
        let kinds = kinds.into_iter().filter(|kind| !ELSEWHERE.contains(kind) && of_this_way(kind));
        places.extend(kinds.map(|kind| Place { reader, source, kind }));
    }
    places
}

/// Which story brings a message to its reader, and how that story ends when nothing goes wrong.
async fn untroubled(mall: &Mall) -> BTreeMap<Place, (Story, Vec<String>)> {
    let mut found = BTreeMap::new();
    for story in Story::ALL {
        let trial = Trial::of(mall, None, Trouble::Fail).await;
        story.play(&trial).await;
        let states = story.outcome(trial.states().await);
        assert_eq!(states, story.ends(), "{story:?}");
        for place in trial.reached(&places(mall.settings.saga)).await {
            found.entry(place).or_insert_with(|| (*story, states.clone()));
        }
        mall.expect_clean(&format!("{story:?}")).await;
    }
    found
}

async fn stage(fold: bool, saga: SagaMode) -> Mall {
    Mall::with(|settings| (settings.fold, settings.saga, settings.test_provider) = (fold, saga, true)).await
}

async fn trouble_everywhere(fold: bool, saga: SagaMode) {
    let mall = stage(fold, saga).await;
    let stories = untroubled(&mall).await;
    let never: Vec<Place> = places(saga).into_iter().filter(|place| !stories.contains_key(place)).collect();
    assert!(never.is_empty(), "no story brings these to their reader: {never:?}");
    for (place, (story, states)) in &stories {
        for trouble in [Trouble::Fail, Trouble::Repeat, Trouble::Late] {
            let named = format!("{place:?} {trouble:?} in {story:?}, fold {fold}, {saga:?}");
            let trial = Trial::of(&mall, Some(*place), trouble).await;
            story.play(&trial).await;
            trial.ends(&named);
            let ended = story.outcome(trial.states().await);
            if trouble == Trouble::Late {
                let at_rest = |state: &String| ["PAID", "CONFIRMED", "FAILED", "CANCELLED"].contains(&state.as_str());
                assert!(ended.iter().all(at_rest), "{named}: {ended:?}");
            } else {
                assert_eq!(&ended, states, "{named}");
            }
            assert_eq!(mall.app.sql_i64(NOT_AT_REST).await, 0, "{named}: something is held, or does not end");
        }
        mall.expect_clean(&format!("after every trouble of {place:?} in {story:?}, fold {fold}, {saga:?}")).await;
    }
}

/// Stories leave nothing open, so this counts what a trouble left behind.
const NOT_AT_REST: &str = "select cast((select count(*) from orders_orders where saga_state not in ('DONE','UNDONE'))
    +(select coalesce(sum(reserved),0) from stock_items)+(select count(*) from stock_holds where state='ACTIVE')
    +(select coalesce(sum(held),0) from wallet_accounts)+(select count(*) from wallet_holds where state='HELD')
    +(select count(*) from coupons_issued where state='HELD')+(select count(*) from coupons_holds where state='HELD')
    +(select count(*) from payments_payments where state in ('INTENT','UNKNOWN'))+(select count(*) from payments_refunds where state='PENDING')
    +(select count(*) from orders_dead_letters)+(select count(*) from stock_dead_letters)+(select count(*) from coupons_dead_letters)
    +(select count(*) from wallet_dead_letters)+(select count(*) from payments_dead_letters) as BIGINT)";

#[tokio::test(flavor = "multi_thread")]
async fn every_message_fails_comes_twice_and_comes_late() {
    for fold in folds() {
        trouble_everywhere(*fold, SagaMode::Orchestrated).await;
    }
}

// G3
#[tokio::test(flavor = "multi_thread")]
async fn every_slip_fails_comes_twice_and_comes_late() {
    for fold in folds() {
        trouble_everywhere(*fold, SagaMode::Choreographed).await;
    }
}
