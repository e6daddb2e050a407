use crate::support::{app, create, member};
use kit::ports::new_id;
use serde_json::json;

#[tokio::test]
async fn a_member_creates_an_entry() {
    let app = app().await;
    let created = create(&app, &member(&app), " First ").await;
    assert_eq!(created.body["name"], "First");
    let id = created.body["id"].as_str().expect("an id");
    assert_eq!(created.headers["location"], format!("/v1/@service@/{id}").as_str());
}

#[tokio::test]
async fn only_members_create_entries() {
    let app = app().await;
    let _ = app.post("/v1/@service@").json(&json!({"name": "First"})).send().await.expect_problem(401, "unauthenticated");
    assert_eq!(app.sql_i64("select count(*) from @service@_entries").await, 0);
}

#[tokio::test]
async fn bad_fields_are_named() {
    let app = app().await;
    for (body, slug, pointer) in [
        (json!({}), "invalid-field", "/name"),
        (json!({"name": "\t"}), "invalid-field", "/name"),
        (json!({"name": "n".repeat(101)}), "too-long", "/name"),
        (json!({"name": "First", "id": new_id()}), "unknown-field", "/id"),
    ] {
        let refused = app.post("/v1/@service@").bearer(&member(&app)).json(&body).send().await.expect_problem(422, slug);
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{body}");
    }
    assert_eq!(app.sql_i64("select count(*) from @service@_entries").await, 0);
}

#[tokio::test]
async fn a_repeated_request_creates_one_entry() {
    let app = app().await;
    let token = member(&app);
    let send = || app.post("/v1/@service@").bearer(&token).key("k").json(&json!({"name": "First"})).send();
    let (first, second) = (send().await.expect(201), send().await.expect(201));
    assert_eq!(first.bytes, second.bytes);
    assert_eq!(app.sql_i64("select count(*) from @service@_entries").await, 1);
}

#[tokio::test]
async fn two_entries_at_once_both_exist() {
    let app = app().await;
    let token = member(&app);
    let (first, second) = tokio::join!(create(&app, &token, "First"), create(&app, &token, "Second"));
    assert_ne!(first.body["id"], second.body["id"]);
    assert_eq!(app.sql_i64("select count(*) from @service@_entries").await, 2);
}
