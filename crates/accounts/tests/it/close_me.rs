use crate::support::{PASSWORD, app, has_access, operator, sign_in, sign_up, try_refresh, try_sign_in};
use futures::future::join_all;

// A8; row 28
#[tokio::test]
async fn a8_closing_ends_access_and_frees_the_address() {
    let app = app().await;
    let id = sign_up(&app, "minji@example.com").await;
    let here = sign_in(&app, "minji@example.com").await;
    let there = sign_in(&app, "minji@example.com").await;
    let _ = app.delete("/v1/me").bearer(&here.access).send().await.expect(204);
    for tokens in [&here, &there] {
        assert!(!has_access(&app, &tokens.access).await);
        let _ = try_refresh(&app, &tokens.refresh).await.expect_problem(401, "unauthenticated");
    }
    let _ = try_sign_in(&app, "minji@example.com", PASSWORD).await.expect_problem(401, "bad-credentials");

    let again = sign_up(&app, "minji@example.com").await;
    assert_ne!(again, id, "the address opens another account");
    let tokens = sign_in(&app, "minji@example.com").await;
    assert!(has_access(&app, &tokens.access).await);
}

// A8
#[tokio::test]
async fn a8_closing_erases_personal_data_and_keeps_the_row() {
    let app = app().await;
    let id = sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    let edit = app.patch("/v1/me").bearer(&tokens.access).json(&serde_json::json!({"phone": "010-1234-5678"}));
    let _ = edit.send().await.expect(200);
    let _ = app.delete("/v1/me").bearer(&tokens.access).send().await.expect(204);
    let seen = app.get(format!("/v1/accounts/{id}")).bearer(&operator(&app)).send().await.expect(200);
    assert_eq!((&seen.body["state"], &seen.body["email"], &seen.body["name"]), (&"closed".into(), &"".into(), &"".into()));
    assert!(seen.body["closed_at"].is_string() && seen.body.get("phone").is_none());
    for column in ["email", "name", "phone", "email_normalized"] {
        let sql = format!("select count(*) from accounts_members where {column} like '%minji%' or {column} like '%1234%'");
        assert_eq!(app.sql_i64(&sql).await, 0, "{column}");
    }
}

// row 62
#[tokio::test]
async fn simultaneous_closes_close_once() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    let answers = join_all((0..4).map(|_| app.delete("/v1/me").bearer(&tokens.access).send())).await;
    assert!(answers.iter().all(|answer| matches!(answer.status, 204 | 401)), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.status == 204));
    assert_eq!(app.sql_i64("select version from accounts_members").await, 2);
}
