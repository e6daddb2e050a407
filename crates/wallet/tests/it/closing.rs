//! Closed accounts: points are forfeited by entries, and nothing new comes in.

use super::{Member, app, audit, new_order};
use contracts::{
    Message, Won,
    messages::{MemberClosed, OrderConfirmed, StepCommand},
};
use kit::auth::Role;
use serde_json::json;
use testkit::App;

async fn close(app: &App, member: &Member) {
    app.emit("accounts", member.id, Message::MemberClosed(MemberClosed { member_id: member.id })).await;
}

async fn forfeits(app: &App) -> Vec<(i64,)> {
    app.rows("select amount from wallet_transactions where kind='forfeit' order by at, amount").await
}

// R3: also for the second message, and for a repeat of the first.
#[tokio::test]
async fn a_closed_account_forfeits_its_points_once() {
    let app = app().await;
    let (member, other) = (Member::with(&app, 2_000, 500).await, Member::with(&app, 0, 70).await);
    app.faults.repeat("wallet", "member.closed", 1);
    close(&app, &member).await;
    close(&app, &member).await;
    assert_eq!((member.balances(&app).await, other.balances(&app).await), ((2_000, 0, 0), (0, 70, 0)));
    assert_eq!(forfeits(&app).await, [(500,)]);
    let entry = app.get("/v1/wallet/entries?account=points").bearer(&member.token).send().await.expect(200).body["items"][0].clone();
    assert_eq!((&entry["kind"], &entry["amount"], &entry["balance_after"]), (&json!("forfeit"), &json!(-500), &json!(0)));
    // The answers to charges are erased.
    assert_eq!(app.sql_i64(&format!("select count(*) from wallet_idempotency where scope={}", sql_id(&member))).await, 0);
    audit(&app).await;
}

fn sql_id(member: &Member) -> String {
    format!("x'{}'", member.id.0.simple())
}

// R3: points that an order holds follow when the order ends.
#[tokio::test]
async fn points_that_come_back_later_are_forfeited_too() {
    let app = app().await;
    let member = Member::with(&app, 0, 500).await;
    let (unpaid, paid) = (new_order(), new_order());
    for (order, amount) in [(unpaid, 200), (paid, 100)] {
        app.emit("orders", order, member.hold(order, amount)).await;
    }
    app.emit("orders", paid, Message::PointsUse(StepCommand { order_id: paid })).await;
    close(&app, &member).await;
    assert_eq!((member.balances(&app).await, forfeits(&app).await), ((0, 0, 200), vec![(200,)]));
    for order in [unpaid, paid] {
        app.emit("orders", order, Message::PointsUnhold(StepCommand { order_id: order })).await;
    }
    assert_eq!(member.balances(&app).await, (0, 0, 0));
    assert_eq!(app.sql_i64("select cast(sum(amount) as bigint) from wallet_transactions where kind='forfeit'").await, 500);
    audit(&app).await;
}

// R3
#[tokio::test]
async fn a_closed_account_takes_no_cash_and_no_points() {
    let app = app().await;
    let member = Member::new(&app);
    close(&app, &member).await;
    let _ = member.charge(&app, "late", 1_000).await.expect_problem(422, "invalid-field");
    let operator = app.token(Member::new(&app).id, Role::Operator);
    let grant = json!({"member_id": member.id, "amount": 5, "reason": "late"});
    let _ = app.post("/v1/wallet/grants").bearer(&operator).key("late").json(&grant).send().await.expect_problem(422, "invalid-field");
    let order_id = new_order();
    let confirmed = OrderConfirmed { order_id, member_id: member.id, cash_paid: Won(100_000) };
    app.emit("orders", order_id, Message::OrderConfirmed(confirmed)).await;
    assert_eq!(member.balances(&app).await, (0, 0, 0));
    assert_eq!(app.sql_i64("select count(*) from wallet_entries").await, 0);
    audit(&app).await;
}
