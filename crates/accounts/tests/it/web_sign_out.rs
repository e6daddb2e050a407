//! Browser sessions: sign-out and other ends.

use crate::support::*;
use contracts::MemberId;
use serde_json::json;

// A13, row 28
#[tokio::test]
async fn sign_out_invalidates_the_cookie() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let (here, there) = (web_sign_in(&app, "minji@example.com").await, web_sign_in(&app, "minji@example.com").await);
    let out = from_our_page(app.delete("/v1/web-sessions/current")).header("cookie", &here).send().await.expect(204);
    expect_cleared(&out);
    expect_cookie_refused(&app, &here).await;
    let again = from_our_page(app.delete("/v1/web-sessions/current")).header("cookie", &here).send().await;
    expect_cleared(&again.expect_problem(401, "unauthenticated"));
    assert!(is_signed_in(&app, &there).await, "the other browser stays signed in");
    // `accounts.sign_out` ends it as well.
    let _ = from_our_page(app.delete("/v1/sessions/current")).header("cookie", &there).send().await.expect(204);
    expect_cookie_refused(&app, &there).await;
    assert_eq!(cookie_count(&app).await, 0);
    let _ = app.delete("/v1/web-sessions/current").send().await.expect_problem(401, "unauthenticated");
}

// A13, row 28: a cookie ends with its session, for every reason.
#[tokio::test]
async fn a_cookie_ends_with_its_session() {
    let app = app().await;
    let email = |n: usize| format!("member{n}@example.com");
    let mut members: Vec<(MemberId, String)> = Vec::new();
    for n in 0..3 {
        members.push((sign_up(&app, &email(n)).await, web_sign_in(&app, &email(n)).await));
    }
    let kept = web_sign_in(&app, &email(0)).await;
    let body = json!({"password": OTHER_PASSWORD, "current_password": PASSWORD});
    let _ = from_our_page(app.patch("/v1/me")).header("cookie", &kept).json(&body).send().await.expect(200);
    assert!(is_signed_in(&app, &kept).await, "the browser in which the password was changed stays");
    let disabling = app.patch(format!("/v1/accounts/{}", members[1].0)).bearer(&operator(&app)).json(&json!({"state": "disabled"}));
    let _ = disabling.send().await.expect(200);
    let _ = from_our_page(app.delete("/v1/me")).header("cookie", &members[2].1).send().await.expect(204);
    for (_, cookie) in &members {
        expect_cookie_refused(&app, cookie).await;
    }
    let app = app.restart(services).await;
    for (_, cookie) in &members {
        expect_cookie_refused(&app, cookie).await;
    }
    assert!(is_signed_in(&app, &kept).await);
    assert_eq!(cookie_count(&app).await, 1);
}
