use crate::support::{app, operator, sign_in, sign_up};
use contracts::MemberId;
use kit::{auth::Role, ports::new_id};
use serde_json::json;

// A5, A14; row 39
#[tokio::test]
async fn a5_a14_only_an_operator_reads_any_account() {
    let app = app().await;
    let id = sign_up(&app, "minji@example.com").await;
    let path = format!("/v1/accounts/{id}");
    let seen = app.get(&path).bearer(&operator(&app)).send().await.expect(200);
    assert_eq!((&seen.body["id"], &seen.body["state"], &seen.body["role"]), (&json!(id), &json!("active"), &json!("customer")));

    let own = sign_in(&app, "minji@example.com").await.access;
    for token in [own, app.token(MemberId(new_id()), Role::Customer), app.token(MemberId(new_id()), Role::Seller)] {
        let _ = app.get(&path).bearer(&token).send().await.expect_problem(403, "forbidden");
    }
    let _ = app.get(&path).send().await.expect_problem(401, "unauthenticated");
}

// rows 20, 21
#[tokio::test]
async fn an_unknown_account_is_not_found() {
    let app = app().await;
    let token = operator(&app);
    for id in [new_id().to_string(), "7".into(), "..%2fmembers".into(), "'%20or%201=1--".into()] {
        let _ = app.get(format!("/v1/accounts/{id}")).bearer(&token).send().await.expect_problem(404, "not-found");
    }
}
