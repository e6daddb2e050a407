//! The payment step of the saga and its undo, requested by messages.

use super::{Purchase, app, services, start};
use contracts::{Message, messages::PaymentMethod};
use testkit::App;

// Y1: the method `none` is only for orders that cost nothing.
#[tokio::test]
async fn method_none_pays_only_orders_that_cost_nothing() {
    let app = app().await;
    let (free, dear) = (Purchase::of(0), Purchase::of(1));
    free.pay(&app, PaymentMethod::None, None).await;
    dear.pay(&app, PaymentMethod::None, None).await;
    assert_eq!(free.emitted(&app).await, ["payment.approved"]);
    assert_eq!(dear.emitted(&app).await, ["payment.failed payment-method-not-allowed"]);
    free.cancel(&app).await;
    assert_eq!((free.emitted(&app).await.pop().as_deref(), free.state(&app).await.as_str()), (Some("payment.cancelled"), "CANCELLED"));
}

// Y1: the method `wallet` asks the wallet and replies with its answer.
#[tokio::test]
async fn a_wallet_payment_follows_the_wallets_answer() {
    let app = app().await;
    let (paid, refused) = (Purchase::of(4_000), Purchase::of(9_000));
    paid.pay(&app, PaymentMethod::Wallet, None).await;
    assert_eq!((paid.emitted(&app).await, paid.state(&app).await), (vec!["wallet.debit".to_owned()], "INTENT".to_owned()));
    paid.wallet_answers(&app, Message::WalletDebited).await;
    assert_eq!(
        (paid.emitted(&app).await, paid.state(&app).await.as_str()),
        (vec!["wallet.debit".into(), "payment.approved".into()], "APPROVED")
    );
    refused.pay(&app, PaymentMethod::Wallet, None).await;
    refused.wallet_refuses(&app).await;
    assert_eq!(refused.emitted(&app).await, ["wallet.debit", "payment.failed insufficient-funds"]);
    // After a failure, the order may be paid again.
    let again = refused.again();
    again.pay(&app, PaymentMethod::Wallet, None).await;
    again.wallet_answers(&app, Message::WalletDebited).await;
    assert_eq!((again.state(&app).await.as_str(), refused.state(&app).await.as_str()), ("APPROVED", "FAILED"));
}

// Y2: an order is paid at most once, for any sequence of requests.
#[tokio::test]
async fn a_second_payment_of_an_order_is_refused() {
    let app = app().await;
    let first = Purchase::of(4_000);
    let (meanwhile, after) = (first.again(), first.again());
    first.pay(&app, PaymentMethod::Wallet, None).await;
    meanwhile.pay(&app, PaymentMethod::Test, None).await;
    first.wallet_answers(&app, Message::WalletDebited).await;
    after.pay(&app, PaymentMethod::Wallet, None).await;
    let emitted = first.emitted(&app).await;
    assert_eq!(emitted, ["wallet.debit", "payment.failed payment-in-progress", "payment.approved", "payment.failed already-paid"]);
    assert_eq!(app.sql_i64("select count(*) from payments_payments where captured_at is not null").await, 1);
}

// Y1: the test provider is disabled by default.
#[tokio::test]
async fn a_disabled_test_provider_is_refused() {
    let app = App::start(|kit| services(kit, None)).await;
    let purchase = Purchase::of(1_000);
    purchase.pay(&app, PaymentMethod::Test, None).await;
    assert_eq!(purchase.emitted(&app).await, ["payment.failed payment-method-not-allowed"]);
}

// G1, I-O6: captured money is refunded when the order is undone.
#[tokio::test]
async fn captured_money_of_an_undone_order_is_refunded() {
    let app = app().await;
    let purchase = Purchase::of(4_000);
    purchase.pay(&app, PaymentMethod::Wallet, None).await;
    purchase.wallet_answers(&app, Message::WalletDebited).await;
    purchase.cancel(&app).await;
    assert_eq!(purchase.emitted(&app).await[2..], ["wallet.credit"]);
    assert_eq!(app.sql_i64("select count(*) from payments_refunds where state='PENDING' and amount=4000").await, 1);
    purchase.wallet_answers(&app, Message::WalletCredited).await;
    assert_eq!(purchase.emitted(&app).await[3..], ["payment.cancelled"]);
    assert_eq!(
        (purchase.state(&app).await.as_str(), app.sql_i64("select count(*) from payments_refunds where state='DONE'").await),
        ("CANCELLED", 1)
    );
}

// G4, I-O11: an undo that comes first refuses the payment. An undo that comes before the wallet's answer waits for it.
#[tokio::test]
async fn an_undo_waits_for_the_wallets_answer() {
    let app = app().await;
    let early = Purchase::of(1_000);
    early.cancel(&app).await;
    early.pay(&app, PaymentMethod::Wallet, None).await;
    assert_eq!(early.emitted(&app).await, ["payment.cancelled", "payment.failed step-timed-out"]);

    let (taken, refused) = (Purchase::of(2_000), Purchase::of(3_000));
    for purchase in [taken, refused] {
        purchase.pay(&app, PaymentMethod::Wallet, None).await;
        purchase.cancel(&app).await;
        assert_eq!(purchase.emitted(&app).await, ["wallet.debit"], "nothing is known yet");
    }
    taken.wallet_answers(&app, Message::WalletDebited).await;
    assert_eq!(taken.emitted(&app).await, ["wallet.debit", "wallet.credit"]);
    taken.wallet_answers(&app, Message::WalletCredited).await;
    refused.wallet_refuses(&app).await;
    for purchase in [taken, refused] {
        assert_eq!(purchase.emitted(&app).await.pop().as_deref(), Some("payment.cancelled"));
    }
}

// G4: every message arrives twice, with and without folding.
#[tokio::test]
async fn repeated_messages_change_nothing() {
    for &fold in App::fold_settings() {
        let app = start(App::builder().fold(fold)).await;
        for kind in ["payment.request", "payment.cancel", "wallet.debited", "wallet.refused", "wallet.credited"] {
            app.faults.repeat("payments", kind, 100);
        }
        let (paid, refused, free) = (Purchase::of(4_000), Purchase::of(9_000), Purchase::of(0));
        paid.pay(&app, PaymentMethod::Wallet, None).await;
        refused.pay(&app, PaymentMethod::Wallet, None).await;
        free.pay(&app, PaymentMethod::None, None).await;
        app.eventually("select count(*) from payments_payments", 3).await;
        paid.wallet_answers(&app, Message::WalletDebited).await;
        refused.wallet_refuses(&app).await;
        app.eventually("select count(*) from payments_payments where state='INTENT'", 0).await;
        paid.cancel(&app).await;
        app.eventually("select count(*) from payments_refunds where state='PENDING'", 1).await;
        paid.wallet_answers(&app, Message::WalletCredited).await;
        app.eventually("select count(*) from payments_cancellations where state='DONE'", 1).await;
        paid.cancel(&app).await;
        app.eventually("select count(*) from payments_outbox where kind='payment.cancelled'", 3).await;
        let emitted = ["wallet.debit", "payment.approved", "wallet.credit", "payment.cancelled", "payment.cancelled", "payment.cancelled"];
        assert_eq!(paid.emitted(&app).await, emitted);
        assert_eq!(refused.emitted(&app).await, ["wallet.debit", "payment.failed insufficient-funds"]);
        assert_eq!(free.emitted(&app).await, ["payment.approved", "payment.approved"]);
        assert_eq!(app.sql_i64("select count(*) from payments_refunds").await, 1);
    }
}

// The database enforces the rules, too: no second live payment of an order, and no approval without a capture.
#[tokio::test]
async fn database_constraints_enforce_the_rules() {
    let app = app().await;
    let purchase = Purchase::of(4_000);
    purchase.pay(&app, PaymentMethod::Wallet, None).await;
    let mut writer = app.kit().db.open_writer().await.expect("opens");
    for sql in [
        "insert into payments_payments (id, order_id, member_id, method, amount, state, attempts, created_at, updated_at) \
         select zeroblob(16), order_id, member_id, method, amount, 'UNKNOWN', 0, 0, 0 from payments_payments",
        "update payments_payments set state='APPROVED'",
        "update payments_payments set state='FAILED'",
        "update payments_payments set amount=-1",
    ] {
        assert!(writer.execute(sql, &[]).await.is_err(), "{sql}");
    }
}
