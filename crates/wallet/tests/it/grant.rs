use super::{Member, STRANGER, app, audit};
use contracts::MemberId;
use kit::{auth::Role, ports::new_id};
use serde_json::json;

// B4: an operator grants points. The member sees the reason, and the ledger records the operator.
#[tokio::test]
async fn an_operator_grants_points_once() {
    let app = app().await;
    let member = Member::new(&app);
    let operator_id = MemberId(new_id());
    let operator = app.token(operator_id, Role::Operator);
    let body = json!({"member_id": member.id, "amount": 500, "reason": "late delivery"});
    let first = app.post("/v1/wallet/grants").bearer(&operator).key("g").json(&body).send().await.expect(201);
    assert_eq!(first.body["points"].as_i64(), Some(500));
    let again = app.post("/v1/wallet/grants").bearer(&operator).key("g").json(&body).send().await.expect(201);
    assert_eq!(first.bytes, again.bytes);
    assert_eq!(member.balances(&app).await, (0, 500, 0));
    let entry = app.get("/v1/wallet/entries?account=points").bearer(&member.token).send().await.expect(200).body["items"][0].clone();
    assert_eq!((entry["kind"].as_str(), entry["reason"].as_str()), (Some("grant"), Some("late delivery")));
    let named: Vec<(MemberId,)> = app.rows("select granted_by from wallet_transactions where kind='grant'").await;
    assert_eq!(named, [(operator_id,)]);
    audit(&app).await;
}

// A5: all other roles are refused.
#[tokio::test]
async fn only_operators_grant_points() {
    let app = app().await;
    let member = Member::new(&app);
    let body = json!({"member_id": member.id, "amount": 500, "reason": "self-service"});
    let _ = app.post("/v1/wallet/grants").key("g").json(&body).send().await.expect_problem(401, "unauthenticated");
    for role in [Role::Customer, Role::Seller] {
        let token = app.token(member.id, role);
        let _ = app.post("/v1/wallet/grants").bearer(&token).key("g").json(&body).send().await.expect_problem(403, "forbidden");
    }
    assert_eq!(member.balances(&app).await, (0, 0, 0));
}

#[tokio::test]
async fn bad_grants_are_refused() {
    let app = app().await;
    let member = MemberId(new_id());
    let operator = app.token(MemberId(new_id()), Role::Operator);
    for (body, problem) in [
        (json!({"member_id": member, "amount": 0, "reason": "r"}), "amount-out-of-range"),
        (json!({"member_id": member, "amount": -1, "reason": "r"}), "amount-out-of-range"),
        (json!({"member_id": member, "amount": 10_000_001, "reason": "r"}), "amount-out-of-range"),
        (json!({"member_id": member, "amount": 1, "reason": "x".repeat(201)}), "too-long"),
        (json!({"member_id": "me", "amount": 1, "reason": "r"}), "invalid-field"),
        // L7, R10
        (json!({"member_id": STRANGER, "amount": 1, "reason": "r"}), "invalid-field"),
        (json!({"member_id": member, "amount": 1}), "invalid-field"),
    ] {
        let _ = app.post("/v1/wallet/grants").bearer(&operator).key("g").json(&body).send().await.expect_problem(422, problem);
    }
    let body = json!({"member_id": member, "amount": 1, "reason": "r"});
    let _ = app.post("/v1/wallet/grants").bearer(&operator).json(&body).send().await.expect_problem(400, "idempotency-key-missing");
    assert_eq!(app.sql_i64("select count(*) from wallet_transactions").await, 0);
}
