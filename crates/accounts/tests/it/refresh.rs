use crate::support::{Tokens, app, app_with, broken_families, has_access, operator, rate, retry_after, sign_in, sign_up, try_refresh};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::future::join_all;
use kit::{limits::LimitSettings, ports::random_bytes};
use serde_json::json;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

// A4
#[tokio::test]
async fn a4_a_refresh_token_works_once_and_gives_the_next() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let mut tokens = sign_in(&app, "minji@example.com").await;
    for _ in 0..3 {
        app.clock.advance(2 * DAY);
        assert!(!has_access(&app, &tokens.access).await);
        let renewed = try_refresh(&app, &tokens.refresh).await.expect(200);
        assert_eq!((&renewed.body["token_type"], &renewed.body["expires_in"]), (&json!("Bearer"), &json!(3600)));
        assert_eq!(renewed.headers["cache-control"], "no-store");
        let renewed = Tokens::of(&renewed);
        assert_ne!(renewed.refresh, tokens.refresh);
        tokens = renewed;
        assert!(has_access(&app, &tokens.access).await);
    }
    assert_eq!(app.sql_i64("select count(*) from accounts_sessions").await, 1);
    assert_eq!(app.sql_i64("select count(*) from accounts_refresh_tokens where state='LIVE'").await, 1);
}

// A4; row 27
#[tokio::test]
async fn a4_a_token_used_twice_ends_the_whole_family() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let other = sign_in(&app, "minji@example.com").await;
    let first = sign_in(&app, "minji@example.com").await;
    let second = Tokens::of(&try_refresh(&app, &first.refresh).await.expect(200));
    let third = Tokens::of(&try_refresh(&app, &second.refresh).await.expect(200));

    let reused = try_refresh(&app, &first.refresh).await.expect_problem(401, "token-reused");
    assert!(reused.headers.contains_key("www-authenticate"));
    for access in [&first.access, &second.access, &third.access] {
        assert!(!has_access(&app, access).await, "an access token outlived its session");
    }
    let _ = try_refresh(&app, &third.refresh).await.expect_problem(401, "unauthenticated");
    let _ = try_refresh(&app, &second.refresh).await.expect_problem(401, "token-reused");
    assert_eq!(app.sql_i64("select count(*) from accounts_sessions where reason='token_reused'").await, 1);
    assert_eq!(broken_families(&app).await, 0);

    assert!(has_access(&app, &other.access).await, "another session of the member stays");
    let _ = try_refresh(&app, &other.refresh).await.expect(200);
}

// A4: simultaneous requests are a reuse, too. One wins, and its tokens end with the family.
#[tokio::test]
async fn a4_simultaneous_refreshes_end_the_family() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    let answers = join_all((0..8).map(|_| try_refresh(&app, &tokens.refresh))).await;
    let winners: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.problem() == "token-reused").count(), 7);
    let winner = Tokens::of(winners[0]);
    assert!(!has_access(&app, &winner.access).await);
    let _ = try_refresh(&app, &winner.refresh).await.expect_problem(401, "unauthenticated");
    assert_eq!(app.sql_i64("select count(*) from accounts_refresh_tokens").await, 2);
    assert_eq!(app.sql_i64("select count(*) from accounts_refresh_tokens where state='LIVE'").await, 0);
    assert_eq!(broken_families(&app).await, 0);
}

#[tokio::test]
async fn families_in_one_batch_refresh_independently() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let mut families = Vec::new();
    for _ in 0..6 {
        families.push(sign_in(&app, "minji@example.com").await);
    }
    let answers = join_all(families.iter().map(|tokens| try_refresh(&app, &tokens.refresh))).await;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(has_access(&app, &Tokens::of(answer).access).await);
    }
    assert_eq!(app.sql_i64("select count(*) from accounts_refresh_tokens where state='LIVE'").await, 6);
    assert_eq!(broken_families(&app).await, 0);
}

#[tokio::test]
async fn unknown_tokens_are_refused() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    let unknown = URL_SAFE_NO_PAD.encode(random_bytes::<32>());
    for wrong in [unknown.as_str(), "", "garbage", "!!!", &tokens.access, &format!("{}A", tokens.refresh), "' or 1=1--"] {
        let _ = try_refresh(&app, wrong).await.expect_problem(401, "unauthenticated");
    }
    let _ = try_refresh(&app, &tokens.refresh).await.expect(200);
}

#[tokio::test]
async fn idle_tokens_end_and_sessions_end_after_90_days() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let idle = sign_in(&app, "minji@example.com").await;
    app.clock.advance(14 * DAY);
    let _ = try_refresh(&app, &idle.refresh).await.expect_problem(401, "unauthenticated");

    let mut busy = sign_in(&app, "minji@example.com").await;
    for _ in 0..9 {
        app.clock.advance(10 * DAY - Duration::from_secs(1));
        busy = Tokens::of(&try_refresh(&app, &busy.refresh).await.expect(200));
    }
    app.clock.advance(Duration::from_secs(9));
    let _ = try_refresh(&app, &busy.refresh).await.expect_problem(401, "unauthenticated");
}

// A5: the new token carries the member's current role.
#[tokio::test]
async fn a5_a_refreshed_token_has_the_current_role() {
    let app = app().await;
    let member_id = sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    crate::messages::open_store(&app, Some(member_id)).await;
    let renewed = Tokens::of(&try_refresh(&app, &tokens.refresh).await.expect(200));
    let me = app.get("/v1/me").bearer(&renewed.access).send().await.expect(200);
    assert_eq!(me.body["role"], "seller");
}

// row 28
#[tokio::test]
async fn a_disabled_members_token_is_refused() {
    let app = app().await;
    let member_id = sign_up(&app, "minji@example.com").await;
    let tokens = sign_in(&app, "minji@example.com").await;
    let disable = app.patch(format!("/v1/accounts/{member_id}")).bearer(&operator(&app)).json(&json!({"state": "disabled"}));
    let _ = disable.send().await.expect(200);
    let _ = try_refresh(&app, &tokens.refresh).await.expect_problem(401, "unauthenticated");
    assert!(!has_access(&app, &tokens.access).await);
}

// H5
#[tokio::test]
async fn a_session_refreshes_about_once_a_minute() {
    let app = app_with(LimitSettings { refresh_per_session: rate("60/hour burst 3"), ..LimitSettings::off() }).await;
    sign_up(&app, "minji@example.com").await;
    let (mut busy, other) = (sign_in(&app, "minji@example.com").await, sign_in(&app, "minji@example.com").await);
    for _ in 0..3 {
        busy = Tokens::of(&try_refresh(&app, &busy.refresh).await.expect(200));
    }
    let refused = try_refresh(&app, &busy.refresh).await.expect_problem(429, "too-many-requests");
    assert_eq!(retry_after(&refused), 60);
    let _ = try_refresh(&app, &other.refresh).await.expect(200);
    // The refused token was not used up.
    app.clock.advance(Duration::from_secs(60));
    let _ = try_refresh(&app, &busy.refresh).await.expect(200);
    assert_eq!(broken_families(&app).await, 0);
}
