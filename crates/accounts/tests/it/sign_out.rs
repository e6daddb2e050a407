use crate::support::{app, has_access, services, sign_in, sign_up, try_refresh};
use std::time::Duration;

// A4; row 28
#[tokio::test]
async fn a4_sign_out_ends_both_tokens_of_the_session() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let here = sign_in(&app, "minji@example.com").await;
    let there = sign_in(&app, "minji@example.com").await;
    let _ = app.delete("/v1/sessions/current").bearer(&here.access).send().await.expect(204);
    let _ = app.get("/v1/me").bearer(&here.access).send().await.expect_problem(401, "unauthenticated");
    let _ = try_refresh(&app, &here.refresh).await.expect_problem(401, "unauthenticated");
    let _ = app.delete("/v1/sessions/current").bearer(&here.access).send().await.expect_problem(401, "unauthenticated");
    assert!(has_access(&app, &there.access).await, "the member's other session stays");
}

#[tokio::test]
async fn sign_out_needs_a_token() {
    let app = app().await;
    let _ = app.delete("/v1/sessions/current").send().await.expect_problem(401, "unauthenticated");
}

// A4; row 28: the list of ended sessions is in memory, and reloaded at the start.
#[tokio::test]
async fn a4_a_restart_keeps_revocations() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let out = sign_in(&app, "minji@example.com").await;
    let stays = sign_in(&app, "minji@example.com").await;
    let _ = app.delete("/v1/sessions/current").bearer(&out.access).send().await.expect(204);
    app.clock.advance(Duration::from_secs(50 * 60));
    let app = app.restart(services).await;
    assert!(!has_access(&app, &out.access).await);
    assert!(has_access(&app, &stays.access).await);
    let _ = try_refresh(&app, &out.refresh).await.expect_problem(401, "unauthenticated");
    let _ = try_refresh(&app, &stays.refresh).await.expect(200);
}
