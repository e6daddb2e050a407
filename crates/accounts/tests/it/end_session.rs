use crate::{
    list_sessions::sessions,
    support::{app, expect_cleared, expect_cookie_refused, from_our_page, has_access, sign_in, sign_up, try_refresh, web_sign_in},
};
use kit::ports::new_id;
use serde_json::json;

// L12
#[tokio::test]
async fn the_session_of_another_device_ends() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let lost = sign_in(&app, "minji@example.com").await;
    let here = sign_in(&app, "minji@example.com").await;
    let seen = sessions(&app, &here.access, "").await;
    let id =
        seen["items"].as_array().expect("a list").iter().find(|item| item["is_current"] == json!(false)).expect("the other")["id"].clone();
    let path = format!("/v1/sessions/{}", id.as_str().expect("an id"));
    for _ in 0..2 {
        let ended = app.delete(&path).bearer(&here.access).send().await.expect(204);
        assert!(!ended.headers.contains_key("set-cookie"), "this session goes on");
    }
    assert!(!has_access(&app, &lost.access).await && has_access(&app, &here.access).await);
    let _ = try_refresh(&app, &lost.refresh).await.expect_problem(401, "unauthenticated");
}

// L12: a browser may end its own session by its id, and loses its cookie.
#[tokio::test]
async fn a_browser_ends_its_own_session() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let cookie = web_sign_in(&app, "minji@example.com").await;
    let seen = app.get("/v1/sessions").header("cookie", &cookie).send().await.expect(200).body;
    let path = format!("/v1/sessions/{}", seen["items"][0]["id"].as_str().expect("an id"));
    let ended = from_our_page(app.delete(&path).header("cookie", &cookie)).send().await.expect(204);
    expect_cleared(&ended);
    expect_cookie_refused(&app, &cookie).await;
}

// A14
#[tokio::test]
async fn a14_the_session_of_another_account_is_not_found() {
    let app = app().await;
    for name in ["minji", "minsu"] {
        sign_up(&app, &format!("{name}@example.com")).await;
    }
    let (owner, other) = (sign_in(&app, "minji@example.com").await, sign_in(&app, "minsu@example.com").await);
    let seen = sessions(&app, &owner.access, "").await;
    let theirs = seen["items"][0]["id"].as_str().expect("an id").to_owned();
    for id in [theirs, new_id().to_string(), "mine".to_owned()] {
        let _ = app.delete(format!("/v1/sessions/{id}")).bearer(&other.access).send().await.expect_problem(404, "not-found");
    }
    assert!(has_access(&app, &owner.access).await);
}
