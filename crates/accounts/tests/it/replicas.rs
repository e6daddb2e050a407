//! Several processes on one database: an address has one account, a token works once, and a sign-out counts on all of them.

use crate::support::{
    PASSWORD, Tokens, add_operator, broken_families, has_access, operator, services, sign_in, sign_up, try_refresh, wait_until,
};
use accounts::{Accounts, AccountsSettings, NewMember};
use contracts::MemberId;
use futures::future::join_all;
use kit::{Kit, Module, ports::new_id, process::presences};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use testkit::App;

async fn two_processes() -> (App, App) {
    let one = App::builder().on_postgres().partitions(4).start(services).await;
    let other = one.start_another_process(services).await;
    (one, other)
}

/// Signs in several times, one after the other: many at once would count as guesses.
async fn open_sessions(app: &App, email: &str, count: usize) -> Vec<Tokens> {
    let mut sessions = Vec::new();
    for _ in 0..count {
        sessions.push(sign_in(app, email).await);
    }
    sessions
}

/// Waits until an access token is refused: a notification reaches the other process within moments.
async fn wait_until_refused(app: &App, access: &str) {
    wait_until(async || !has_access(app, access).await).await;
}

// A13, row 28: after a sign-out on one process, the other refuses the token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_out_counts_on_all_processes() {
    let (one, other) = two_processes().await;
    sign_up(&one, "minji@example.com").await;
    let (gone, kept) = (sign_in(&one, "minji@example.com").await, sign_in(&other, "minji@example.com").await);
    for app in [&one, &other] {
        assert!(has_access(app, &gone.access).await && has_access(app, &kept.access).await);
    }
    let _ = one.delete("/v1/sessions/current").bearer(&gone.access).send().await.expect(204);
    assert!(!has_access(&one, &gone.access).await);
    wait_until_refused(&other, &gone.access).await;
    assert!(has_access(&other, &kept.access).await, "another session stays");
    let _ = try_refresh(&other, &gone.refresh).await.expect_problem(401, "unauthenticated");
}

// A8, A13, row 28: a disabled or closed account is refused on every process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_account_is_refused_on_all_processes() {
    let (one, other) = two_processes().await;
    let (disabled, closed) = (sign_up(&one, "minji@example.com").await, sign_up(&one, "jisoo@example.com").await);
    let of_disabled = open_sessions(&other, "minji@example.com", 5).await;
    let of_closed = sign_in(&one, "jisoo@example.com").await;
    let body = json!({"state": "disabled"});
    let _ = one.patch(format!("/v1/accounts/{disabled}")).bearer(&operator(&one)).json(&body).send().await.expect(200);
    let _ = other.delete("/v1/me").bearer(&of_closed.access).send().await.expect(204);
    for tokens in &of_disabled {
        wait_until_refused(&other, &tokens.access).await;
    }
    wait_until_refused(&one, &of_closed.access).await;
    let state = format!("select count(*) from accounts_members where state='closed' and id=x'{}'", closed.0.simple());
    assert_eq!(one.sql_i64(&state).await, 1);
}

// A4, row 27, I-A2: a refresh token is presented to two processes at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_token_works_once_on_all_processes() {
    let (one, other) = two_processes().await;
    sign_up(&one, "minji@example.com").await;
    for _ in 0..10 {
        let tokens = sign_in(&one, "minji@example.com").await;
        let answers = tokio::join!(try_refresh(&one, &tokens.refresh), try_refresh(&other, &tokens.refresh));
        let answers = [answers.0, answers.1];
        let renewed: Vec<&_> = answers.iter().filter(|answer| answer.status == 200).collect();
        assert_eq!(renewed.len(), 1, "one wins: {answers:?}");
        assert!(answers.iter().any(|answer| answer.problem() == "token-reused"), "{answers:?}");
        // The winner's tokens end with the family.
        let renewed = Tokens::of(renewed[0]);
        wait_until_refused(&one, &renewed.access).await;
        wait_until_refused(&other, &renewed.access).await;
        let _ = try_refresh(&other, &renewed.refresh).await.expect_problem(401, "unauthenticated");
    }
    assert_eq!(broken_families(&one).await, 0);
}

// A4: no token survives refreshes that run while another process ends the sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_refreshed_token_survives_a_disabled_account() {
    let (one, other) = two_processes().await;
    let member_id: MemberId = sign_up(&one, "minji@example.com").await;
    let sessions = open_sessions(&one, "minji@example.com", 8).await;
    let refreshes = join_all(sessions.iter().map(|tokens| try_refresh(&other, &tokens.refresh)));
    let body = json!({"state": "disabled"});
    let disabling = one.patch(format!("/v1/accounts/{member_id}")).bearer(&operator(&one)).json(&body).send();
    let (refreshed, disabled) = tokio::join!(refreshes, disabling);
    let _ = disabled.expect(200);
    for tokens in refreshed.iter().filter(|answer| answer.status == 200).map(Tokens::of) {
        wait_until_refused(&one, &tokens.access).await;
        wait_until_refused(&other, &tokens.access).await;
        let _ = try_refresh(&one, &tokens.refresh).await.expect_problem(401, "unauthenticated");
    }
    assert_eq!(one.sql_i64("select count(*) from accounts_refresh_tokens where state='LIVE'").await, 0);
    assert_eq!(one.sql_i64("select count(*) from accounts_sessions where revoked_at is null").await, 0);
}

// A1: simultaneous sign-ups with one address on two processes open one account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_opens_one_account() {
    let (one, other) = two_processes().await;
    for n in 0..5 {
        let body = json!({"email": format!("member{n}@example.com"), "password": PASSWORD, "name": "Minji"});
        let (first, second) = tokio::join!(one.post("/v1/accounts").json(&body).send(), other.post("/v1/accounts").json(&body).send());
        let mut statuses = [first.status, second.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409], "{first:?} {second:?}");
    }
    assert_eq!(one.sql_i64("select count(*) from accounts_members").await, 5);
    assert_eq!(one.messages("accounts").await.len(), 5, "one message each");
}

// A5: processes that start at the same time create one operator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_is_created_once() {
    let (one, _) = two_processes().await;
    let with_operator = |kit: &Kit| -> Vec<Arc<dyn Module>> {
        let settings = AccountsSettings { operator: Some(("ops@example.com".into(), PASSWORD.into())) };
        vec![Arc::new(Accounts::new(kit.clone(), settings))]
    };
    let (first, second) = tokio::join!(one.start_another_process(with_operator), one.start_another_process(with_operator));
    for app in [&first, &second] {
        sign_in(app, "ops@example.com").await;
    }
    assert_eq!(one.sql_i64("select count(*) from accounts_members where role='operator'").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_pruning_deletes_each_session_once() {
    let (one, other) = two_processes().await;
    sign_up(&one, "minji@example.com").await;
    let signed_in = open_sessions(&one, "minji@example.com", 10).await;
    for tokens in &signed_in {
        let _ = try_refresh(&other, &tokens.refresh).await.expect(200);
    }
    // More sessions than one pass deletes.
    let member = || NewMember { member_id: MemberId(new_id()), email: "jisoo@example.com".into(), name: "Jisoo".into() };
    let accounts = Arc::new(Accounts::new(one.kit().clone(), AccountsSettings::default()));
    accounts.import((0..60).map(|_| member()).collect()).await.expect("the import succeeds");
    assert_eq!(one.sql_i64("select count(*) from accounts_sessions").await, 70);
    one.clock.advance(Duration::from_secs(400 * 24 * 3600));
    tokio::join!(one.job("accounts.prune_sessions"), other.job("accounts.prune_sessions"));
    assert_eq!(one.sql_i64("select count(*) from accounts_sessions").await, 0);
    assert_eq!(one.sql_i64("select count(*) from accounts_refresh_tokens").await, 0);
}

// The source of `onrush services`: each process that runs accounts, each partition and each duty with one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presences_list_the_processes_that_run_accounts() {
    let (one, other) = two_processes().await;
    let seen = async || {
        let found = presences(&one.kit().db, "accounts").await.expect("leases can be read");
        let mut partitions: Vec<i64> = found.values().flat_map(|presence| presence.partitions.clone()).collect();
        partitions.sort_unstable();
        let sequencers = found.values().filter(|presence| presence.duties.iter().any(|duty| duty == "sequencer")).count();
        (found.len(), partitions, sequencers)
    };
    wait_until(async || seen().await == (2, vec![0, 1, 2, 3], 1)).await;
    other.stop().await;
    wait_until(async || seen().await == (1, vec![0, 1, 2, 3], 1)).await;
}

// M6, R2: two processes close, disable and remove operators at once. At least one operator stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_operator_stays_among_several_processes() {
    let (one, other) = two_processes().await;
    for round in 0..5 {
        let names: Vec<String> = (0..4).map(|n| format!("ops{round}-{n}@example.com")).collect();
        let mut sessions = Vec::new();
        for name in &names {
            let id = add_operator(&one, name).await;
            sessions.push((id, sign_in(&one, name).await));
        }
        let closing = sessions.iter().enumerate().map(|(n, (_, tokens))| {
            let app = if n % 2 == 0 { &one } else { &other };
            app.delete("/v1/me").bearer(&tokens.access).send()
        });
        let disabling = sessions.iter().enumerate().map(|(n, (id, _))| {
            let app = if n % 2 == 0 { &other } else { &one };
            let disable = json!({"state": "disabled"});
            app.patch(format!("/v1/accounts/{id}")).bearer(&operator(app)).json(&disable).send()
        });
        let (closed, disabled) = tokio::join!(join_all(closing), join_all(disabling));
        let active = one.sql_i64("select count(*) from accounts_members where role='operator' and state='active'").await;
        assert!(active >= 1, "round {round}: {closed:?} {disabled:?}");
    }
}

// A13, L12: sessions that one process ends are refused by the other: all of them, and a single one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_out_everywhere_counts_on_all_processes() {
    let (one, other) = two_processes().await;
    sign_up(&one, "minji@example.com").await;
    let (lost, gone, kept) =
        (sign_in(&one, "minji@example.com").await, sign_in(&other, "minji@example.com").await, sign_in(&one, "minji@example.com").await);
    let listed = one.get("/v1/sessions").bearer(&lost.access).send().await.expect(200).body;
    let own = listed["items"].as_array().expect("a list").iter().find(|item| item["is_current"] == json!(true)).expect("this one").clone();
    let _ = one.delete(format!("/v1/sessions/{}", own["id"].as_str().expect("an id"))).bearer(&kept.access).send().await.expect(204);
    wait_until_refused(&other, &lost.access).await;
    let _ = one.delete("/v1/sessions?keep_current=true").bearer(&kept.access).send().await.expect(204);
    wait_until_refused(&other, &gone.access).await;
    assert!(has_access(&other, &kept.access).await);
}
