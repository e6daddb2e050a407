use crate::support::app;
use contracts::MemberId;
use kit::{auth::Role, ports::new_id};
use serde_json::json;

const PATH: &str = "/v1/@service@/@operation@";

#[tokio::test]
async fn a_member_is_answered() {
    let app = app().await;
    let token = app.token(MemberId(new_id()), Role::Customer);
    let answer = app.post(PATH).bearer(&token).json(&json!({"text": "First"})).send().await.expect(200);
    assert_eq!(answer.body, json!({"text": "First"}));
}

#[tokio::test]
async fn strangers_are_refused() {
    let app = app().await;
    let _ = app.post(PATH).json(&json!({"text": "First"})).send().await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn bad_fields_are_named() {
    let app = app().await;
    let token = app.token(MemberId(new_id()), Role::Customer);
    for (body, slug) in [(json!({}), "invalid-field"), (json!({"text": "t".repeat(101)}), "too-long")] {
        let refused = app.post(PATH).bearer(&token).json(&body).send().await.expect_problem(422, slug);
        assert_eq!(refused.body["errors"][0]["pointer"], "/text", "{body}");
    }
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_answer() {
    let app = app().await;
    let token = app.token(MemberId(new_id()), Role::Customer);
    let send = || app.post(PATH).bearer(&token).key("k").json(&json!({"text": "First"})).send();
    let (first, second) = (send().await.expect(200), send().await.expect(200));
    assert_eq!((&first.bytes, &second.headers["idempotent-replayed"]), (&second.bytes, &"true".parse().expect("a header value")));
}
