//! F30: payments reach the state in the provider's ledger despite all provider faults, and reply to the order once.

use super::{CALL_TIMEOUT, Purchase, app, audit, ledger_path, pass_time, provider_rows, restarted};
use contracts::messages::PaymentMethod;
use kit::db::{Synchronous, params};
use std::time::Duration;
use testkit::App;

async fn settled(token: Option<&str>, state: &str) -> (App, Purchase) {
    let app = app().await;
    let purchase = Purchase::of(7_000);
    purchase.pay(&app, PaymentMethod::Test, token).await;
    purchase.wait_for_state(&app, state).await;
    // Time for late and repeated answers.
    for _ in 0..20 {
        pass_time(&app).await;
    }
    audit(&app).await;
    (app, purchase)
}

async fn calls(app: &App) -> i64 {
    provider_rows::<(i64,)>(app, "select count(*) from psp_calls").await[0].0
}

// Y1: no fault.
#[tokio::test]
async fn an_approved_charge_is_called_once() {
    for token in [None, Some("approve")] {
        let (app, purchase) = settled(token, "APPROVED").await;
        assert_eq!(purchase.emitted(&app).await, ["payment.approved"]);
        assert_eq!(calls(&app).await, 1);
    }
}

#[tokio::test]
async fn a_declined_charge_fails_the_payment() {
    for token in ["decline", "no-such-token"] {
        let (app, purchase) = settled(Some(token), "FAILED").await;
        assert_eq!(purchase.emitted(&app).await, ["payment.failed payment-failed"]);
        assert_eq!(provider_rows::<(i64,)>(&app, "select count(*) from psp_charges where captured").await, [(0,)]);
    }
}

// The call is lost before the charge: it is repeated with the same key after the provider's record deadline.
#[tokio::test]
async fn a_call_lost_before_the_charge_is_repeated() {
    let (app, purchase) = settled(Some("timeout_before_charge"), "APPROVED").await;
    assert_eq!(purchase.emitted(&app).await, ["payment.approved"]);
    assert_eq!((calls(&app).await, provider_rows::<(i64,)>(&app, "select count(distinct psp_key) from psp_calls").await), (2, vec![(1,)]));
}

// The answer is lost: the charge is looked up, and not repeated.
#[tokio::test]
async fn a_charge_with_a_lost_answer_is_found() {
    let (app, purchase) = settled(Some("timeout_after_charge"), "APPROVED").await;
    assert_eq!(purchase.emitted(&app).await, ["payment.approved"]);
    assert_eq!(calls(&app).await, 1);
}

// An error is not a refusal: the money was captured.
#[tokio::test]
async fn a_charge_answered_with_an_error_is_found() {
    let (app, purchase) = settled(Some("error_after_charge"), "APPROVED").await;
    assert_eq!(purchase.emitted(&app).await, ["payment.approved"]);
    assert_eq!(calls(&app).await, 1);
}

#[tokio::test]
async fn a_repeated_answer_approves_once() {
    let (app, purchase) = settled(Some("answer_twice"), "APPROVED").await;
    assert_eq!(purchase.emitted(&app).await, ["payment.approved"]);
}

#[tokio::test]
async fn a_slow_answer_approves_with_one_call() {
    let (app, purchase) = settled(Some("slow"), "APPROVED").await;
    assert_eq!((purchase.emitted(&app).await, calls(&app).await), (vec!["payment.approved".to_owned()], 1));
}

// A payment with unknown outcome stays open: the order gets no reply, and cannot be paid a second time meanwhile.
#[tokio::test]
async fn an_unknown_outcome_is_not_a_failure() {
    let app = app().await;
    let purchase = Purchase::of(7_000);
    purchase.pay(&app, PaymentMethod::Test, Some("timeout_after_charge")).await;
    app.eventually("select count(*) from payments_payments where state='UNKNOWN'", 1).await;
    assert_eq!(purchase.emitted(&app).await, Vec::<String>::new());
    purchase.again().pay(&app, PaymentMethod::Wallet, None).await;
    assert_eq!(purchase.emitted(&app).await, ["payment.failed payment-in-progress"]);
    purchase.wait_for_state(&app, "APPROVED").await;
    audit(&app).await;
}

// G5: the process stops after storing the intent, before the call. The next process looks the charge up, waits for the record deadline,
// and calls.
#[tokio::test]
async fn an_intent_left_by_a_crash_is_charged() {
    let app = app().await;
    let purchase = Purchase::of(7_000);
    let mut writer = app.kit().db.open_writer().await.expect("opens");
    let key = format!("onrush-{}", purchase.payment_id.0.simple());
    let (now, lease) = (app.clock_now(), app.clock_now().after(CALL_TIMEOUT * 2));
    let sql = "insert into payments_payments (id, order_id, member_id, method, amount, state, provider_key, attempts, next_try_at, \
               called_until, created_at, updated_at) values ($1,$2,$3,'test',$4,'INTENT',$5,0,$6,$6,$7,$7)";
    let row = params![purchase.payment_id, purchase.order_id, purchase.member_id, purchase.amount, &key, lease, now];
    writer.execute(sql, &row).await.expect("as the crash left it");
    let app = restarted(app).await;
    purchase.wait_for_state(&app, "APPROVED").await;
    assert_eq!((purchase.emitted(&app).await, calls(&app).await), (vec!["payment.approved".to_owned()], 1));
    assert!(app.clock_now() >= lease.after(Duration::from_secs(5)), "not before the provider's record deadline");
    audit(&app).await;
}

// G5: the process stops after the charge, before storing the answer. The next process looks the charge up and does not call.
#[tokio::test]
async fn a_charge_before_a_crash_is_found() {
    let app = app().await;
    let purchase = Purchase::of(7_000);
    purchase.pay(&app, PaymentMethod::Test, Some("timeout_after_charge")).await;
    app.eventually("select count(*) from payments_payments where state='UNKNOWN'", 1).await;
    let app = restarted(app).await;
    purchase.wait_for_state(&app, "APPROVED").await;
    assert_eq!((purchase.emitted(&app).await, calls(&app).await), (vec!["payment.approved".to_owned()], 1));
    audit(&app).await;
}

// F10, F30: the provider hangs beyond the call time-out, and the call takes effect later.
#[tokio::test]
async fn a_call_with_a_late_effect_is_found() {
    let app = app().await;
    let warm_up = Purchase::of(1_000);
    warm_up.pay(&app, PaymentMethod::Test, None).await;
    warm_up.wait_for_state(&app, "APPROVED").await;
    let mut hanging = kit::Db::sqlite(ledger_path(app.folder()), Synchronous::Full).open_writer().await.expect("opens");
    hanging.begin().await.expect("locks the ledger");
    let purchase = Purchase::of(7_000);
    purchase.pay(&app, PaymentMethod::Test, None).await;
    app.eventually("select count(*) from payments_payments where state='UNKNOWN'", 1).await;
    assert_eq!(purchase.emitted(&app).await, Vec::<String>::new());
    hanging.rollback().await.expect("unlocks the ledger");
    purchase.wait_for_state(&app, "APPROVED").await;
    assert_eq!(purchase.emitted(&app).await, ["payment.approved"]);
    audit(&app).await;
}

// Y2, I-P1: many orders at once with different faults: each ends, and is charged at most once.
#[tokio::test]
async fn many_payments_with_many_faults_balance() {
    let app = app().await;
    let tokens = [
        "approve",
        "decline",
        "timeout_before_charge",
        "timeout_after_charge",
        "error_after_charge",
        "answer_twice",
        "slow",
        "refund_fails_once",
    ];
    let purchases: Vec<(Purchase, &str)> = (0..40).map(|n| (Purchase::of(1_000 + n), tokens[n as usize % tokens.len()])).collect();
    futures::future::join_all(purchases.iter().map(|(purchase, token)| purchase.pay(&app, PaymentMethod::Test, Some(token)))).await;
    for (purchase, _) in purchases.iter().step_by(3) {
        purchase.cancel(&app).await;
    }
    for (n, (purchase, token)) in purchases.iter().enumerate() {
        let cancelled = n % 3 == 0;
        let emitted = loop {
            let emitted = purchase.emitted(&app).await;
            if emitted.iter().any(|emitted| emitted == "payment.cancelled" || (!cancelled && emitted.starts_with("payment."))) {
                break emitted;
            }
            pass_time(&app).await;
        };
        let once = |kind: &str| emitted.iter().filter(|emitted| emitted.starts_with(kind)).count() <= 1;
        assert!(once("payment.approved") && once("payment.failed") && once("payment.cancelled"), "{token}: {emitted:?}");
    }
    audit(&app).await;
}
