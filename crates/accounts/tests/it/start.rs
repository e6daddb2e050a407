use crate::support::{Holdings, OTHER_PASSWORD, PASSWORD, add_operator, app, services_with, sign_in, sign_up, try_sign_in};
use accounts::{Accounts, AccountsSettings};
use kit::{Fault, Kit, Module};
use std::sync::Arc;
use testkit::App;

fn with_operator(email: &'static str, password: &'static str) -> impl Fn(&Kit) -> Vec<Arc<dyn Module>> {
    move |kit| {
        let settings = AccountsSettings { operator: Some((email.into(), password.into())) };
        services_with(kit, settings, Holdings::default())
    }
}

/// Starts a second instance with this operator on the database of the application.
async fn start_again(app: &App, email: &str, password: &str) -> Result<(), Fault> {
    let settings = AccountsSettings { operator: Some((email.into(), password.into())) };
    Arc::new(Accounts::new(app.kit().clone(), settings)).start().await
}

// A5
#[tokio::test]
async fn a5_the_operator_of_the_settings_is_created() {
    let app = App::start(with_operator(" Ops@example.com", PASSWORD)).await;
    let tokens = sign_in(&app, "ops@example.com").await;
    let me = app.get("/v1/me").bearer(&tokens.access).send().await.expect(200);
    assert_eq!(me.body["role"], "operator");
    let shopper = sign_up(&app, "minji@example.com").await;
    let _ = app.get(format!("/v1/accounts/{shopper}")).bearer(&tokens.access).send().await.expect(200);

    // A later start changes nothing: the operator may have set another password.
    let app = app.restart(with_operator("ops@example.com", OTHER_PASSWORD)).await;
    let _ = try_sign_in(&app, "ops@example.com", OTHER_PASSWORD).await.expect_problem(401, "bad-credentials");
    sign_in(&app, "ops@example.com").await;
    assert_eq!(app.sql_i64("select count(*) from accounts_members where role='operator'").await, 1);
}

// A5, M6, R2: a member who signed up with the address first must not become an operator, nor keep the mall from starting.
#[tokio::test]
async fn a5_signing_up_first_makes_no_operator() {
    let app = app().await;
    sign_up(&app, "ops@example.com").await;
    // Also with a password that no operator could have.
    for password in [OTHER_PASSWORD, "password"] {
        start_again(&app, "ops@example.com", password).await.expect("the mall starts");
    }
    assert_eq!(app.sql_i64("select count(*) from accounts_members where role='operator'").await, 0);
    sign_in(&app, "ops@example.com").await;
}

// M6, R2: the address of an operator who closed the account stays taken, also for the settings.
#[tokio::test]
async fn the_address_of_a_closed_operator_stays_taken() {
    let app = app().await;
    add_operator(&app, "ops@example.com").await;
    add_operator(&app, "second@example.com").await;
    let tokens = sign_in(&app, "ops@example.com").await;
    let _ = app.delete("/v1/me").bearer(&tokens.access).send().await.expect(204);
    let body = serde_json::json!({"email": "OPS@example.com", "password": PASSWORD, "name": "Stranger"});
    let _ = app.post("/v1/accounts").json(&body).send().await.expect_problem(409, "email-taken");
    start_again(&app, "ops@example.com", OTHER_PASSWORD).await.expect("the mall starts");
    assert_eq!(app.sql_i64("select count(*) from accounts_members where role='operator' and state='active'").await, 1);
    assert_eq!(app.sql_i64("select count(*) from accounts_members where email like '%ops%'").await, 0);
    // The owner of the machine may use the address again.
    add_operator(&app, "ops@example.com").await;
    assert_eq!(app.sql_i64("select count(*) from accounts_reserved_addresses").await, 0);
}

#[tokio::test]
async fn an_operator_without_a_good_password_or_address_is_refused() {
    let app = app().await;
    for (email, password) in [("ops@example.com", "password"), ("ops", PASSWORD), ("ops@example.com", "")] {
        let refused = start_again(&app, email, password).await.expect_err("it is refused");
        assert!(matches!(refused, Fault::Setting(_)), "{refused}");
        assert!(!refused.to_string().contains(PASSWORD));
    }
    assert_eq!(app.sql_i64("select count(*) from accounts_members").await, 0);
}
