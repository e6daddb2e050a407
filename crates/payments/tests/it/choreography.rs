//! The paying step asked for by a routing slip (G3): the slip waits here until the outcome is known, and goes on with it.

use super::{Purchase, app, audit, pass_time, restarted, start};
use contracts::{
    Message,
    messages::{Outcome, PaymentMethod, RoutingSlip, Stop, Way},
};
use kit::testing::App;

fn stops(purchase: &Purchase, method: PaymentMethod, token: Option<&str>) -> Vec<Stop> {
    match purchase.request(method, token) {
        Message::PaymentRequest(ask) => vec![Stop::Payment(ask)],
        other => panic!("{other:?}"),
    }
}

async fn send(app: &App, slip: &RoutingSlip) {
    app.emit("orders", slip.order_id, Message::OrdersSlip(slip.clone())).await;
}

/// What payments said about an order: of slips, what it wrote on them.
async fn told(app: &App, purchase: &Purchase) -> Vec<String> {
    let messages = app.messages("payments").await;
    let own = messages.iter().filter(|(key, _)| *key == purchase.order_id.0);
    own.map(|(_, message)| match message.slip().and_then(|slip| slip.log.last()) {
        Some(visit) => match &visit.outcome {
            Outcome::Done => "approved".to_owned(),
            Outcome::Undone => "cancelled".to_owned(),
            Outcome::Refused(refusal) => refusal.code.slug().to_owned(),
        },
        None => message.kind().to_owned(),
    })
    .collect()
}

// G3, Y1: a slip is kept while the wallet is asked, also over a restart, and goes on once it has answered.
#[tokio::test]
async fn a_slip_waits_for_the_outcome() {
    for fold in [true, false] {
        let mut app = start(App::builder().fold(fold)).await;
        let (paid, poor) = (Purchase::of(4_000), Purchase::of(9_000));
        for purchase in [paid, poor] {
            send(&app, &RoutingSlip::forward(purchase.order_id, 3, stops(&purchase, PaymentMethod::Wallet, None), 0, true)).await;
        }
        app.eventually("select count(*) from payments_payments", 2).await;
        assert_eq!((told(&app, &paid).await, told(&app, &poor).await), (vec!["wallet.debit".to_owned()], vec!["wallet.debit".to_owned()]));
        app = restarted(app).await;
        paid.wallet_says(&app, Message::WalletDebited).await;
        poor.wallet_refuses(&app).await;
        assert_eq!(told(&app, &paid).await[1..], ["approved"]);
        assert_eq!(told(&app, &poor).await[1..], ["insufficient-funds"]);
        let slips: Vec<RoutingSlip> = app.messages("payments").await.iter().filter_map(|(_, message)| message.slip().cloned()).collect();
        assert!(slips.iter().all(|slip| (slip.run, slip.next, slip.way) == (3, None, Way::Forward)), "{slips:?}");
    }
}

// G3, G4: repeats of a slip are answered with what is known; it is charged once.
#[tokio::test]
async fn repeats_are_answered_and_charge_nothing() {
    let app = app().await;
    let purchase = Purchase::of(4_000);
    let there = RoutingSlip::forward(purchase.order_id, 1, stops(&purchase, PaymentMethod::Wallet, None), 0, false);
    send(&app, &there).await;
    send(&app, &there).await;
    assert_eq!(told(&app, &purchase).await, ["wallet.debit"]);
    purchase.wallet_says(&app, Message::WalletDebited).await;
    send(&app, &there).await;
    assert_eq!(told(&app, &purchase).await, ["wallet.debit", "approved", "approved"]);
    let back = RoutingSlip::back(purchase.order_id, 2, there.stops.clone());
    send(&app, &back).await;
    send(&app, &back).await;
    assert_eq!(told(&app, &purchase).await[3..], ["wallet.credit"]);
    purchase.wallet_says(&app, Message::WalletCredited).await;
    send(&app, &back).await;
    send(&app, &there).await;
    assert_eq!(told(&app, &purchase).await[4..], ["cancelled", "cancelled", "step-timed-out"]);
    assert_eq!(app.sql_i64("select count(*) from payments_refunds").await, 1);
}

// G3, I-O6, I-O11: a slip back finds out first; the slip it undoes goes no further.
#[tokio::test]
async fn a_slip_back_overtakes_the_outcome() {
    let app = app().await;
    let (taken, refused, early) = (Purchase::of(2_000), Purchase::of(3_000), Purchase::of(1_000));
    for purchase in [taken, refused] {
        let asks = stops(&purchase, PaymentMethod::Wallet, None);
        send(&app, &RoutingSlip::forward(purchase.order_id, 1, asks.clone(), 0, false)).await;
        send(&app, &RoutingSlip::back(purchase.order_id, 2, asks)).await;
        assert_eq!(told(&app, &purchase).await, ["wallet.debit"], "nothing is known yet");
    }
    taken.wallet_says(&app, Message::WalletDebited).await;
    taken.wallet_says(&app, Message::WalletCredited).await;
    refused.wallet_refuses(&app).await;
    assert_eq!(told(&app, &taken).await, ["wallet.debit", "wallet.credit", "cancelled"]);
    assert_eq!(told(&app, &refused).await, ["wallet.debit", "cancelled"]);
    // A tombstone: nothing was asked for yet, and nothing is when it comes.
    let asks = stops(&early, PaymentMethod::Wallet, None);
    send(&app, &RoutingSlip::back(early.order_id, 2, asks.clone())).await;
    send(&app, &RoutingSlip::forward(early.order_id, 1, asks, 0, false)).await;
    assert_eq!(told(&app, &early).await, ["cancelled", "step-timed-out"]);
}

// G3, F30: with a provider outside, whose answer is lost.
#[tokio::test]
async fn a_provider_decides_when_it_can_be_asked() {
    for (token, state, outcome) in [
        (Some("timeout_after_charge"), "APPROVED", "approved"),
        (Some("decline"), "FAILED", "payment-failed"),
        (None, "APPROVED", "approved"),
    ] {
        let app = app().await;
        let purchase = Purchase::of(7_000);
        send(&app, &RoutingSlip::forward(purchase.order_id, 1, stops(&purchase, PaymentMethod::Test, token), 0, false)).await;
        purchase.comes_to(&app, state).await;
        for _ in 0..5 {
            pass_time(&app).await;
        }
        assert_eq!(told(&app, &purchase).await, [outcome]);
        audit(&app).await;
    }
}
