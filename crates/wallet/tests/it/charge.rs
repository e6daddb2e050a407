use super::{Member, app, app_with, audit};
use contracts::Won;
use serde_json::json;
use wallet::WalletSettings;

// B1, B3: a charge is in the answer, in the balance, and in the ledger with both entries.
#[tokio::test]
async fn a_charge_raises_the_balance() {
    let app = app().await;
    let member = Member::new(&app);
    let body = member.charge(&app, "a", 1_000).await.expect(201).body;
    assert_eq!((body["amount"].as_i64(), body["cash"].as_i64()), (Some(1_000), Some(1_000)));
    let body = member.charge(&app, "b", 2_500).await.expect(201).body;
    assert_eq!(body["cash"].as_i64(), Some(3_500));
    assert_eq!(member.balances(&app).await, (3_500, 0, 0));
    assert_eq!(app.sql_i64("select balance from wallet_accounts where kind='CASH_IN'").await, -3_500);
    audit(&app).await;
}

// B1: an amount that is too small, too large or no number changes nothing.
#[tokio::test]
async fn bad_amounts_are_refused() {
    let app = app().await;
    let member = Member::new(&app);
    for (amount, problem) in [
        (json!(999), "charge-too-small"),
        (json!(0), "charge-too-small"),
        (json!(-5_000), "charge-too-small"),
        (json!(100_000_001), "amount-out-of-range"),
        (json!("2000"), "invalid-field"),
        (json!(1_000.5), "invalid-amount"),
        (json!(null), "invalid-field"),
    ] {
        let answer = app.post("/v1/wallet/charges").bearer(&member.token).key("k").json(&json!({"amount": amount})).send().await;
        let _ = answer.expect_problem(422, problem);
    }
    let extra = json!({"amount": 2_000, "balance": 9});
    let _ = app.post("/v1/wallet/charges").bearer(&member.token).key("k").json(&extra).send().await.expect_problem(422, "unknown-field");
    assert_eq!(member.balances(&app).await, (0, 0, 0));
    assert_eq!(app.sql_i64("select count(*) from wallet_transactions").await, 0);
}

// Decision 7: the unit of charges is a setting.
#[tokio::test]
async fn a_charge_must_be_a_multiple_of_the_unit() {
    let app = app_with(WalletSettings { charge_unit: Won(1_000), ..WalletSettings::default() }, true).await;
    let member = Member::new(&app);
    let _ = member.charge(&app, "a", 1_500).await.expect_problem(422, "invalid-field");
    let _ = member.charge(&app, "b", 2_000).await.expect(201);
}

// Rows 56, 57, 59, 60: a repeated key charges once and returns the same bytes. Another body is refused.
// The same key of another member is another key.
#[tokio::test]
async fn a_repeated_key_charges_once() {
    let app = app().await;
    let member = Member::new(&app);
    let first = member.charge(&app, "k", 2_000).await.expect(201);
    let again = member.charge(&app, "k", 2_000).await.expect(201);
    assert_eq!(first.bytes, again.bytes);
    assert_eq!(again.headers.get("idempotent-replayed").map(|value| value.as_bytes()), Some(b"true".as_slice()));
    assert_eq!(member.balances(&app).await, (2_000, 0, 0));
    let _ = member.charge(&app, "k", 3_000).await.expect_problem(422, "idempotency-key-mismatch");
    let other = Member::new(&app);
    let _ = other.charge(&app, "k", 3_000).await.expect(201);
    let without = app.post("/v1/wallet/charges").bearer(&member.token).json(&json!({"amount": 2_000})).send().await;
    let _ = without.expect_problem(400, "idempotency-key-missing");
    let _ = app.post("/v1/wallet/charges").key("k").json(&json!({"amount": 2_000})).send().await.expect_problem(401, "unauthenticated");
    assert_eq!((member.balances(&app).await.0, other.balances(&app).await.0), (2_000, 3_000));
}

// B5: parallel charges, some with the same key: each key counts once.
#[tokio::test]
async fn parallel_charges_are_exact() {
    let app = app().await;
    let member = Member::new(&app);
    let keys: Vec<String> = (0..40).map(|n| format!("k{}", n % 30)).collect();
    let charges = keys.iter().map(|key| member.charge(&app, key, 1_000));
    for answer in futures::future::join_all(charges).await {
        let _ = answer.expect(201);
    }
    assert_eq!(member.balances(&app).await, (30_000, 0, 0));
    audit(&app).await;
}
