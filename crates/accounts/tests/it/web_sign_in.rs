//! Browser sessions: sign-in, use and lifetime.

use crate::support::*;
use serde_json::json;
use std::time::Duration;
use testkit::TestRequest;

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
    // The session has a cookie and no refresh token.
    assert_eq!((app.sql_i64("select count(*) from accounts_refresh_tokens").await, cookie_count(&app).await), (0, 1));
}

// A13, rows 29 and 30: both sign-ins have the same answers and the same rate limits.
#[tokio::test]
async fn browser_sign_in_has_the_same_limits() {
    let mut app = app().await;
    sign_up(&app, "minji@example.com").await;
    app.router = from_address(&app.router, "203.0.113.7");
    for (email, password) in [("minji@example.com", OTHER_PASSWORD), ("nobody@example.com", PASSWORD), ("not an address", PASSWORD)] {
        let wanted = try_sign_in(&app, email, password).await.expect_problem(401, "bad-credentials");
        let refused = try_web_sign_in(&app, email, password).await.expect_problem(401, "bad-credentials");
        assert_eq!(without_trace(&refused), without_trace(&wanted), "{email}");
        assert!(!refused.headers.contains_key("set-cookie"));
    }
    // Minji's account has seen two guesses so far.
    for n in 2..5 {
        let (web, other) =
            (try_web_sign_in(&app, "minji@example.com", OTHER_PASSWORD), try_sign_in(&app, "minji@example.com", OTHER_PASSWORD));
        let guess = if n % 2 == 0 { web.await } else { other.await };
        let _ = guess.expect_problem(401, "bad-credentials");
    }
    let refused = try_web_sign_in(&app, "minji@example.com", PASSWORD).await.expect_problem(429, "too-many-attempts");
    assert!(refused.headers.contains_key("retry-after"));
    let _ = try_sign_in(&app, "minji@example.com", PASSWORD).await.expect_problem(429, "too-many-attempts");
    assert_eq!((app.sql_i64("select count(*) from accounts_sessions").await, cookie_count(&app).await), (0, 0));
}

// row 35
#[tokio::test]
async fn another_site_cannot_use_the_cookie() {
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
    for headers in foreign {
        let with_headers = |request: TestRequest| headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let edit = with_headers(app.patch("/v1/me").header("host", "shop.example").header("cookie", &cookie));
        let refused = edit.json(&json!({"name": "Mallory"})).send().await.expect_problem(403, "csrf");
        assert!(!refused.headers.contains_key("set-cookie"), "its owner stays signed in");
        let _ = with_headers(app.delete("/v1/me").header("host", "shop.example").header("cookie", &cookie))
            .send()
            .await
            .expect_problem(403, "csrf");
    }
    let me = app.get("/v1/me").header("cookie", &cookie).header("sec-fetch-site", "cross-site").send().await.expect(200);
    assert_eq!(me.body["name"], "Minji");
    let ours = app.patch("/v1/me").header("host", "shop.example").header("origin", "https://shop.example").header("cookie", &cookie);
    let _ = ours.json(&json!({"name": "Jisoo"})).send().await.expect(200);
    // A token proves the sender: browsers do not add one by themselves.
    let tokens = sign_in(&app, "minji@example.com").await;
    let by_token = app.patch("/v1/me").bearer(&tokens.access).header("cookie", &cookie).header("sec-fetch-site", "cross-site");
    let _ = by_token.json(&json!({"name": "Minji"})).send().await.expect(200);
    // Another site cannot sign its visitors in here.
    let body = json!({"email": "minji@example.com", "password": PASSWORD});
    let sign_in = app.post("/v1/web-sessions").header("sec-fetch-site", "cross-site").json(&body).send().await;
    assert!(!sign_in.expect_problem(403, "csrf").headers.contains_key("set-cookie"));
    assert_eq!(cookie_count(&app).await, 1);
}

// A13: a cookie does not make up for a bad token.
#[tokio::test]
async fn a_token_takes_precedence_over_a_cookie() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    sign_up(&app, "jisoo@example.com").await;
    let (cookie, tokens) = (web_sign_in(&app, "minji@example.com").await, sign_in(&app, "jisoo@example.com").await);
    let both = app.get("/v1/me").bearer(&tokens.access).header("cookie", &cookie).send().await.expect(200);
    assert_eq!(both.body["email"], "jisoo@example.com");
    let _ = app.get("/v1/me").bearer("garbage").header("cookie", &cookie).send().await.expect_problem(401, "unauthenticated");
    // A cookie secret is no token, and a token is no cookie.
    let secret = cookie.split_once('=').unwrap().1;
    let _ = app.get("/v1/me").bearer(secret).send().await.expect_problem(401, "unauthenticated");
    let _ = try_refresh(&app, secret).await.expect_problem(401, "unauthenticated");
    expect_cookie_refused(&app, &format!("__Host-onrush={}", tokens.refresh)).await;
}

// A13
#[tokio::test]
async fn a_used_cookie_is_extended_and_an_idle_one_expires() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let (used, idle) = (web_sign_in(&app, "minji@example.com").await, web_sign_in(&app, "minji@example.com").await);
    for _ in 0..8 {
        app.clock.advance(10 * DAY);
        assert!(is_signed_in(&app, &used).await);
    }
    expect_cookie_refused(&app, &idle).await;
    app.clock.advance(10 * DAY - Duration::from_secs(1));
    assert!(is_signed_in(&app, &used).await);
    app.clock.advance(Duration::from_secs(1));
    expect_cookie_refused(&app, &used).await;

    app.job("accounts.prune_sessions").await;
    assert_eq!((cookie_count(&app).await, app.sql_i64("select count(*) from accounts_sessions").await), (0, 2));
    let young = web_sign_in(&app, "minji@example.com").await;
    app.clock.advance(31 * DAY);
    let last = web_sign_in(&app, "minji@example.com").await;
    app.job("accounts.prune_sessions").await;
    assert_eq!((cookie_count(&app).await, app.sql_i64("select count(*) from accounts_sessions").await), (1, 2));
    expect_cookie_refused(&app, &young).await;
    assert!(is_signed_in(&app, &last).await);
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
    assert_eq!(cookie_count(&app).await, 1);
    assert!(is_signed_in(&app, &last).await);
}
