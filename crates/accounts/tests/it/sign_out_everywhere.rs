use crate::support::{
    app, cookie_count, expect_cleared, expect_cookie_refused, from_our_page, has_access, is_signed_in, sign_in, sign_up, try_refresh,
    web_sign_in,
};

// L12
#[tokio::test]
async fn all_sessions_end_at_once() {
    let app = app().await;
    for name in ["minji", "minsu"] {
        sign_up(&app, &format!("{name}@example.com")).await;
    }
    let other = sign_in(&app, "minsu@example.com").await;
    let programs = [sign_in(&app, "minji@example.com").await, sign_in(&app, "minji@example.com").await];
    let cookie = web_sign_in(&app, "minji@example.com").await;
    let ended = app.delete("/v1/sessions").bearer(&programs[0].access).send().await.expect(204);
    expect_cleared(&ended);
    for tokens in &programs {
        assert!(!has_access(&app, &tokens.access).await);
        let _ = try_refresh(&app, &tokens.refresh).await.expect_problem(401, "unauthenticated");
    }
    expect_cookie_refused(&app, &cookie).await;
    assert_eq!(cookie_count(&app).await, 0);
    assert!(has_access(&app, &other.access).await);
    sign_in(&app, "minji@example.com").await;
}

// L12
#[tokio::test]
async fn the_callers_session_can_stay() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let program = sign_in(&app, "minji@example.com").await;
    let (kept, lost) = (web_sign_in(&app, "minji@example.com").await, web_sign_in(&app, "minji@example.com").await);
    let ended = from_our_page(app.delete("/v1/sessions?keep_current=true").header("cookie", &kept)).send().await.expect(204);
    assert!(!ended.headers.contains_key("set-cookie"));
    assert!(is_signed_in(&app, &kept).await && !is_signed_in(&app, &lost).await && !has_access(&app, &program.access).await);
}

#[tokio::test]
async fn other_parameters_and_strangers_are_refused() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    for query in ["?keep_current=yes", "?keep=1"] {
        let _ = app.delete(format!("/v1/sessions{query}")).bearer(&tokens.access).send().await.expect_problem(422, "invalid-parameter");
    }
    let _ = app.delete("/v1/sessions").send().await.expect_problem(401, "unauthenticated");
    assert!(has_access(&app, &tokens.access).await);
}
