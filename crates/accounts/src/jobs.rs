//! Timed jobs of accounts: deletes sessions that ended long ago, and cookies once they have expired.

use crate::{Accounts, store};
use kit::{
    Answer, Command, Fault, Outcome, Reply, Work,
    batch::SubmitError,
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

pub fn all(accounts: &Arc<Accounts>) -> Vec<Job> {
    let accounts = Arc::clone(accounts);
    let prune_sessions = move || {
        let accounts = Arc::clone(&accounts);
        async move {
            let reply = accounts.kit.batch.submit(&accounts, PruneSessions, None, Uuid::nil()).await?;
            let pruned: usize = match reply {
                Reply::Answer(answer) => serde_json::from_slice(&answer.body).unwrap_or(0),
                Reply::Pending(_) => 0,
            };
            Ok::<_, SubmitError>(if pruned == BATCH_SIZE { Pass::More } else { Pass::Done })
        }
    };
    vec![Job::new("accounts.prune_sessions", INTERVAL, prune_sessions)]
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
