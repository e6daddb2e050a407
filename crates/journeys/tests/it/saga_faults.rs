//! Every message of a checkout, in both directions, fails once, repeats, and arrives after its deadline. At each reader, folded and hop by
//! hop, orchestrated and choreographed. Afterwards every order is completed or fully undone, nothing is held, and the audit is clean. (G1,
//! G3, G4, G5, E2, S9 with both policies, C18.)
//!
//! The list of messages comes from the code: every kind that a service reads from another's stream.

mod case;
mod cases;

use crate::mall::{Mall, fold_settings};
use case::{CaseRun, DeliveryFault, ReaderMessage};
use cases::OrderCase;
use onrush::{documents::subscriptions, settings::SagaMode};
use std::collections::BTreeMap;

/// Messages that belong to no order.
const OTHER_MESSAGES: &[&str] = &["member.closed", "skus.listed", "store.created"];

/// Sent to the holders when the order is paid, in both saga modes.
const COMMIT_MESSAGES: &[&str] = &["stock.commit", "coupon.use", "points.use"];

/// Every message of an order in this saga mode, at each of its readers.
fn reader_messages(saga: SagaMode) -> Vec<ReaderMessage> {
    let mut reader_messages = Vec::new();
    let is_in_this_mode = |kind: &str| {
        let is_in_both = kind.starts_with("order.") || COMMIT_MESSAGES.contains(&kind);
        // A choreographed checkout sends on slips the requests and answers of an orchestrated one.
        is_in_both || kind.ends_with(".slip") == (saga == SagaMode::Choreographed)
    };
    for (reader, source, kinds) in subscriptions() {
        let kinds = kinds.into_iter().filter(|kind| !OTHER_MESSAGES.contains(kind) && is_in_this_mode(kind));
        reader_messages.extend(kinds.map(|kind| ReaderMessage { reader, source, kind }));
    }
    reader_messages
}

/// Finds for each message a case that delivers it, with the order states of that case without a fault.
async fn run_without_faults(mall: &Mall) -> BTreeMap<ReaderMessage, (OrderCase, Vec<String>)> {
    let mut found = BTreeMap::new();
    for case in OrderCase::ALL {
        let run = CaseRun::of(mall, None, DeliveryFault::Fail).await;
        case.run(&run).await;
        let states = case.comparable(run.states().await);
        assert_eq!(states, case.final_states(), "{case:?}");
        for message in run.delivered(&reader_messages(mall.settings.saga)).await {
            found.entry(message).or_insert_with(|| (*case, states.clone()));
        }
        mall.assert_clean(&format!("{case:?}")).await;
    }
    found
}

async fn open_mall(fold: bool, saga: SagaMode) -> Mall {
    Mall::with(|settings| (settings.fold, settings.saga, settings.test_provider) = (fold, saga, true)).await
}

async fn run_with_each_fault(fold: bool, saga: SagaMode) {
    let mall = open_mall(fold, saga).await;
    let found = run_without_faults(&mall).await;
    let unreached: Vec<ReaderMessage> = reader_messages(saga).into_iter().filter(|message| !found.contains_key(message)).collect();
    assert!(unreached.is_empty(), "no case brings these to their reader: {unreached:?}");
    for (message, (case, states)) in &found {
        for fault in [DeliveryFault::Fail, DeliveryFault::Repeat, DeliveryFault::Late] {
            let context = format!("{message:?} {fault:?} in {case:?}, fold {fold}, {saga:?}");
            let run = CaseRun::of(&mall, Some(*message), fault).await;
            case.run(&run).await;
            run.assert_fault_hit(&context);
            let ended = case.comparable(run.states().await);
            if fault == DeliveryFault::Late {
                let at_rest = |state: &String| ["PAID", "CONFIRMED", "FAILED", "CANCELLED"].contains(&state.as_str());
                assert!(ended.iter().all(at_rest), "{context}: {ended:?}");
            } else {
                assert_eq!(&ended, states, "{context}");
            }
            assert_eq!(mall.app.sql_i64(NOT_AT_REST).await, 0, "{context}: holds or open sagas are left");
        }
        mall.assert_clean(&format!("after every fault of {message:?} in {case:?}, fold {fold}, {saga:?}")).await;
    }
}

/// Cases without a fault leave nothing open, so this counts the leftovers of a fault.
const NOT_AT_REST: &str = "select cast((select count(*) from orders_orders where saga_state not in ('DONE','UNDONE'))
    +(select coalesce(sum(reserved),0) from stock_items)+(select count(*) from stock_holds where state='ACTIVE')
    +(select coalesce(sum(held),0) from wallet_accounts)+(select count(*) from wallet_holds where state='HELD')
    +(select count(*) from coupons_issued where state='HELD')+(select count(*) from coupons_holds where state='HELD')
    +(select count(*) from payments_payments where state in ('INTENT','UNKNOWN'))+(select count(*) from payments_refunds where state='PENDING')
    +(select count(*) from orders_dead_letters)+(select count(*) from stock_dead_letters)+(select count(*) from coupons_dead_letters)
    +(select count(*) from wallet_dead_letters)+(select count(*) from payments_dead_letters) as BIGINT)";

#[tokio::test(flavor = "multi_thread")]
async fn every_message_fails_repeats_and_comes_late() {
    for fold in fold_settings() {
        run_with_each_fault(*fold, SagaMode::Orchestrated).await;
    }
}

// G3
#[tokio::test(flavor = "multi_thread")]
async fn every_slip_fails_repeats_and_comes_late() {
    for fold in fold_settings() {
        run_with_each_fault(*fold, SagaMode::Choreographed).await;
    }
}
