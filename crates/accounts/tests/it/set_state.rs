use crate::support::{PASSWORD, add_operator, app, has_access, operator, sign_in, sign_up, try_refresh, try_sign_in};
use contracts::MemberId;
use kit::{auth::Role, ports::new_id};
use serde_json::json;
use testkit::{App, TestResponse};

async fn set(app: &App, token: &str, id: MemberId, state: &str) -> TestResponse {
    app.patch(format!("/v1/accounts/{id}")).bearer(token).json(&json!({"state": state})).send().await
}

// row 28
#[tokio::test]
async fn a_disabled_account_has_no_access_until_enabled() {
    let app = app().await;
    let id = sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    let operator = operator(&app);
    let disabled = set(&app, &operator, id, "disabled").await.expect(200);
    assert_eq!(disabled.body["state"], "disabled");
    assert!(!has_access(&app, &tokens.access).await);
    let _ = try_sign_in(&app, "minji@example.com", PASSWORD).await.expect_problem(401, "bad-credentials");
    let body = json!({"email": "minji@example.com", "password": PASSWORD, "name": "Again"});
    let _ = app.post("/v1/accounts").json(&body).send().await.expect_problem(409, "email-taken");

    let again = set(&app, &operator, id, "disabled").await.expect(200);
    assert_eq!(again.body, disabled.body, "repeating changes nothing");
    let _ = set(&app, &operator, id, "active").await.expect(200);
    sign_in(&app, "minji@example.com").await;
    let _ = try_refresh(&app, &tokens.refresh).await.expect_problem(401, "unauthenticated");
    assert!(!has_access(&app, &tokens.access).await, "the sessions from before stay ended");
}

// A5; row 39
#[tokio::test]
async fn a5_only_an_operator_sets_states_and_never_its_own() {
    let app = app().await;
    let id = sign_up(&app, "minji@example.com").await;
    for role in [Role::Customer, Role::Seller] {
        let token = app.token(id, role);
        let _ = set(&app, &token, id, "disabled").await.expect_problem(403, "forbidden");
    }
    let _ = app.patch(format!("/v1/accounts/{id}")).json(&json!({"state": "disabled"})).send().await.expect_problem(401, "unauthenticated");
    let itself = app.token(id, Role::Operator);
    let _ = set(&app, &itself, id, "disabled").await.expect_problem(403, "forbidden");
    assert_eq!(app.sql_i64("select count(*) from accounts_members where state='active'").await, 1);
}

// rows 6, 7
#[tokio::test]
async fn unknown_states_and_accounts_are_refused() {
    let app = app().await;
    let id = sign_up(&app, "minji@example.com").await;
    let operator = operator(&app);
    let _ = set(&app, &operator, id, "closed").await.expect_problem(422, "invalid-field");
    let _ = set(&app, &operator, MemberId(new_id()), "disabled").await.expect_problem(404, "not-found");
    let request = app.patch(format!("/v1/accounts/{id}")).bearer(&operator).json(&json!({"state": "disabled", "role": "operator"}));
    let _ = request.send().await.expect_problem(422, "unknown-field");
    let tokens = sign_in(&app, "minji@example.com").await;
    let _ = app.delete("/v1/me").bearer(&tokens.access).send().await.expect(204);
    let _ = set(&app, &operator, id, "active").await.expect_problem(404, "not-found");
}

// M6, R2: of two operators that disable each other at once, one stays.
#[tokio::test]
async fn the_last_operator_cannot_be_disabled() {
    let app = app().await;
    let (one, two) = (add_operator(&app, "one@example.com").await, add_operator(&app, "two@example.com").await);
    let (first, second) = (sign_in(&app, "one@example.com").await, sign_in(&app, "two@example.com").await);
    let (by_first, by_second) = tokio::join!(set(&app, &first.access, two, "disabled"), set(&app, &second.access, one, "disabled"));
    let active = "select count(*) from accounts_members where role='operator' and state='active'";
    assert_eq!(app.sql_i64(active).await, 1, "{by_first:?} {by_second:?}");
    // A token without an account could disable the rest.
    for id in [one, two] {
        let _ = set(&app, &operator(&app), id, "disabled").await;
    }
    assert_eq!(app.sql_i64(active).await, 1);
    let statuses = [by_first.status, by_second.status];
    assert!(statuses.contains(&200) && statuses.iter().all(|status| matches!(status, 200 | 401 | 409)), "{statuses:?}");
}
