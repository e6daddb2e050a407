use crate::support::{Tokens, app, has_access, sign_in, sign_up, try_refresh, web_sign_in};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::App;

const DAY: Duration = Duration::from_secs(24 * 3600);

pub async fn sessions(app: &App, access: &str, query: &str) -> Value {
    app.get(format!("/v1/sessions{query}")).bearer(access).send().await.expect(200).body
}

// L12
#[tokio::test]
async fn all_open_sessions_of_the_caller_are_listed() {
    let app = app().await;
    for name in ["minji", "minsu"] {
        sign_up(&app, &format!("{name}@example.com")).await;
    }
    let other = sign_in(&app, "minsu@example.com").await;
    let program = sign_in(&app, "minji@example.com").await;
    let signed_in_at = app.clock_now().to_string();
    app.clock.advance(Duration::from_secs(60));
    let cookie = web_sign_in(&app, "minji@example.com").await;
    let ended = sign_in(&app, "minji@example.com").await;
    let _ = app.delete("/v1/sessions/current").bearer(&ended.access).send().await.expect(204);
    app.clock.advance(Duration::from_secs(60));
    let program = Tokens::of(&try_refresh(&app, &program.refresh).await.expect(200));

    let seen = sessions(&app, &program.access, "").await;
    let [browser, own] = seen["items"].as_array().expect("a list").as_slice() else { panic!("{seen}") };
    assert_eq!((&browser["kind"], &browser["is_current"]), (&json!("cookie"), &json!(false)));
    assert_eq!(browser["created_at"], browser["last_used_at"]);
    assert_eq!((&own["kind"], &own["is_current"], &own["created_at"]), (&json!("token"), &json!(true), &json!(signed_in_at)));
    assert_eq!(own["last_used_at"], app.clock_now().to_string());
    assert_eq!(seen["next_cursor"], Value::Null);
    let by_browser = app.get("/v1/sessions").header("cookie", &cookie).send().await.expect(200).body;
    assert_eq!(by_browser["items"][0]["is_current"], true);
    assert_eq!(sessions(&app, &other.access, "").await["items"].as_array().map(Vec::len), Some(1));
}

// L12: unused sessions end by themselves, and leave the list.
#[tokio::test]
async fn a_session_that_was_not_used_is_missing() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let _ = (sign_in(&app, "minji@example.com").await, web_sign_in(&app, "minji@example.com").await);
    app.clock.advance(14 * DAY);
    let now = sign_in(&app, "minji@example.com").await;
    assert_eq!(sessions(&app, &now.access, "").await["items"].as_array().map(Vec::len), Some(1));
    assert!(has_access(&app, &now.access).await);
}

#[tokio::test]
async fn pages_follow_each_other() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    sign_up(&app, "minsu@example.com").await;
    let mut last = sign_in(&app, "minji@example.com").await;
    for _ in 0..4 {
        last = sign_in(&app, "minji@example.com").await;
    }
    let (mut ids, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = sessions(&app, &last.access, &query).await;
        ids.extend(page["items"].as_array().expect("a list").iter().map(|item| item["id"].as_str().expect("an id").to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={cursor}");
    }
    let mut sorted = ids.clone();
    sorted.sort_by(|a, b| b.cmp(a));
    sorted.dedup();
    assert_eq!((ids.len(), &ids), (5, &sorted));
    let other = sign_in(&app, "minsu@example.com").await;
    let foreign = app.get(format!("/v1/sessions{query}")).bearer(&other.access);
    let _ = foreign.send().await.expect_problem(400, "invalid-cursor");
    let _ = app.get("/v1/sessions?limit=0").bearer(&last.access).send().await.expect_problem(422, "invalid-parameter");
    let _ = app.get("/v1/sessions").send().await.expect_problem(401, "unauthenticated");
}
