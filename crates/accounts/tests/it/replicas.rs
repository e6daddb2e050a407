//! Several processes on one database: an address is one account, a token is good once, and who is signed out is so everywhere.

use crate::support::{PASSWORD, Tokens, broken_families, is_let_in, operator, services, sign_in, sign_up, soon, try_refresh};
use accounts::{Accounts, AccountsSettings, NewMember};
use contracts::MemberId;
use futures::future::join_all;
use kit::{Kit, Service, ports::new_id, process::presences, testing::App};
use serde_json::json;
use std::{sync::Arc, time::Duration};

async fn two() -> (App, App) {
    let one = App::builder().on_postgres().await.partitions(4).start(services).await;
    let other = one.beside(services).await;
    (one, other)
}

/// One after the other: many at once would look like guessing.
async fn sessions(app: &App, email: &str, count: usize) -> Vec<Tokens> {
    let mut sessions = Vec::new();
    for _ in 0..count {
        sessions.push(sign_in(app, email).await);
    }
    sessions
}

/// Waits until an access token is refused; the others are told within moments.
async fn is_refused_soon(app: &App, access: &str) {
    soon(async || !is_let_in(app, access).await).await;
}

// A13, row 28: signed out on one process, the token is refused by the other
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_out_is_signed_out_everywhere() {
    let (one, other) = two().await;
    sign_up(&one, "minji@example.com").await;
    let (gone, kept) = (sign_in(&one, "minji@example.com").await, sign_in(&other, "minji@example.com").await);
    for app in [&one, &other] {
        assert!(is_let_in(app, &gone.access).await && is_let_in(app, &kept.access).await);
    }
    let _ = one.delete("/v1/sessions/current").bearer(&gone.access).send().await.expect(204);
    assert!(!is_let_in(&one, &gone.access).await);
    is_refused_soon(&other, &gone.access).await;
    assert!(is_let_in(&other, &kept.access).await, "another session is not concerned");
    let _ = try_refresh(&other, &gone.refresh).await.expect_problem(401, "unauthenticated");
}

// A8, A13, row 28: an account that is kept out, or closed, is so on every process
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_kept_out_is_kept_out_everywhere() {
    let (one, other) = two().await;
    let (disabled, closed) = (sign_up(&one, "minji@example.com").await, sign_up(&one, "jisoo@example.com").await);
    let of_disabled = sessions(&other, "minji@example.com", 5).await;
    let of_closed = sign_in(&one, "jisoo@example.com").await;
    let body = json!({"state": "disabled"});
    let _ = one.patch(format!("/v1/accounts/{disabled}")).bearer(&operator(&one)).json(&body).send().await.expect(200);
    let _ = other.delete("/v1/me").bearer(&of_closed.access).send().await.expect(204);
    for tokens in &of_disabled {
        is_refused_soon(&other, &tokens.access).await;
    }
    is_refused_soon(&one, &of_closed.access).await;
    let state = format!("select count(*) from accounts_members where state='closed' and id=x'{}'", closed.0.simple());
    assert_eq!(one.sql_i64(&state).await, 1);
}

// A4, row 27, I-A2: a refresh token shown to two processes at once
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_token_is_good_once_wherever_it_is_shown() {
    let (one, other) = two().await;
    sign_up(&one, "minji@example.com").await;
    for _ in 0..10 {
        let tokens = sign_in(&one, "minji@example.com").await;
        let answers = tokio::join!(try_refresh(&one, &tokens.refresh), try_refresh(&other, &tokens.refresh));
        let answers = [answers.0, answers.1];
        let renewed: Vec<&_> = answers.iter().filter(|answer| answer.status == 200).collect();
        assert_eq!(renewed.len(), 1, "one wins: {answers:?}");
        assert!(answers.iter().any(|answer| answer.problem() == "token-reused"), "{answers:?}");
        // And its tokens end with the family.
        let renewed = Tokens::of(renewed[0]);
        is_refused_soon(&one, &renewed.access).await;
        is_refused_soon(&other, &renewed.access).await;
        let _ = try_refresh(&other, &renewed.refresh).await.expect_problem(401, "unauthenticated");
    }
    assert_eq!(broken_families(&one).await, 0);
}

// A4: refreshes go on while another process ends the sessions; nothing comes out alive
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_refreshes_out_of_a_disabled_account() {
    let (one, other) = two().await;
    let member_id: MemberId = sign_up(&one, "minji@example.com").await;
    let sessions = sessions(&one, "minji@example.com", 8).await;
    let refreshes = join_all(sessions.iter().map(|tokens| try_refresh(&other, &tokens.refresh)));
    let body = json!({"state": "disabled"});
    let disabling = one.patch(format!("/v1/accounts/{member_id}")).bearer(&operator(&one)).json(&body).send();
    let (refreshed, disabled) = tokio::join!(refreshes, disabling);
    let _ = disabled.expect(200);
    for tokens in refreshed.iter().filter(|answer| answer.status == 200).map(Tokens::of) {
        is_refused_soon(&one, &tokens.access).await;
        is_refused_soon(&other, &tokens.access).await;
        let _ = try_refresh(&one, &tokens.refresh).await.expect_problem(401, "unauthenticated");
    }
    assert_eq!(one.sql_i64("select count(*) from accounts_refresh_tokens where state='LIVE'").await, 0);
    assert_eq!(one.sql_i64("select count(*) from accounts_sessions where revoked_at is null").await, 0);
}

// A1: an address that signs up on two processes at once is one account
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_one_account() {
    let (one, other) = two().await;
    for n in 0..5 {
        let body = json!({"email": format!("member{n}@example.com"), "password": PASSWORD, "name": "Minji"});
        let (first, second) = tokio::join!(one.post("/v1/accounts").json(&body).send(), other.post("/v1/accounts").json(&body).send());
        let mut statuses = [first.status, second.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409], "{first:?} {second:?}");
    }
    assert_eq!(one.sql_i64("select count(*) from accounts_members").await, 5);
    assert_eq!(one.messages("accounts").await.len(), 5, "told once each");
}

// A5: processes that start at the same time make one operator
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_is_made_once() {
    let (one, _) = two().await;
    let with_operator = |kit: &Kit| -> Vec<Arc<dyn Service>> {
        let settings = AccountsSettings { operator: Some(("ops@example.com".into(), PASSWORD.into())) };
        vec![Arc::new(Accounts::new(kit.clone(), settings))]
    };
    let (first, second) = tokio::join!(one.beside(with_operator), one.beside(with_operator));
    for app in [&first, &second] {
        sign_in(app, "ops@example.com").await;
    }
    assert_eq!(one.sql_i64("select count(*) from accounts_members where role='operator'").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_forgotten_by_both_at_once() {
    let (one, other) = two().await;
    sign_up(&one, "minji@example.com").await;
    let signed_in = sessions(&one, "minji@example.com", 10).await;
    for tokens in &signed_in {
        let _ = try_refresh(&other, &tokens.refresh).await.expect(200);
    }
    // More than one pass takes.
    let member = || NewMember { member_id: MemberId(new_id()), email: "jisoo@example.com".into(), name: "Jisoo".into() };
    let accounts = Arc::new(Accounts::new(one.kit().clone(), AccountsSettings::default()));
    accounts.import((0..60).map(|_| member()).collect()).await.expect("the import succeeds");
    assert_eq!(one.sql_i64("select count(*) from accounts_sessions").await, 70);
    one.clock.advance(Duration::from_secs(400 * 24 * 3600));
    tokio::join!(one.job("accounts.prune_sessions"), other.job("accounts.prune_sessions"));
    assert_eq!(one.sql_i64("select count(*) from accounts_sessions").await, 0);
    assert_eq!(one.sql_i64("select count(*) from accounts_refresh_tokens").await, 0);
}

// what `onrush services` shows: each process that runs accounts, every lane with one of them, each duty too
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_runs_accounts_can_be_looked_up() {
    let (one, other) = two().await;
    let seen = async || {
        let found = presences(&one.kit().db, "accounts").await.expect("leases can be read");
        let mut lanes: Vec<i64> = found.values().flat_map(|presence| presence.lanes.clone()).collect();
        lanes.sort_unstable();
        let sequencers = found.values().filter(|presence| presence.duties.iter().any(|duty| duty == "sequencer")).count();
        (found.len(), lanes, sequencers)
    };
    soon(async || seen().await == (2, vec![0, 1, 2, 3], 1)).await;
    other.stop().await;
    soon(async || seen().await == (1, vec![0, 1, 2, 3], 1)).await;
}
