//! A browser's session: how it begins, what it is good for, and how long.

use crate::support::*;
use kit::testing::TestRequest;
use serde_json::json;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

// A13
#[tokio::test]
async fn a13_a_browser_signs_in_with_a_cookie_that_only_it_sees() {
    let app = app().await;
    let id = sign_up(&app, "minji@example.com").await;
    let answer = try_web_sign_in(&app, "minji@example.com", PASSWORD).await.expect(200);
    assert_eq!((&answer.body["id"], &answer.body["role"]), (&json!(id), &json!("customer")));
    assert_eq!(answer.headers["cache-control"], "no-store");
    let given = answer.headers["set-cookie"].to_str().unwrap();
    let (cookie, attributes) = given.split_once("; ").unwrap();
    assert_eq!(attributes, format!("Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age={}", 90 * 24 * 3600));
    let secret = cookie.strip_prefix("__Host-onrush=").expect("bound to the host");
    assert!(secret.len() == 43 && !String::from_utf8_lossy(&answer.bytes).contains(secret));

    let me = app.get("/v1/me").header("cookie", &format!("theme=dark; {cookie}; lang=ko")).send().await.expect(200);
    assert_eq!(me.body["email"], "minji@example.com");
    assert!(!me.headers.contains_key("set-cookie"));
    let changed = from_our_page(app.patch("/v1/me")).header("cookie", cookie).json(&json!({"name": "Jisoo"})).send().await.expect(200);
    assert_eq!(changed.body["name"], "Jisoo");
    // A session of its own, without a token that somebody could refresh.
    assert_eq!((app.sql_i64("select count(*) from accounts_refresh_tokens").await, cookies_kept(&app).await), (0, 1));
}

// A13, rows 29 and 30: the same answers and the same brakes at both doors
#[tokio::test]
async fn the_browsers_door_is_as_firm_as_the_other() {
    let mut app = app().await;
    sign_up(&app, "minji@example.com").await;
    app.router = seen_from(&app.router, "203.0.113.7");
    for (email, password) in [("minji@example.com", OTHER_PASSWORD), ("nobody@example.com", PASSWORD), ("not an address", PASSWORD)] {
        let wanted = try_sign_in(&app, email, password).await.expect_problem(401, "bad-credentials");
        let refused = try_web_sign_in(&app, email, password).await.expect_problem(401, "bad-credentials");
        assert_eq!(without_trace(&refused), without_trace(&wanted), "{email}");
        assert!(!refused.headers.contains_key("set-cookie"));
    }
    // Two guesses at Minji's so far.
    for n in 2..5 {
        let (web, other) =
            (try_web_sign_in(&app, "minji@example.com", OTHER_PASSWORD), try_sign_in(&app, "minji@example.com", OTHER_PASSWORD));
        let guess = if n % 2 == 0 { web.await } else { other.await };
        let _ = guess.expect_problem(401, "bad-credentials");
    }
    let refused = try_web_sign_in(&app, "minji@example.com", PASSWORD).await.expect_problem(429, "too-many-attempts");
    assert!(refused.headers.contains_key("retry-after"));
    let _ = try_sign_in(&app, "minji@example.com", PASSWORD).await.expect_problem(429, "too-many-attempts");
    assert_eq!((app.sql_i64("select count(*) from accounts_sessions").await, cookies_kept(&app).await), (0, 0));
}

// row 35
#[tokio::test]
async fn another_site_can_do_nothing_with_the_cookie() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let cookie = web_sign_in(&app, "minji@example.com").await;
    let foreign: &[&[(&str, &str)]] = &[
        &[],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")],
        &[("sec-fetch-site", "cross-site"), ("origin", "https://shop.example")],
    ];
    for says in foreign {
        let saying = |request: TestRequest| says.iter().fold(request, |request, (name, value)| request.header(name, value));
        let edit = saying(app.patch("/v1/me").header("host", "shop.example").header("cookie", &cookie));
        let refused = edit.json(&json!({"name": "Mallory"})).send().await.expect_problem(403, "csrf");
        assert!(!refused.headers.contains_key("set-cookie"), "its owner stays signed in");
        let _ =
            saying(app.delete("/v1/me").header("host", "shop.example").header("cookie", &cookie)).send().await.expect_problem(403, "csrf");
    }
    let me = app.get("/v1/me").header("cookie", &cookie).header("sec-fetch-site", "cross-site").send().await.expect(200);
    assert_eq!(me.body["name"], "Minji");
    let ours = app.patch("/v1/me").header("host", "shop.example").header("origin", "https://shop.example").header("cookie", &cookie);
    let _ = ours.json(&json!({"name": "Jisoo"})).send().await.expect(200);
    // A token says who sends it: no browser adds one by itself.
    let tokens = sign_in(&app, "minji@example.com").await;
    let by_token = app.patch("/v1/me").bearer(&tokens.access).header("cookie", &cookie).header("sec-fetch-site", "cross-site");
    let _ = by_token.json(&json!({"name": "Minji"})).send().await.expect(200);
    // Nor can another site sign its visitors in here.
    let body = json!({"email": "minji@example.com", "password": PASSWORD});
    let sign_in = app.post("/v1/web-sessions").header("sec-fetch-site", "cross-site").json(&body).send().await;
    assert!(!sign_in.expect_problem(403, "csrf").headers.contains_key("set-cookie"));
    assert_eq!(cookies_kept(&app).await, 1);
}

// A13: a bad token is not made good by a cookie
#[tokio::test]
async fn a_token_counts_where_both_are_sent() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    sign_up(&app, "jisoo@example.com").await;
    let (cookie, tokens) = (web_sign_in(&app, "minji@example.com").await, sign_in(&app, "jisoo@example.com").await);
    let both = app.get("/v1/me").bearer(&tokens.access).header("cookie", &cookie).send().await.expect(200);
    assert_eq!(both.body["email"], "jisoo@example.com");
    let _ = app.get("/v1/me").bearer("garbage").header("cookie", &cookie).send().await.expect_problem(401, "unauthenticated");
    // And no secret of one kind passes for the other.
    let secret = cookie.split_once('=').unwrap().1;
    let _ = app.get("/v1/me").bearer(secret).send().await.expect_problem(401, "unauthenticated");
    let _ = try_refresh(&app, secret).await.expect_problem(401, "unauthenticated");
    expect_over(&app, &format!("__Host-onrush={}", tokens.refresh)).await;
}

// A13
#[tokio::test]
async fn a_cookie_that_is_used_lives_on_and_one_that_is_not_ends() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let (used, idle) = (web_sign_in(&app, "minji@example.com").await, web_sign_in(&app, "minji@example.com").await);
    for _ in 0..8 {
        app.clock.advance(10 * DAY);
        assert!(is_known(&app, &used).await);
    }
    expect_over(&app, &idle).await;
    app.clock.advance(10 * DAY - Duration::from_secs(1));
    assert!(is_known(&app, &used).await);
    app.clock.advance(Duration::from_secs(1));
    expect_over(&app, &used).await;

    app.job("accounts.prune_sessions").await;
    assert_eq!((cookies_kept(&app).await, app.sql_i64("select count(*) from accounts_sessions").await), (0, 2));
    let young = web_sign_in(&app, "minji@example.com").await;
    app.clock.advance(31 * DAY);
    let last = web_sign_in(&app, "minji@example.com").await;
    app.job("accounts.prune_sessions").await;
    assert_eq!((cookies_kept(&app).await, app.sql_i64("select count(*) from accounts_sessions").await), (1, 2));
    expect_over(&app, &young).await;
    assert!(is_known(&app, &last).await);
}

#[tokio::test]
async fn many_expired_cookies_take_several_passes() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    for _ in 0..55 {
        web_sign_in(&app, "minji@example.com").await;
    }
    app.clock.advance(15 * DAY);
    let last = web_sign_in(&app, "minji@example.com").await;
    app.job("accounts.prune_sessions").await;
    assert_eq!(cookies_kept(&app).await, 1);
    assert!(is_known(&app, &last).await);
}
