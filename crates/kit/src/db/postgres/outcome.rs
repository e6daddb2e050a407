//! What became of a transaction whose connection broke during its commit.

use super::{CONNECT_TIMEOUT, PgServer, error, first_row, open_connection};
use crate::db::DbError;
use deadpool_postgres::ClientWrapper;
use std::time::Duration;
use tokio_postgres::{Config, error::SqlState};

/// How long it is asked for; a caller waits for the answer.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// After so many looks at a transaction that still runs, its server process is ended: its client is gone.
const POLLS_BEFORE_TERMINATE: u32 = 4;

/// The transaction in question.
#[derive(Clone, Debug)]
pub struct UnknownCommit {
    /// `pg_current_xact_id()`.
    pub xid: u64,
    /// [`incarnation`] of the server when the connection was made.
    pub incarnation: Option<String>,
}

/// What is certain about it.
enum CommitStatus {
    Committed,
    Aborted,
    /// Its server process goes on, or that of somebody else who got its number.
    Running {
        is_ours: bool,
    },
    /// Nothing, and that will not change.
    Unknown,
}

/// Tells one life of a server from the next: its statistics start anew after a crash, and only then, or when an operator resets them.
///
/// Numbers of transactions of which nothing reached the disk are given out again after a crash. What is said of a number counts only if
/// there was no crash in between; if there was, "committed" may be meant for somebody else's transaction.
pub async fn incarnation(client: &ClientWrapper) -> Result<Option<String>, tokio_postgres::Error> {
    let rows = client.simple_query("select stats_reset from pg_stat_wal").await?;
    Ok(first_row(&rows, 0).map(str::to_owned))
}

impl PgServer {
    /// Asks until it is known, and gives back the connection it was asked on. `Ok` says it stands.
    pub async fn outcome(&self, commit: UnknownCommit) -> (Result<(), DbError>, Option<ClientWrapper>) {
        let config = self.0.writer.clone();
        let bounded =
            async move { tokio::time::timeout(OUTCOME_TIMEOUT, poll_outcome(config, commit)).await.unwrap_or(Err(DbError::Unknown)) };
        match self.run_on_runtime(bounded).await {
            Ok((true, client)) => (Ok(()), Some(client)),
            Ok((false, client)) => (Err(DbError::Closed("it broke during the commit, and nothing of that stays".into())), Some(client)),
            Err(_) => (Err(DbError::Unknown), None),
        }
    }
}

/// Asks until there is an answer: whether it was committed, and the connection that says so.
async fn poll_outcome(config: Config, commit: UnknownCommit) -> Result<(bool, ClientWrapper), DbError> {
    let mut pause = FIRST_PAUSE;
    let mut polls_running = 0;
    let mut connection = None;
    loop {
        let client = match connection.take() {
            Some(client) => Some(client),
            None => open_connection(config.clone(), CONNECT_TIMEOUT).await.ok(),
        };
        if let Some(client) = client {
            match check_status(&client, &commit).await {
                Ok(CommitStatus::Committed) => return Ok((true, client)),
                Ok(CommitStatus::Aborted) => return Ok((false, client)),
                Ok(CommitStatus::Unknown) => return Err(DbError::Unknown),
                Ok(CommitStatus::Running { is_ours }) => {
                    polls_running += 1;
                    if !is_ours || polls_running < POLLS_BEFORE_TERMINATE || terminate_backend(&client, commit.xid).await {
                        connection = Some(client);
                    }
                }
                Err(error) => tracing::warn!(error = error::chain(&error), "cannot ask what became of a commit"),
            }
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

async fn check_status(client: &ClientWrapper, commit: &UnknownCommit) -> Result<CommitStatus, tokio_postgres::Error> {
    let rows = match client.simple_query(&format!("select pg_xact_status('{}')", commit.xid)).await {
        Ok(rows) => rows,
        // A number that has not been given out: nothing of it reached the disk before a crash.
        Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => return Ok(CommitStatus::Aborted),
        Err(error) => return Err(error),
    };
    let is_same_incarnation = commit.incarnation.is_some() && incarnation(client).await? == commit.incarnation;
    Ok(match first_row(&rows, 0) {
        Some("aborted") => CommitStatus::Aborted,
        Some("committed") if is_same_incarnation => CommitStatus::Committed,
        Some("in progress") => CommitStatus::Running { is_ours: is_same_incarnation },
        _ => CommitStatus::Unknown,
    })
}

/// Ends the server process that still holds the transaction; a commit it is in the middle of is finished or not begun.
async fn terminate_backend(client: &ClientWrapper, xid: u64) -> bool {
    // `backend_xid` has the lower half of the number.
    let short = xid & u64::from(u32::MAX);
    let sql = format!("select pg_terminate_backend(pid) from pg_stat_activity where backend_xid = '{short}' and pid <> pg_backend_pid()");
    let ended = client.simple_query(&sql).await;
    if let Err(error) = &ended {
        tracing::warn!(error = error::chain(error), "a server process without a client could not be ended");
    }
    ended.is_ok()
}
