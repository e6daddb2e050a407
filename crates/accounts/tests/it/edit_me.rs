use crate::support::{
    OTHER_PASSWORD, PASSWORD, app, app_with, from_address, has_access, rate, retry_after, sign_in, sign_up, try_refresh, try_sign_in,
};
use futures::future::join_all;
use kit::limits::LimitSettings;
use serde_json::{Value, json};

// A8
#[tokio::test]
async fn a8_a_member_changes_name_and_phone() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    let edit = |body: Value| app.patch("/v1/me").bearer(&tokens.access).json(&body).send();
    let edited = edit(json!({"name": " Kim Minji ", "phone": "+82 10-1234-5678"})).await.expect(200);
    assert_eq!((&edited.body["name"], &edited.body["phone"]), (&json!("Kim Minji"), &json!("+821012345678")));
    let edited = edit(json!({"name": "Minji"})).await.expect(200);
    assert_eq!((&edited.body["name"], &edited.body["phone"]), (&json!("Minji"), &json!("+821012345678")), "absent fields stay unchanged");
    let edited = edit(json!({"phone": null})).await.expect(200);
    assert!(edited.body.get("phone").is_none(), "null removes it");
    let me = app.get("/v1/me").bearer(&tokens.access).send().await.expect(200);
    assert_eq!(me.bytes, edited.bytes);
}

// A8, A14; rows 6, 7
#[tokio::test]
async fn a8_protected_and_invalid_fields_are_refused() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    for (body, slug, pointer) in [
        (json!({"role": "operator"}), "unknown-field", "/role"),
        (json!({"state": "active"}), "unknown-field", "/state"),
        (json!({"id": "019a0000-0000-7000-8000-000000000000"}), "unknown-field", "/id"),
        (json!({"email": "operator@example.com"}), "unknown-field", "/email"),
        (json!({"name": ""}), "invalid-field", "/name"),
        (json!({"phone": "abc"}), "invalid-field", "/phone"),
        (json!({"password": OTHER_PASSWORD}), "invalid-field", "/current_password"),
        (json!({"password": "password1", "current_password": PASSWORD}), "weak-password", "/password"),
    ] {
        let refused = app.patch("/v1/me").bearer(&tokens.access).json(&body).send().await.expect_problem(422, slug);
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{body}");
    }
    assert_eq!(app.sql_i64("select version from accounts_members").await, 1, "nothing was changed");
}

// A8; row 28
#[tokio::test]
async fn a8_a_new_password_ends_the_other_sessions() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let here = sign_in(&app, "minji@example.com").await;
    let there = sign_in(&app, "minji@example.com").await;
    let change = json!({"password": OTHER_PASSWORD, "current_password": PASSWORD});
    let _ = app.patch("/v1/me").bearer(&here.access).json(&change).send().await.expect(200);

    assert!(!has_access(&app, &there.access).await);
    let _ = try_refresh(&app, &there.refresh).await.expect_problem(401, "unauthenticated");
    assert!(has_access(&app, &here.access).await, "the caller's session stays");
    let _ = try_refresh(&app, &here.refresh).await.expect(200);
    let _ = try_sign_in(&app, "minji@example.com", PASSWORD).await.expect_problem(401, "bad-credentials");
    let _ = try_sign_in(&app, "minji@example.com", OTHER_PASSWORD).await.expect(200);
}

#[tokio::test]
async fn a_new_password_requires_the_current_one() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let here = sign_in(&app, "minji@example.com").await;
    let there = sign_in(&app, "minji@example.com").await;
    let change = json!({"password": "gwangju-snow-15-ladder", "current_password": OTHER_PASSWORD, "name": "Thief"});
    for _ in 0..5 {
        let _ = app.patch("/v1/me").bearer(&here.access).json(&change).send().await.expect_problem(401, "bad-credentials");
    }
    let _ = app.patch("/v1/me").bearer(&here.access).json(&change).send().await.expect_problem(429, "too-many-attempts");
    assert!(has_access(&app, &there.access).await);
    let me = app.get("/v1/me").bearer(&here.access).send().await.expect(200);
    assert_eq!(me.body["name"], "Minji", "a change is made whole or not at all");
    // D2: these guesses do not count for signing in.
    sign_in(&app, "minji@example.com").await;
}

// Both changes were verified against the old password: the second is refused.
#[tokio::test]
async fn of_two_simultaneous_password_changes_one_wins() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let here = sign_in(&app, "minji@example.com").await;
    let there = sign_in(&app, "minji@example.com").await;
    let passwords = ["gwangju-snow-15-ladder", "daegu-wind-93-harbour"];
    let changes = [(&here, passwords[0]), (&there, passwords[1])].map(|(tokens, new)| {
        let body = json!({"password": new, "current_password": PASSWORD});
        app.patch("/v1/me").bearer(&tokens.access).json(&body).send()
    });
    let statuses: Vec<u16> = join_all(changes).await.iter().map(|answer| answer.status).collect();
    assert!(statuses == [200, 401] || statuses == [401, 200], "{statuses:?}");
    let winner = statuses.iter().position(|status| *status == 200).unwrap();
    let _ = try_sign_in(&app, "minji@example.com", passwords[winner]).await.expect(200);
    let _ = try_sign_in(&app, "minji@example.com", passwords[1 - winner]).await.expect(401);
    let access = [has_access(&app, &here.access).await, has_access(&app, &there.access).await];
    assert_eq!((access[winner], access[1 - winner]), (true, false));
}

// row 60
#[tokio::test]
async fn a_repeated_change_is_made_once() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    let edit = |name: &str| app.patch("/v1/me").bearer(&tokens.access).key("k").json(&json!({"name": name})).send();
    let first = edit("Kim Minji").await.expect(200);
    let again = edit("Kim Minji").await.expect(200);
    assert_eq!((first.bytes, again.headers.contains_key("idempotent-replayed")), (again.bytes, true));
    let _ = edit("Another").await.expect_problem(422, "idempotency-key-mismatch");
    assert_eq!(app.sql_i64("select version from accounts_members").await, 2);
}

// H5: over the whole router, by member and by address
#[tokio::test]
async fn changes_in_a_short_time_are_limited() {
    let limits =
        LimitSettings { write_per_member: rate("6/minute burst 3"), write_per_address: rate("1/minute burst 5"), ..LimitSettings::off() };
    let mut app = app_with(limits).await;
    let mut members = Vec::new();
    for name in ["minji", "jisoo", "sora"] {
        let email = format!("{name}@example.com");
        sign_up(&app, &email).await;
        members.push(sign_in(&app, &email).await.access);
    }
    app.router = from_address(&app.router, "203.0.113.7");
    let edit = |access: &str| app.patch("/v1/me").bearer(access).json(&json!({"name": "Kim"})).send();
    for _ in 0..3 {
        let _ = edit(&members[0]).await.expect(200);
    }
    for _ in 0..9 {
        let refused = edit(&members[0]).await.expect_problem(429, "too-many-requests");
        assert_eq!(retry_after(&refused), 10);
        assert!(has_access(&app, &members[0]).await, "reads go on");
    }
    for _ in 0..2 {
        let _ = edit(&members[1]).await.expect(200);
    }
    let refused = edit(&members[2]).await.expect_problem(429, "too-many-requests");
    assert_eq!(retry_after(&refused), 60);
}
