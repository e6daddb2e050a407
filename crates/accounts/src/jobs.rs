//! Timed jobs of accounts: deletes sessions that ended long ago, and cookies and used tokens once they have expired. Sends the second
//! message about closed accounts.

use crate::{
    Accounts,
    model::{SecretDigest, TokenState},
    store,
};
use contracts::{Message, messages::MemberClosed};
use kit::{
    Answer, Command, DbError, Fault, Outcome, Reply, Work,
    auth::TOKEN_LIFETIME,
    batch::SubmitError,
    idempotency,
    jobs::{Job, Pass},
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// Time between two runs.
const INTERVAL: Duration = Duration::from_secs(3600);
/// Retention of ended sessions with their reason, for support and investigations.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most sessions, and most cookies, deleted by one transaction. Shoppers wait meanwhile.
const BATCH_SIZE: usize = 50;
/// Most refresh tokens deleted by one transaction. A session that refreshes as often as its limit permits has thousands.
const TOKEN_BATCH_SIZE: usize = 500;
/// Refresh tokens that a pass reads at once, on a connection of its own.
const TOKEN_PAGE: i64 = 5_000;

/// Time between two looks for closed accounts that need their second message.
const SETTLE_INTERVAL: Duration = Duration::from_secs(600);
/// Age of a closing at its second message. No access token of the account is valid any more, also where clocks differ by minutes.
const SETTLE_AFTER: Duration = Duration::from_secs(TOKEN_LIFETIME.as_secs() + 600);
/// Most second messages of one transaction. Each has effects in four services.
const MAX_SETTLED: usize = 50;

pub fn all(accounts: &Arc<Accounts>) -> Vec<Job> {
    let for_tokens = Arc::clone(accounts);
    let prune_tokens = move || {
        let accounts = Arc::clone(&for_tokens);
        async move { prune_tokens(&accounts).await }
    };
    vec![
        Job::new("accounts.prune_tokens", INTERVAL, prune_tokens),
        job("accounts.prune_sessions", INTERVAL, accounts, || PruneSessions),
        job("accounts.settle_closings", SETTLE_INTERVAL, accounts, || SettleClosings),
    ]
}

/// A job whose command answers true if more is left. Then another pass follows.
fn job<C: Command<Service = Accounts>>(name: &'static str, every: Duration, accounts: &Arc<Accounts>, command: fn() -> C) -> Job {
    let accounts = Arc::clone(accounts);
    Job::new(name, every, move || {
        let accounts = Arc::clone(&accounts);
        async move {
            let reply = accounts.kit.batch.submit(&accounts, command(), None, Uuid::nil()).await?;
            let has_more = match reply {
                Reply::Answer(answer) => serde_json::from_slice(&answer.body).unwrap_or(false),
                Reply::Pending(_) => false,
            };
            Ok::<_, SubmitError>(if has_more { Pass::More } else { Pass::Done })
        }
    })
}

/// Announces a batch of closed accounts a second time. Requests with an access token from before the closing may have given the account
/// something meanwhile. Accounts that were closed before this message existed still have all they had.
struct SettleClosings;

impl Command for SettleClosings {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.settle_closings";

    async fn handle<'a>(_: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let limit = i64::try_from(MAX_SETTLED).unwrap_or(i64::MAX);
        let due = store::members::unsettled(&mut work.tx, work.now.before(SETTLE_AFTER), limit).await?;
        store::members::set_closings(&mut work.tx, &due, 2).await?;
        let scopes: Vec<Uuid> = due.iter().map(|id| id.0).collect();
        idempotency::forget(&mut work.tx, "accounts", &scopes).await?;
        for member_id in &due {
            work.emit(*member_id, Message::MemberClosed(MemberClosed { member_id: *member_id }))?;
        }
        commands.iter().map(|_| Ok(Answer::json(200, &(due.len() == MAX_SETTLED))?.into())).collect()
    }
}

/// Deletes the used tokens that have expired, of all sessions. A thief who shows one later gets no more than one who guesses.
async fn prune_tokens(accounts: &Arc<Accounts>) -> Result<Pass, PruneError> {
    let now = accounts.kit.clock.now();
    let mut last = SecretDigest::default();
    loop {
        let page = store::sessions::tokens_after(&mut *accounts.kit.db.reader().await?, &last, TOKEN_PAGE).await?;
        let Some(end) = page.last() else { return Ok(Pass::Done) };
        last = end.hash;
        let old = page.iter().filter(|token| token.state != TokenState::Live && token.expires_at <= now);
        let old: Vec<SecretDigest> = old.map(|token| token.hash).collect();
        for hashes in old.chunks(TOKEN_BATCH_SIZE) {
            accounts.kit.batch.submit(accounts, PruneTokens { hashes: hashes.to_vec() }, None, Uuid::nil()).await?;
        }
    }
}

/// Reasons why a pass ended early. The next one begins again.
#[derive(Debug, thiserror::Error)]
enum PruneError {
    #[error(transparent)]
    Read(#[from] DbError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

/// Deletes those of these tokens that were used and have expired.
struct PruneTokens {
    hashes: Vec<SecretDigest>,
}

impl Command for PruneTokens {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.prune_tokens";

    async fn handle<'a>(_: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let hashes = commands.iter().flat_map(|command| &command.hashes);
        store::sessions::prune_tokens(&mut work.tx, hashes, work.now).await?;
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}

/// Deletes one batch. Answers true if more is left.
struct PruneSessions;

impl Command for PruneSessions {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.prune_sessions";

    async fn handle<'a>(_: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let limit = i64::try_from(BATCH_SIZE).unwrap_or(i64::MAX);
        let has_more = store::sessions::prune(&mut work.tx, work.now.before(RETENTION), limit, TOKEN_BATCH_SIZE).await?;
        let has_more = has_more || store::web_sessions::prune(&mut work.tx, work.now, limit).await? == BATCH_SIZE;
        commands.iter().map(|_| Ok(Answer::json(200, &has_more)?.into())).collect()
    }
}
