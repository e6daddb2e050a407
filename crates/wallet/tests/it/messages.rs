use super::{Member, answers, app, app_with, audit, new_order, new_payment, step};
use contracts::{
    Message, Won,
    messages::{OrderConfirmed, OrderEnded},
};
use testkit::App;
use wallet::WalletSettings;

// G1, B4: the points of an order that is paid.
#[tokio::test]
async fn points_are_held_and_then_spent() {
    let app = app().await;
    let member = Member::with(&app, 0, 1_000).await;
    let order = new_order();
    app.emit("orders", order, member.hold(order, 400)).await;
    assert_eq!(member.balances(&app).await, (0, 600, 400));
    assert_eq!(app.sql_i64("select count(*) from wallet_transactions where kind<>'grant'").await, 0, "a hold makes no entry");
    app.emit("orders", order, Message::PointsUse(step(order))).await;
    assert_eq!(member.balances(&app).await, (0, 600, 0));
    assert_eq!(app.sql_i64("select balance from wallet_accounts where kind='POINTS_SPENT'").await, 400);
    assert_eq!(answers(&app, order).await, ["points.held"]);
    audit(&app).await;
}

// G1: a refused request holds nothing; a hold of all points leaves none for a second order.
#[tokio::test]
async fn points_cannot_be_held_twice() {
    let app = app().await;
    let member = Member::with(&app, 0, 500).await;
    let (first, second, third) = (new_order(), new_order(), new_order());
    app.emit("orders", first, member.hold(first, 500)).await;
    app.emit("orders", second, member.hold(second, 1)).await;
    app.emit("orders", third, member.hold(third, -5)).await;
    assert_eq!(answers(&app, second).await, ["points.refused insufficient-points"]);
    assert_eq!(answers(&app, third).await, ["points.refused amount-out-of-range"]);
    assert_eq!(member.balances(&app).await, (0, 0, 500));
    let stranger = Member::new(&app);
    let fourth = new_order();
    app.emit("orders", fourth, stranger.hold(fourth, 1)).await;
    assert_eq!(answers(&app, fourth).await, ["points.refused insufficient-points"], "an account without a row has a balance of 0");
    audit(&app).await;
}

// G4: every message is delivered twice, with and without folding: the same answers, one effect.
#[tokio::test]
async fn repeats_get_the_same_answer_and_change_nothing() {
    for &fold in App::fold_settings() {
        let app = app_with(WalletSettings::default(), fold).await;
        let member = Member::with(&app, 10_000, 1_000).await;
        for kind in ["points.hold", "points.use", "points.unhold", "wallet.debit", "wallet.credit", "order.confirmed", "order.cancelled"] {
            app.faults.repeat("wallet", kind, 100);
        }
        let (paid, failed, payment) = (new_order(), new_order(), new_payment());
        app.emit("orders", paid, member.hold(paid, 400)).await;
        app.emit("payments", paid, Message::WalletDebit(member.transfer(payment, paid, 4_000))).await;
        app.emit("orders", paid, Message::PointsUse(step(paid))).await;
        app.emit("orders", failed, member.hold(failed, 100)).await;
        app.emit("orders", failed, Message::PointsUnhold(step(failed))).await;
        app.eventually("select count(*) from wallet_outbox", 8).await;
        assert_eq!(answers(&app, paid).await, ["points.held", "points.held", "wallet.debited", "wallet.debited"]);
        assert_eq!(answers(&app, failed).await, ["points.held", "points.held", "points.released", "points.released"]);
        app.eventually("select count(*) from wallet_holds where state='USED'", 1).await;
        assert_eq!(member.balances(&app).await, (6_000, 600, 0));

        let confirmed = OrderConfirmed { order_id: paid, member_id: member.id, cash_paid: Won(4_000) };
        app.emit("orders", paid, Message::OrderConfirmed(confirmed)).await;
        app.eventually("select count(*) from wallet_transactions where kind='earn'", 1).await;
        assert_eq!(member.balances(&app).await, (6_000, 640, 0));
        app.emit("payments", paid, Message::WalletCredit(member.transfer(payment, paid, 4_000))).await;
        let ended = OrderEnded { order_id: paid, member_id: member.id, code: None, detail: "changed my mind".into() };
        app.emit_all("orders", paid, vec![Message::PointsUnhold(step(paid)), Message::OrderCancelled(ended)]).await;
        app.eventually("select count(*) from wallet_transactions where kind in ('refund', 'return', 'earn_back')", 3).await;
        assert_eq!(member.balances(&app).await, (10_000, 1_000, 0));
        let net = "select count(*) from (select 1 from wallet_transactions t join wallet_entries e on e.tx_id=t.id \
                   where t.order_id is not null group by t.order_id, e.owner_id, e.kind having sum(e.amount)<>0) nets";
        assert_eq!(app.sql_i64(net).await, 0, "I-O7: an undone order nets to zero");
        audit(&app).await;
    }
}

// G4, I-O11: a step that comes after its undo is refused permanently.
#[tokio::test]
async fn an_undo_before_its_step_leaves_a_tombstone() {
    let app = app().await;
    let member = Member::with(&app, 5_000, 100).await;
    let (order, payment) = (new_order(), new_payment());
    app.emit_all("orders", order, vec![Message::PointsUnhold(step(order)), member.hold(order, 10)]).await;
    assert_eq!(answers(&app, order).await, ["points.released", "points.refused step-timed-out"]);
    let transfer = member.transfer(payment, order, 1_000);
    app.emit_all("payments", order, vec![Message::WalletCredit(transfer.clone()), Message::WalletDebit(transfer)]).await;
    assert_eq!(answers(&app, order).await[2..], ["wallet.credited", "wallet.refused step-timed-out"]);
    assert_eq!(member.balances(&app).await, (5_000, 100, 0));
    audit(&app).await;
}

// G4: a refused order stays refused, even if the balance suffices now.
#[tokio::test]
async fn a_refusal_is_recorded() {
    let app = app().await;
    let member = Member::new(&app);
    let (order, payment) = (new_order(), new_payment());
    let debit = Message::WalletDebit(member.transfer(payment, order, 2_000));
    app.emit("payments", order, debit.clone()).await;
    let _ = member.charge(&app, "late", 9_000).await.expect(201);
    app.emit("payments", order, debit).await;
    assert_eq!(answers(&app, order).await, ["wallet.refused insufficient-funds", "wallet.refused insufficient-funds"]);
    app.emit("payments", order, Message::WalletCredit(member.transfer(payment, order, 2_000))).await;
    assert_eq!(member.balances(&app).await, (9_000, 0, 0), "a refused debit is not credited");
    audit(&app).await;
}

// B4: 1 % of the cash paid, rounded down; an order that earned nothing leaves no transaction.
#[tokio::test]
async fn confirmed_purchases_earn_points() {
    let app = app().await;
    let member = Member::new(&app);
    for (cash_paid, points) in [(19_999, 199), (99, 199), (0, 199), (100, 200)] {
        let order = new_order();
        let confirmed = OrderConfirmed { order_id: order, member_id: member.id, cash_paid: Won(cash_paid) };
        app.emit("orders", order, Message::OrderConfirmed(confirmed)).await;
        assert_eq!(member.balances(&app).await, (0, points, 0));
    }
    let order = new_order();
    let ended = OrderEnded { order_id: order, member_id: member.id, code: None, detail: String::new() };
    app.emit("orders", order, Message::OrderCancelled(ended)).await;
    assert_eq!(member.balances(&app).await, (0, 200, 0));
    audit(&app).await;
}

// A message that spends points without a hold becomes a dead letter. Other messages are still delivered.
#[tokio::test]
async fn spending_points_without_a_hold_is_a_dead_letter() {
    let app = app().await;
    let member = Member::with(&app, 0, 100).await;
    let (wrong, right) = (new_order(), new_order());
    app.emit("orders", wrong, Message::PointsUse(step(wrong))).await;
    app.emit("orders", right, member.hold(right, 10)).await;
    app.eventually("select count(*) from wallet_dead_letters where kind='points.use' and state='dead'", 1).await;
    app.eventually("select count(*) from wallet_holds where state='HELD'", 1).await;
    assert_eq!(member.balances(&app).await, (0, 90, 10));
    audit(&app).await;
}
