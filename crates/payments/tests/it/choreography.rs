//! The payment step requested by a routing slip (G3): payments keeps the slip until the outcome is known, and then passes it on.

use super::{Purchase, app, audit, pass_time, restarted, start};
use contracts::{
    Message,
    messages::{Direction, PaymentMethod, RoutingSlip, SlipStep, StepOutcome},
};
use testkit::App;

fn payment_steps(purchase: &Purchase, method: PaymentMethod, token: Option<&str>) -> Vec<SlipStep> {
    match purchase.request(method, token) {
        Message::PaymentRequest(request) => vec![SlipStep::Payment(request)],
        other => panic!("{other:?}"),
    }
}

async fn send(app: &App, slip: &RoutingSlip) {
    app.emit("orders", slip.order_id, Message::OrdersSlip(slip.clone())).await;
}

/// Messages that payments emitted for an order. For slips: the outcome in the last log entry.
async fn emitted(app: &App, purchase: &Purchase) -> Vec<String> {
    let messages = app.messages("payments").await;
    let own = messages.iter().filter(|(key, _)| *key == purchase.order_id.0);
    own.map(|(_, message)| match message.slip().and_then(|slip| slip.log.last()) {
        Some(entry) => match &entry.outcome {
            StepOutcome::Done => "approved".to_owned(),
            StepOutcome::Undone => "cancelled".to_owned(),
            StepOutcome::Refused(refusal) => refusal.code.slug().to_owned(),
        },
        None => message.kind().to_owned(),
    })
    .collect()
}

// G3, Y1: a slip is kept until the wallet answers, also over a restart.
#[tokio::test]
async fn a_slip_waits_for_the_outcome_over_a_restart() {
    for &fold in App::fold_settings() {
        let mut app = start(App::builder().fold(fold)).await;
        let (paid, poor) = (Purchase::of(4_000), Purchase::of(9_000));
        for purchase in [paid, poor] {
            send(&app, &RoutingSlip::forward(purchase.order_id, 3, payment_steps(&purchase, PaymentMethod::Wallet, None), 0, true)).await;
        }
        app.eventually("select count(*) from payments_payments", 2).await;
        assert_eq!(
            (emitted(&app, &paid).await, emitted(&app, &poor).await),
            (vec!["wallet.debit".to_owned()], vec!["wallet.debit".to_owned()])
        );
        app = restarted(app).await;
        paid.wallet_answers(&app, Message::WalletDebited).await;
        poor.wallet_refuses(&app).await;
        assert_eq!(emitted(&app, &paid).await[1..], ["approved"]);
        assert_eq!(emitted(&app, &poor).await[1..], ["insufficient-funds"]);
        let slips: Vec<RoutingSlip> = app.messages("payments").await.iter().filter_map(|(_, message)| message.slip().cloned()).collect();
        assert!(slips.iter().all(|slip| (slip.run, slip.next, slip.way) == (3, None, Direction::Forward)), "{slips:?}");
    }
}

// G3, G4: repeats of a slip are answered with the known outcome, and charge nothing.
#[tokio::test]
async fn repeated_slips_are_answered_and_charge_nothing() {
    let app = app().await;
    let purchase = Purchase::of(4_000);
    let forward = RoutingSlip::forward(purchase.order_id, 1, payment_steps(&purchase, PaymentMethod::Wallet, None), 0, false);
    send(&app, &forward).await;
    send(&app, &forward).await;
    assert_eq!(emitted(&app, &purchase).await, ["wallet.debit"]);
    purchase.wallet_answers(&app, Message::WalletDebited).await;
    send(&app, &forward).await;
    assert_eq!(emitted(&app, &purchase).await, ["wallet.debit", "approved", "approved"]);
    let back = RoutingSlip::back(purchase.order_id, 2, forward.stops.clone());
    send(&app, &back).await;
    send(&app, &back).await;
    assert_eq!(emitted(&app, &purchase).await[3..], ["wallet.credit"]);
    purchase.wallet_answers(&app, Message::WalletCredited).await;
    send(&app, &back).await;
    send(&app, &forward).await;
    assert_eq!(emitted(&app, &purchase).await[4..], ["cancelled", "cancelled", "step-timed-out"]);
    assert_eq!(app.sql_i64("select count(*) from payments_refunds").await, 1);
}

// G3, I-O6, I-O11: an undo slip waits for the outcome, and the slip it undoes is not passed on.
#[tokio::test]
async fn an_undo_slip_waits_for_the_outcome() {
    let app = app().await;
    let (taken, refused, early) = (Purchase::of(2_000), Purchase::of(3_000), Purchase::of(1_000));
    for purchase in [taken, refused] {
        let steps = payment_steps(&purchase, PaymentMethod::Wallet, None);
        send(&app, &RoutingSlip::forward(purchase.order_id, 1, steps.clone(), 0, false)).await;
        send(&app, &RoutingSlip::back(purchase.order_id, 2, steps)).await;
        assert_eq!(emitted(&app, &purchase).await, ["wallet.debit"], "nothing is known yet");
    }
    taken.wallet_answers(&app, Message::WalletDebited).await;
    taken.wallet_answers(&app, Message::WalletCredited).await;
    refused.wallet_refuses(&app).await;
    assert_eq!(emitted(&app, &taken).await, ["wallet.debit", "wallet.credit", "cancelled"]);
    assert_eq!(emitted(&app, &refused).await, ["wallet.debit", "cancelled"]);
    // The undo leaves a tombstone that refuses the late request.
    let steps = payment_steps(&early, PaymentMethod::Wallet, None);
    send(&app, &RoutingSlip::back(early.order_id, 2, steps.clone())).await;
    send(&app, &RoutingSlip::forward(early.order_id, 1, steps, 0, false)).await;
    assert_eq!(emitted(&app, &early).await, ["cancelled", "step-timed-out"]);
}

// G3, F30: with a provider, even when its answer is lost.
#[tokio::test]
async fn a_slip_gets_the_providers_outcome() {
    for (token, state, outcome) in [
        (Some("timeout_after_charge"), "APPROVED", "approved"),
        (Some("decline"), "FAILED", "payment-failed"),
        (None, "APPROVED", "approved"),
    ] {
        let app = app().await;
        let purchase = Purchase::of(7_000);
        send(&app, &RoutingSlip::forward(purchase.order_id, 1, payment_steps(&purchase, PaymentMethod::Test, token), 0, false)).await;
        purchase.wait_for_state(&app, state).await;
        for _ in 0..5 {
            pass_time(&app).await;
        }
        assert_eq!(emitted(&app, &purchase).await, [outcome]);
        audit(&app).await;
    }
}
