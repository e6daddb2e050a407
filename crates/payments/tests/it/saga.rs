use super::{Purchase, app, services, start};
use contracts::{Message, messages::PaymentMethod};
use kit::testing::App;

// Y1: method `none` pays nothing, and only nothing.
#[tokio::test]
async fn nothing_is_paid_with_none() {
    let app = app().await;
    let (free, dear) = (Purchase::of(0), Purchase::of(1));
    free.pay(&app, PaymentMethod::None, None).await;
    dear.pay(&app, PaymentMethod::None, None).await;
    assert_eq!(free.told(&app).await, ["payment.approved"]);
    assert_eq!(dear.told(&app).await, ["payment.failed payment-method-not-allowed"]);
    free.cancel(&app).await;
    assert_eq!((free.told(&app).await.pop().as_deref(), free.state(&app).await.as_str()), (Some("payment.cancelled"), "CANCELLED"));
}

// Y1: method `wallet` asks the wallet and says what it says.
#[tokio::test]
async fn the_wallet_decides() {
    let app = app().await;
    let (paid, poor) = (Purchase::of(4_000), Purchase::of(9_000));
    paid.pay(&app, PaymentMethod::Wallet, None).await;
    assert_eq!((paid.told(&app).await, paid.state(&app).await), (vec!["wallet.debit".to_owned()], "INTENT".to_owned()));
    paid.wallet_says(&app, Message::WalletDebited).await;
    assert_eq!(
        (paid.told(&app).await, paid.state(&app).await.as_str()),
        (vec!["wallet.debit".into(), "payment.approved".into()], "APPROVED")
    );
    poor.pay(&app, PaymentMethod::Wallet, None).await;
    poor.wallet_refuses(&app).await;
    assert_eq!(poor.told(&app).await, ["wallet.debit", "payment.failed insufficient-funds"]);
    // After a failure the order may be paid again.
    let again = poor.again();
    again.pay(&app, PaymentMethod::Wallet, None).await;
    again.wallet_says(&app, Message::WalletDebited).await;
    assert_eq!((again.state(&app).await.as_str(), poor.state(&app).await.as_str()), ("APPROVED", "FAILED"));
}

// Y2: an order is paid once, whatever is asked for.
#[tokio::test]
async fn an_order_is_paid_once() {
    let app = app().await;
    let first = Purchase::of(4_000);
    let (meanwhile, after) = (first.again(), first.again());
    first.pay(&app, PaymentMethod::Wallet, None).await;
    meanwhile.pay(&app, PaymentMethod::Test, None).await;
    first.wallet_says(&app, Message::WalletDebited).await;
    after.pay(&app, PaymentMethod::Wallet, None).await;
    let told = first.told(&app).await;
    assert_eq!(told, ["wallet.debit", "payment.failed payment-in-progress", "payment.approved", "payment.failed already-paid"]);
    assert_eq!(app.sql_i64("select count(*) from payments_payments where captured_at is not null").await, 1);
}

// Y1: the test provider is off unless the operator enables it.
#[tokio::test]
async fn the_test_provider_must_be_enabled() {
    let app = App::start(|kit| services(kit, None)).await;
    let purchase = Purchase::of(1_000);
    purchase.pay(&app, PaymentMethod::Test, None).await;
    assert_eq!(purchase.told(&app).await, ["payment.failed payment-method-not-allowed"]);
}

// G1, I-O6: what was captured goes back when the order is undone.
#[tokio::test]
async fn an_undone_order_gets_its_money_back() {
    let app = app().await;
    let purchase = Purchase::of(4_000);
    purchase.pay(&app, PaymentMethod::Wallet, None).await;
    purchase.wallet_says(&app, Message::WalletDebited).await;
    purchase.cancel(&app).await;
    assert_eq!(purchase.told(&app).await[2..], ["wallet.credit"]);
    assert_eq!(app.sql_i64("select count(*) from payments_refunds where state='PENDING' and amount=4000").await, 1);
    purchase.wallet_says(&app, Message::WalletCredited).await;
    assert_eq!(purchase.told(&app).await[3..], ["payment.cancelled"]);
    assert_eq!(
        (purchase.state(&app).await.as_str(), app.sql_i64("select count(*) from payments_refunds where state='DONE'").await),
        ("CANCELLED", 1)
    );
}

// G4, I-O11: an undo that comes first refuses the payment; one that comes while the wallet is asked waits for the answer.
#[tokio::test]
async fn an_undo_finds_out_first() {
    let app = app().await;
    let early = Purchase::of(1_000);
    early.cancel(&app).await;
    early.pay(&app, PaymentMethod::Wallet, None).await;
    assert_eq!(early.told(&app).await, ["payment.cancelled", "payment.failed step-timed-out"]);

    let (taken, refused) = (Purchase::of(2_000), Purchase::of(3_000));
    for purchase in [taken, refused] {
        purchase.pay(&app, PaymentMethod::Wallet, None).await;
        purchase.cancel(&app).await;
        assert_eq!(purchase.told(&app).await, ["wallet.debit"], "nothing is known yet");
    }
    taken.wallet_says(&app, Message::WalletDebited).await;
    assert_eq!(taken.told(&app).await, ["wallet.debit", "wallet.credit"]);
    taken.wallet_says(&app, Message::WalletCredited).await;
    refused.wallet_refuses(&app).await;
    for purchase in [taken, refused] {
        assert_eq!(purchase.told(&app).await.pop().as_deref(), Some("payment.cancelled"));
    }
}

// G4: every message twice, folded and hop by hop.
#[tokio::test]
async fn repeats_change_nothing() {
    for fold in [true, false] {
        let app = start(App::builder().fold(fold)).await;
        for kind in ["payment.request", "payment.cancel", "wallet.debited", "wallet.refused", "wallet.credited"] {
            app.faults.repeat("payments", kind, 100);
        }
        let (paid, poor, free) = (Purchase::of(4_000), Purchase::of(9_000), Purchase::of(0));
        paid.pay(&app, PaymentMethod::Wallet, None).await;
        poor.pay(&app, PaymentMethod::Wallet, None).await;
        free.pay(&app, PaymentMethod::None, None).await;
        app.eventually("select count(*) from payments_payments", 3).await;
        paid.wallet_says(&app, Message::WalletDebited).await;
        poor.wallet_refuses(&app).await;
        app.eventually("select count(*) from payments_payments where state='INTENT'", 0).await;
        paid.cancel(&app).await;
        app.eventually("select count(*) from payments_refunds where state='PENDING'", 1).await;
        paid.wallet_says(&app, Message::WalletCredited).await;
        app.eventually("select count(*) from payments_cancellations where state='DONE'", 1).await;
        paid.cancel(&app).await;
        app.eventually("select count(*) from payments_outbox where kind='payment.cancelled'", 3).await;
        let told = ["wallet.debit", "payment.approved", "wallet.credit", "payment.cancelled", "payment.cancelled", "payment.cancelled"];
        assert_eq!(paid.told(&app).await, told);
        assert_eq!(poor.told(&app).await, ["wallet.debit", "payment.failed insufficient-funds"]);
        assert_eq!(free.told(&app).await, ["payment.approved", "payment.approved"]);
        assert_eq!(app.sql_i64("select count(*) from payments_refunds").await, 1);
    }
}

// The database stands behind the rules: a second live payment of an order cannot be stored, nor an approval without a capture.
#[tokio::test]
async fn constraints_stand_behind_the_rules() {
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
