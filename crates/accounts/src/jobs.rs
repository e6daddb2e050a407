//! Timed jobs of accounts: deletes sessions that ended long ago, and cookies once they have expired. Sends the second message about closed
//! accounts.

use crate::{Accounts, store};
use contracts::{Message, messages::MemberClosed};
use kit::{
    Answer, Command, Fault, Outcome, Reply, Work,
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
/// Most sessions, and most cookies, deleted by one transaction. Shoppers wait meanwhile, and a session can have a few hundred used tokens.
const BATCH_SIZE: usize = 50;

/// Time between two looks for closed accounts that need their second message.
const SETTLE_INTERVAL: Duration = Duration::from_secs(600);
/// Age of a closing at its second message. No access token of the account is valid any more, also where clocks differ by minutes.
const SETTLE_AFTER: Duration = Duration::from_secs(TOKEN_LIFETIME.as_secs() + 600);
/// Most second messages of one transaction. Each has effects in four services.
const MAX_SETTLED: usize = 50;

pub fn all(accounts: &Arc<Accounts>) -> Vec<Job> {
    vec![
        job("accounts.prune_sessions", INTERVAL, accounts, || PruneSessions, BATCH_SIZE),
        job("accounts.settle_closings", SETTLE_INTERVAL, accounts, || SettleClosings, MAX_SETTLED),
    ]
}

/// A job whose command answers with the number of its rows. A full pass is followed by another.
fn job<C: Command<Service = Accounts>>(
    name: &'static str,
    every: Duration,
    accounts: &Arc<Accounts>,
    command: fn() -> C,
    full: usize,
) -> Job {
    let accounts = Arc::clone(accounts);
    Job::new(name, every, move || {
        let accounts = Arc::clone(&accounts);
        async move {
            let reply = accounts.kit.batch.submit(&accounts, command(), None, Uuid::nil()).await?;
            let rows: usize = match reply {
                Reply::Answer(answer) => serde_json::from_slice(&answer.body).unwrap_or(0),
                Reply::Pending(_) => 0,
            };
            Ok::<_, SubmitError>(if rows == full { Pass::More } else { Pass::Done })
        }
    })
}

/// Announces a batch of closed accounts a second time. Requests with an access token from before the closing may have given the account
/// something meanwhile, and accounts that were closed before there was such a message still have all they had.
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
        commands.iter().map(|_| Ok(Answer::json(200, &due.len())?.into())).collect()
    }
}

/// Deletes one batch. Answers with the larger of two numbers: the deleted sessions and the deleted cookies.
struct PruneSessions;

impl Command for PruneSessions {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.prune_sessions";

    async fn handle<'a>(_: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let limit = i64::try_from(BATCH_SIZE).unwrap_or(i64::MAX);
        let sessions = store::sessions::prune(&mut work.tx, work.now.before(RETENTION), limit).await?;
        let pruned = sessions.max(store::web_sessions::prune(&mut work.tx, work.now, limit).await?);
        commands.iter().map(|_| Ok(Answer::json(200, &pruned)?.into())).collect()
    }
}
