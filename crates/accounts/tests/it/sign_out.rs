use crate::support::{app, is_let_in, services, sign_in, sign_up, try_refresh};
use std::time::Duration;

// A4; row 28
#[tokio::test]
async fn a4_after_sign_out_neither_token_of_the_session_is_good() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let here = sign_in(&app, "minji@example.com").await;
    let there = sign_in(&app, "minji@example.com").await;
    let _ = app.delete("/v1/sessions/current").bearer(&here.access).send().await.expect(204);
    let _ = app.get("/v1/me").bearer(&here.access).send().await.expect_problem(401, "unauthenticated");
    let _ = try_refresh(&app, &here.refresh).await.expect_problem(401, "unauthenticated");
    let _ = app.delete("/v1/sessions/current").bearer(&here.access).send().await.expect_problem(401, "unauthenticated");
    assert!(is_let_in(&app, &there.access).await, "the member's other session goes on");
}

#[tokio::test]
async fn sign_out_needs_a_token() {
    let app = app().await;
    let _ = app.delete("/v1/sessions/current").send().await.expect_problem(401, "unauthenticated");
}

// A4; row 28: the list of revoked sessions is in memory, and read back at the start.
#[tokio::test]
async fn a4_a_restart_keeps_revocations() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let out = sign_in(&app, "minji@example.com").await;
    let stays = sign_in(&app, "minji@example.com").await;
    let _ = app.delete("/v1/sessions/current").bearer(&out.access).send().await.expect(204);
    app.clock.advance(Duration::from_secs(50 * 60));
    let app = app.restart(services).await;
    assert!(!is_let_in(&app, &out.access).await);
    assert!(is_let_in(&app, &stays.access).await);
    let _ = try_refresh(&app, &out.refresh).await.expect_problem(401, "unauthenticated");
    let _ = try_refresh(&app, &stays.refresh).await.expect(200);
}
