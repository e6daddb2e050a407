//! F30: whatever the provider does, our book comes to say what its book says, and the order hears it once.

use super::{CALL_TIMEOUT, Purchase, app, audit, book_in, pass_time, provider_rows, restarted};
use contracts::messages::PaymentMethod;
use kit::{
    db::{Synchronous, params},
    testing::App,
};
use std::time::Duration;

async fn settled(token: Option<&str>, state: &str) -> (App, Purchase) {
    let app = app().await;
    let purchase = Purchase::of(7_000);
    purchase.pay(&app, PaymentMethod::Test, token).await;
    purchase.comes_to(&app, state).await;
    // What comes late or twice has its chance.
    for _ in 0..20 {
        pass_time(&app).await;
    }
    audit(&app).await;
    (app, purchase)
}

async fn calls(app: &App) -> i64 {
    provider_rows::<(i64,)>(app, "select count(*) from psp_calls").await[0].0
}

// Y1: the plain way.
#[tokio::test]
async fn approve() {
    for token in [None, Some("approve")] {
        let (app, purchase) = settled(token, "APPROVED").await;
        assert_eq!(purchase.told(&app).await, ["payment.approved"]);
        assert_eq!(calls(&app).await, 1);
    }
}

#[tokio::test]
async fn decline() {
    for token in ["decline", "no-such-token"] {
        let (app, purchase) = settled(Some(token), "FAILED").await;
        assert_eq!(purchase.told(&app).await, ["payment.failed payment-failed"]);
        assert_eq!(provider_rows::<(i64,)>(&app, "select count(*) from psp_charges where captured").await, [(0,)]);
    }
}

// The call is lost on its way there: after the provider's promise has run out it is made again, under the same key.
#[tokio::test]
async fn timeout_before_charge() {
    let (app, purchase) = settled(Some("timeout_before_charge"), "APPROVED").await;
    assert_eq!(purchase.told(&app).await, ["payment.approved"]);
    assert_eq!((calls(&app).await, provider_rows::<(i64,)>(&app, "select count(distinct psp_key) from psp_calls").await), (2, vec![(1,)]));
}

// The answer is lost: the provider is asked, and never called a second time.
#[tokio::test]
async fn timeout_after_charge() {
    let (app, purchase) = settled(Some("timeout_after_charge"), "APPROVED").await;
    assert_eq!(purchase.told(&app).await, ["payment.approved"]);
    assert_eq!(calls(&app).await, 1);
}

// An error is no refusal: the money was taken.
#[tokio::test]
async fn error_after_charge() {
    let (app, purchase) = settled(Some("error_after_charge"), "APPROVED").await;
    assert_eq!(purchase.told(&app).await, ["payment.approved"]);
    assert_eq!(calls(&app).await, 1);
}

#[tokio::test]
async fn answer_twice() {
    let (app, purchase) = settled(Some("answer_twice"), "APPROVED").await;
    assert_eq!(purchase.told(&app).await, ["payment.approved"]);
}

#[tokio::test]
async fn slow() {
    let (app, purchase) = settled(Some("slow"), "APPROVED").await;
    assert_eq!((purchase.told(&app).await, calls(&app).await), (vec!["payment.approved".to_owned()], 1));
}

// A state nobody knows stays open: the order is told nothing, and cannot be paid a second time meanwhile.
#[tokio::test]
async fn unknown_is_not_a_failure() {
    let app = app().await;
    let purchase = Purchase::of(7_000);
    purchase.pay(&app, PaymentMethod::Test, Some("timeout_after_charge")).await;
    app.eventually("select count(*) from payments_payments where state='UNKNOWN'", 1).await;
    assert_eq!(purchase.told(&app).await, Vec::<String>::new());
    purchase.again().pay(&app, PaymentMethod::Wallet, None).await;
    assert_eq!(purchase.told(&app).await, ["payment.failed payment-in-progress"]);
    purchase.comes_to(&app, "APPROVED").await;
    audit(&app).await;
}

// G5: the process stops right after the intent is durable, before anyone called: the next one asks, waits out the promise, and calls.
#[tokio::test]
async fn a_forgotten_intent_is_carried_out() {
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
    purchase.comes_to(&app, "APPROVED").await;
    assert_eq!((purchase.told(&app).await, calls(&app).await), (vec!["payment.approved".to_owned()], 1));
    assert!(app.clock_now() >= lease.after(Duration::from_secs(5)), "not before the provider's promise had run out");
    audit(&app).await;
}

// G5: the process stops after the provider charged, before its answer was written down: the next one asks and never calls.
#[tokio::test]
async fn a_charge_nobody_heard_of_is_found() {
    let app = app().await;
    let purchase = Purchase::of(7_000);
    purchase.pay(&app, PaymentMethod::Test, Some("timeout_after_charge")).await;
    app.eventually("select count(*) from payments_payments where state='UNKNOWN'", 1).await;
    let app = restarted(app).await;
    purchase.comes_to(&app, "APPROVED").await;
    assert_eq!((purchase.told(&app).await, calls(&app).await), (vec!["payment.approved".to_owned()], 1));
    audit(&app).await;
}

// F10, F30: the provider's side hangs longer than we wait, and the call takes effect after we gave up on it.
#[tokio::test]
async fn a_call_that_arrives_late_is_found() {
    let app = app().await;
    let warm_up = Purchase::of(1_000);
    warm_up.pay(&app, PaymentMethod::Test, None).await;
    warm_up.comes_to(&app, "APPROVED").await;
    let mut hanging = kit::Db::sqlite(book_in(app.folder()), Synchronous::Full).open_writer().await.expect("opens");
    hanging.begin().await.expect("locks the provider's book");
    let purchase = Purchase::of(7_000);
    purchase.pay(&app, PaymentMethod::Test, None).await;
    app.eventually("select count(*) from payments_payments where state='UNKNOWN'", 1).await;
    assert_eq!(purchase.told(&app).await, Vec::<String>::new());
    hanging.rollback().await.expect("lets go");
    purchase.comes_to(&app, "APPROVED").await;
    assert_eq!(purchase.told(&app).await, ["payment.approved"]);
    audit(&app).await;
}

// Y2, I-P1: many orders at once, each with its own misfortune; every one ends, every one is charged at most once.
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
        let told = loop {
            let told = purchase.told(&app).await;
            if told.iter().any(|told| told == "payment.cancelled" || (!cancelled && told.starts_with("payment."))) {
                break told;
            }
            pass_time(&app).await;
        };
        let once = |kind: &str| told.iter().filter(|told| told.starts_with(kind)).count() <= 1;
        assert!(once("payment.approved") && once("payment.failed") && once("payment.cancelled"), "{token}: {told:?}");
    }
    audit(&app).await;
}
