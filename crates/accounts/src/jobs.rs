//! What accounts does by the clock: forgets sessions that ended long ago, and cookies as soon as they have expired.

use crate::{Accounts, store};
use kit::{
    Answer, Command, Fault, Outcome, Reply, Work,
    batch::SubmitError,
    jobs::{Job, Pass},
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(3600);
/// Sessions that ended stay this long, with the reason, for those who must find out what happened.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Sessions, and as many cookies, that a transaction forgets: each session has up to a few hundred used tokens, and shoppers wait meanwhile.
const PER_PASS: usize = 50;

pub fn prune_sessions(accounts: Arc<Accounts>) -> Job {
    Job::new("accounts.prune_sessions", EVERY, move || {
        let accounts = Arc::clone(&accounts);
        async move {
            let reply = accounts.kit.submit(&accounts, PruneSessions, None, Uuid::nil()).await?;
            let pruned: usize = match reply {
                Reply::Answer(answer) => serde_json::from_slice(&answer.body).unwrap_or(0),
                Reply::Pending(_) => 0,
            };
            Ok::<_, SubmitError>(if pruned == PER_PASS { Pass::More } else { Pass::Done })
        }
    })
}

/// Answers with the number of sessions or of cookies it forgot, whichever is larger.
struct PruneSessions;

impl Command for PruneSessions {
    type Service = Accounts;
    const OPERATION: &'static str = "accounts.prune_sessions";

    async fn handle<'a>(_: &'a Accounts, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let limit = i64::try_from(PER_PASS).unwrap_or(i64::MAX);
        let sessions = store::sessions::prune(&mut work.tx, work.now.before(KEPT), limit).await?;
        let pruned = sessions.max(store::web_sessions::prune(&mut work.tx, work.now, limit).await?);
        commands.iter().map(|_| Ok(Answer::json(200, &pruned)?.into())).collect()
    }
}
