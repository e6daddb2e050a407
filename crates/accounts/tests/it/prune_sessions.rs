use crate::support::{app, broken_families, has_access, sign_in, sign_up, try_refresh};
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
    let renewed = crate::support::Tokens::of(&try_refresh(&app, &young.refresh).await.expect(200));
    assert!(has_access(&app, &renewed.access).await);
    assert_eq!(broken_families(&app).await, 0);
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
