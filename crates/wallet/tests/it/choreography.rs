//! The points step on a routing slip (G3): forward and back, in any order, and repeated.

use super::{Member, app, app_with, audit, new_order, step};
use contracts::{
    Code, Message, OrderId,
    messages::{RoutingSlip, SlipStep},
};
use testkit::App;
use wallet::WalletSettings;

fn stops(member: &Member, order: OrderId, amount: i64) -> Vec<SlipStep> {
    match member.hold(order, amount) {
        Message::PointsHold(ask) => vec![SlipStep::PointsHold(ask)],
        other => panic!("{other:?}"),
    }
}

// G3, G4, B4
#[tokio::test]
async fn a_slip_holds_and_releases_points_once() {
    for &fold in App::fold_settings() {
        let app = app_with(WalletSettings::default(), fold).await;
        let member = Member::with(&app, 0, 1_000).await;
        let order = new_order();
        let emitted = async |times: i64| app.eventually("select count(*) from wallet_outbox where kind='wallet.slip'", times).await;
        app.faults.repeat("wallet", "orders.slip", 2);
        app.send_slip(RoutingSlip::forward(order, 1, stops(&member, order, 400), 0, false)).await;
        emitted(2).await;
        assert_eq!(member.balances(&app).await, (0, 600, 400));
        app.send_slip(RoutingSlip::back(order, 2, stops(&member, order, 400))).await;
        emitted(4).await;
        assert_eq!(member.balances(&app).await, (0, 1_000, 0));
        assert_eq!(app.slip_outcomes("wallet", order).await, ["done", "done", "undone", "undone"]);
        audit(&app).await;
    }
}

// G3: a slip back returns spent points. If it overtakes the message that spends them, nothing is spent.
#[tokio::test]
async fn a_slip_back_undoes_held_and_spent_points() {
    let app = app().await;
    let member = Member::with(&app, 0, 1_000).await;
    let (spent, overtaken) = (new_order(), new_order());
    for order in [spent, overtaken] {
        app.send_slip(RoutingSlip::forward(order, 1, stops(&member, order, 400), 0, false)).await;
    }
    app.emit("orders", spent, Message::PointsUse(step(spent))).await;
    assert_eq!(member.balances(&app).await, (0, 200, 400));
    for order in [spent, overtaken] {
        app.send_slip(RoutingSlip::back(order, 2, stops(&member, order, 400))).await;
    }
    app.emit("orders", overtaken, Message::PointsUse(step(overtaken))).await;
    assert_eq!(member.balances(&app).await, (0, 1_000, 0));
    assert_eq!(app.sql_i64("select count(*) from wallet_dead_letters").await, 0);
    audit(&app).await;
}

// G3, G4, B5: a refused slip holds nothing, nor does one that comes after its undo.
#[tokio::test]
async fn a_refusal_names_its_code() {
    let app = app().await;
    let member = Member::with(&app, 0, 500).await;
    let (dear, late) = (new_order(), new_order());
    app.send_slip(RoutingSlip::forward(dear, 1, stops(&member, dear, 501), 0, false)).await;
    app.send_slip(RoutingSlip::back(late, 2, stops(&member, late, 100))).await;
    app.send_slip(RoutingSlip::forward(late, 1, stops(&member, late, 100), 0, false)).await;
    assert_eq!(app.slip_outcomes("wallet", dear).await, ["insufficient-points"]);
    assert_eq!(app.slip_outcomes("wallet", late).await, ["undone", Code::StepTimedOut.slug()]);
    assert_eq!(member.balances(&app).await, (0, 500, 0));
    let slip = RoutingSlip::forward(dear, 1, stops(&member, dear, 1), 0, false);
    app.send_slip(RoutingSlip { next: None, ..slip }).await;
    assert_eq!(app.slip_outcomes("wallet", dear).await.len(), 1, "a slip without a next stop is ignored");
    audit(&app).await;
}
