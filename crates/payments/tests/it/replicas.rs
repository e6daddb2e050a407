//! Several processes on one database, with one provider: an order is charged once, whichever process reconciles it.

use super::{Purchase, audit, ledger_path, provider_rows, services};
use contracts::{Message, messages::PaymentMethod};
use futures::future::join_all;
use kit::{Fault, Module};
use payments::{Payments, PaymentsSettings};
use std::time::Duration;
use testkit::App;

async fn two_processes() -> (App, App) {
    let builder = App::builder().on_postgres().partitions(4);
    let ledger = ledger_path(&builder.folder());
    let one = builder.start(|kit| services(kit, Some(ledger.clone()))).await;
    let other = one.start_another_process(|kit| services(kit, Some(ledger.clone()))).await;
    (one, other)
}

/// Advances the clock and runs `payments.reconcile` in both processes.
async fn pass_time(one: &App, other: &App) {
    one.clock.advance(Duration::from_millis(250));
    tokio::join!(one.job("payments.reconcile"), other.job("payments.reconcile"));
}

// Y2, I-P1: many orders at once with different faults, reconciled by two processes
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_payments_with_many_faults_balance() {
    let (one, other) = two_processes().await;
    let tokens =
        ["approve", "decline", "timeout_before_charge", "timeout_after_charge", "error_after_charge", "answer_twice", "refund_fails_once"];
    let purchases: Vec<(Purchase, &str)> = (0..35).map(|n| (Purchase::of(1_000 + n), tokens[n as usize % tokens.len()])).collect();
    join_all(purchases.iter().enumerate().map(|(n, (purchase, token))| {
        let app = if n % 2 == 0 { &one } else { &other };
        purchase.pay(app, PaymentMethod::Test, Some(token))
    }))
    .await;
    join_all(purchases.iter().enumerate().filter(|(n, _)| n % 3 == 0).map(|(n, (purchase, _))| {
        let app = if n % 2 == 0 { &other } else { &one };
        purchase.cancel(app)
    }))
    .await;
    for (n, (purchase, token)) in purchases.iter().enumerate() {
        let cancelled = n % 3 == 0;
        let mut emitted = Vec::new();
        for _ in 0..600 {
            emitted = purchase.emitted(&one).await;
            if emitted.iter().any(|emitted| emitted == "payment.cancelled" || (!cancelled && emitted.starts_with("payment."))) {
                break;
            }
            pass_time(&one, &other).await;
        }
        let count = |kind: &str| emitted.iter().filter(|emitted| emitted.starts_with(kind)).count();
        assert!(count("payment.approved") <= 1 && count("payment.failed") <= 1, "{token}: {emitted:?}");
        assert_eq!(count("payment.cancelled"), usize::from(cancelled), "{token}: {emitted:?}");
    }
    audit(&one).await;
}

// Y1: the wallet's answers for many orders reach either process
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wallet_answers_are_handled_by_either_process() {
    let (one, other) = two_processes().await;
    let purchases: Vec<Purchase> = (0..20).map(|_| Purchase::of(4_000)).collect();
    join_all(purchases.iter().map(|purchase| purchase.pay(&one, PaymentMethod::Wallet, None))).await;
    join_all(purchases.iter().enumerate().map(|(n, purchase)| {
        let (one, other) = (&one, &other);
        async move {
            // The wallet's answer and the undo come at the same time.
            let answer = purchase.wallet_answers(if n % 2 == 0 { one } else { other }, Message::WalletDebited);
            if n % 4 == 0 {
                tokio::join!(answer, purchase.cancel(other));
                purchase.wallet_answers(one, Message::WalletCredited).await;
            } else {
                answer.await;
            }
        }
    }))
    .await;
    for (n, purchase) in purchases.iter().enumerate() {
        let state = purchase.state(&one).await;
        assert_eq!(state, if n % 4 == 0 { "CANCELLED" } else { "APPROVED" }, "{:?}", purchase.emitted(&one).await);
    }
    assert_eq!(one.sql_i64("select count(*) from payments_dead_letters").await, 0);
}

// G5, F30: payments left open by a crashed process are settled once by another
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_left_open_by_one_process_are_settled_by_another() {
    let (one, other) = two_processes().await;
    let purchases: Vec<Purchase> = (0..5).map(|_| Purchase::of(7_000)).collect();
    for purchase in &purchases {
        purchase.pay(&one, PaymentMethod::Test, Some("timeout_before_charge")).await;
    }
    one.eventually("select count(*) from payments_payments where state='UNKNOWN'", 5).await;
    for _ in 0..600 {
        pass_time(&one, &other).await;
        if one.sql_i64("select count(*) from payments_payments where state='APPROVED'").await == 5 {
            break;
        }
    }
    for purchase in &purchases {
        assert_eq!(purchase.emitted(&one).await, ["payment.approved"]);
    }
    let charged: Vec<(i64,)> = provider_rows(&one, "select count(*) from psp_charges where captured").await;
    assert_eq!(charged, [(5,)]);
    audit(&one).await;
}

// Without a database file, the ledger file of the test provider must be set.
#[tokio::test]
async fn the_test_provider_requires_a_ledger_file() {
    let app = App::builder().on_postgres().start(|kit| services(kit, None)).await;
    let settings = PaymentsSettings { test_provider: true, ..PaymentsSettings::default() };
    let refused = Payments::new(app.kit().clone(), settings).start().await.expect_err("no ledger file");
    assert!(matches!(&refused, Fault::Setting(text) if text.contains("book")), "{refused}");
}
