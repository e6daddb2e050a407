use crate::support::{Tokens, app, broken_families, has_access, sign_in, sign_up, try_refresh};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn sessions_are_deleted_a_month_after_their_end() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let old = sign_in(&app, "minji@example.com").await;
    let _ = try_refresh(&app, &old.refresh).await.expect(200);
    app.clock.advance(90 * DAY + 29 * DAY);
    let young = sign_in(&app, "minji@example.com").await;
    app.job("accounts.prune_sessions").await;
    assert_eq!(app.sql_i64("select count(*) from accounts_sessions").await, 2);

    app.clock.advance(2 * DAY);
    app.job("accounts.prune_sessions").await;
    assert_eq!(app.sql_i64("select count(*) from accounts_sessions").await, 1);
    assert_eq!(app.sql_i64("select count(*) from accounts_refresh_tokens").await, 1);
    let renewed = Tokens::of(&try_refresh(&app, &young.refresh).await.expect(200));
    assert!(has_access(&app, &renewed.access).await);
    assert_eq!(broken_families(&app).await, 0);
}

// H5: a session that refreshes all day does not keep its used tokens for months
#[tokio::test]
async fn used_tokens_are_deleted_once_they_have_expired() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let mut tokens = sign_in(&app, "minji@example.com").await;
    let first = tokens.clone();
    for _ in 0..40 {
        tokens = Tokens::of(&try_refresh(&app, &tokens.refresh).await.expect(200));
    }
    let count = async || app.sql_i64("select count(*) from accounts_refresh_tokens").await;
    app.clock.advance(13 * DAY);
    tokens = Tokens::of(&try_refresh(&app, &tokens.refresh).await.expect(200));
    app.job("accounts.prune_tokens").await;
    assert_eq!(count().await, 42);
    app.clock.advance(DAY);
    app.job("accounts.prune_tokens").await;
    assert_eq!(count().await, 1, "the live token stays");
    let _ = try_refresh(&app, &first.refresh).await.expect_problem(401, "unauthenticated");
    let _ = try_refresh(&app, &tokens.refresh).await.expect(200);
    assert_eq!(broken_families(&app).await, 0);
}

// H5: a session with more tokens than one transaction deletes
#[tokio::test]
async fn an_old_session_with_many_tokens_takes_several_passes() {
    let app = app().await;
    sign_up(&app, "minji@example.com").await;
    let mut tokens = sign_in(&app, "minji@example.com").await;
    for _ in 0..1_100 {
        tokens = Tokens::of(&try_refresh(&app, &tokens.refresh).await.expect(200));
    }
    app.clock.advance(121 * DAY);
    app.job("accounts.prune_sessions").await;
    for table in ["accounts_sessions", "accounts_refresh_tokens"] {
        assert_eq!(app.sql_i64(&format!("select count(*) from {table}")).await, 0, "{table}");
    }
}

#[tokio::test]
async fn many_old_sessions_take_several_passes() {
    let app = app().await;
    let members = (0..120).map(|n| accounts::NewMember {
        member_id: contracts::MemberId(kit::ports::new_id()),
        email: format!("shopper{n}@example.com"),
        name: "Shopper".into(),
    });
    let accounts = std::sync::Arc::new(accounts::Accounts::new(app.kit().clone(), accounts::AccountsSettings::default()));
    accounts.import(members.collect()).await.expect("the import succeeds");
    assert_eq!(app.sql_i64("select count(*) from accounts_sessions").await, 120);
    app.clock.advance(121 * DAY);
    app.job("accounts.prune_sessions").await;
    assert_eq!(app.sql_i64("select count(*) from accounts_sessions").await, 0);
}
