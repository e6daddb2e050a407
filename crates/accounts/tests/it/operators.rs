//! Operators as `onrush operator` adds, lists and removes them.

use crate::support::{
    Holdings, OTHER_PASSWORD, PASSWORD, add_operator, app, has_access, services_with, sign_in, sign_up, try_refresh, try_sign_in,
};
use accounts::{Accounts, AccountsSettings, OperatorAddition, OperatorError, list_operators};
use std::sync::Arc;
use testkit::App;

fn accounts(app: &App) -> Arc<Accounts> {
    Arc::new(Accounts::new(app.kit().clone(), AccountsSettings::default()))
}

async fn listed(app: &App) -> Vec<(String, bool)> {
    let found = list_operators(&mut app.kit().db.reader().await.expect("a connection")).await.expect("a list");
    found.into_iter().map(|operator| (operator.email, operator.is_active)).collect()
}

// M6
#[tokio::test]
async fn an_added_operator_signs_in_and_is_listed() {
    let app = app().await;
    let id = add_operator(&app, "Ops@example.com").await;
    sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "ops@example.com").await;
    assert_eq!(app.get("/v1/me").bearer(&tokens.access).send().await.expect(200).body["role"], "operator");
    // Adding again changes nothing, not even the password.
    let again = accounts(&app).add_operator("ops@example.com", OTHER_PASSWORD, true).await.expect("it is known");
    assert_eq!(again, OperatorAddition::Known(id));
    let _ = try_sign_in(&app, "ops@example.com", OTHER_PASSWORD).await.expect_problem(401, "bad-credentials");
    assert_eq!(listed(&app).await, [("Ops@example.com".to_owned(), true)]);
}

// M6: a member's address makes no operator, whose password the member would know.
#[tokio::test]
async fn an_address_of_a_member_makes_no_operator() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let add = async |email, password| accounts(&app).add_operator(email, password, true).await;
    assert!(matches!(add("minji@example.com", OTHER_PASSWORD).await, Err(OperatorError::Taken)));
    assert!(matches!(add("minji", OTHER_PASSWORD).await, Err(OperatorError::BadEmail)));
    assert!(matches!(add("ops@example.com", "password").await, Err(OperatorError::BadPassword(_))));
    assert_eq!(app.sql_i64("select count(*) from accounts_members where role='operator'").await, 0);
    assert!(matches!(accounts(&app).remove_operator("minji@example.com").await, Err(OperatorError::Unknown)));
}

// M6: its tokens name the old role, so they end at once. A seller stays a seller.
#[tokio::test]
async fn a_removed_operator_loses_its_rights_at_once() {
    for (stores, role) in [(0, "customer"), (1, "seller")] {
        let app = App::start(|kit| services_with(kit, AccountsSettings::default(), Holdings { stores, ..Holdings::default() })).await;
        let (id, _) = (add_operator(&app, "ops@example.com").await, add_operator(&app, "second@example.com").await);
        let tokens = sign_in(&app, "ops@example.com").await;
        // The application's process ends its own sessions, as a server does when it hears of another process.
        assert_eq!(accounts(&app).remove_operator(" OPS@example.com").await.expect("another is left"), id);
        assert!(!has_access(&app, &tokens.access).await);
        let _ = try_refresh(&app, &tokens.refresh).await.expect_problem(401, "unauthenticated");
        let again = sign_in(&app, "ops@example.com").await;
        assert_eq!(app.get("/v1/me").bearer(&again.access).send().await.expect(200).body["role"], role);
        assert!(matches!(accounts(&app).remove_operator("second@example.com").await, Err(OperatorError::Last)));
        assert_eq!(listed(&app).await, [("second@example.com".to_owned(), true)]);
        let _ = try_sign_in(&app, "second@example.com", PASSWORD).await.expect(200);
    }
}
