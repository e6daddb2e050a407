//! Finds the outcome of a transaction whose connection broke during the commit.

use super::{CONNECT_TIMEOUT, PgServer, first_row, open_connection};
use crate::DbError;
use deadpool_postgres::ClientWrapper;
use runtime::{backoff::Backoff, telemetry::error_chain};
use std::time::Duration;
use tokio_postgres::{Config, error::SqlState};

/// Maximum time of the search, because a caller waits for the answer.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses between two polls.
const POLL_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// Polls of a transaction that still runs before its server process is terminated. Its client is gone.
const POLLS_BEFORE_TERMINATE: u32 = 4;

/// A transaction whose outcome is unknown.
#[derive(Clone, Debug)]
pub struct UnknownCommit {
    /// `pg_current_xact_id()`.
    pub xid: u64,
    /// The server's [`incarnation`] when the connection was opened.
    pub incarnation: Option<String>,
}

/// The known state of the transaction.
enum CommitStatus {
    Committed,
    Aborted,
    /// A server process with this transaction number still runs. `is_ours`: the server has not crashed since, so the number cannot belong
    /// to another transaction.
    Running {
        is_ours: bool,
    },
    /// The outcome is unknown and stays unknown.
    Unknown,
}

/// Distinguishes the runs of a server between crashes. It is the time of the last reset of the statistics. The server resets them after a
/// crash, and otherwise only an operator does.
///
/// After a crash the server reissues transaction numbers of which nothing reached the disk. So the status of a number counts only if the
/// server did not crash in between. Otherwise "committed" may refer to another transaction.
pub async fn incarnation(client: &ClientWrapper) -> Result<Option<String>, tokio_postgres::Error> {
    let rows = client.simple_query("select stats_reset from pg_stat_wal").await?;
    Ok(first_row(&rows, 0).map(str::to_owned))
}

impl PgServer {
    /// Finds the outcome, and returns the connection used for it. `Ok`: the transaction is committed.
    pub async fn outcome(&self, commit: UnknownCommit) -> (Result<(), DbError>, Option<ClientWrapper>) {
        let config = self.0.writer.clone();
        let bounded =
            async move { tokio::time::timeout(OUTCOME_TIMEOUT, poll_outcome(config, commit)).await.unwrap_or(Err(DbError::Unknown)) };
        match self.run_on_runtime(bounded).await {
            Ok((true, client)) => (Ok(()), Some(client)),
            Ok((false, client)) => {
                (Err(DbError::Closed("it broke during the commit, and the transaction was rolled back".into())), Some(client))
            }
            Err(_) => (Err(DbError::Unknown), None),
        }
    }
}

/// Polls until the outcome is known. Returns `true` for committed, and the connection used.
async fn poll_outcome(config: Config, commit: UnknownCommit) -> Result<(bool, ClientWrapper), DbError> {
    let mut pauses = 0;
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
                Err(error) => tracing::warn!(error = error_chain(&error), "outcome of a commit not readable yet: retrying"),
            }
        }
        tokio::time::sleep(POLL_BACKOFF.delay(pauses)).await;
        pauses += 1;
    }
}

async fn check_status(client: &ClientWrapper, commit: &UnknownCommit) -> Result<CommitStatus, tokio_postgres::Error> {
    let rows = match client.simple_query(&format!("select pg_xact_status('{}')", commit.xid)).await {
        Ok(rows) => rows,
        // The server has not issued this number: it crashed before the transaction reached the disk.
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

/// Terminates the server process that still holds the transaction. A commit in progress either completes or has not begun.
async fn terminate_backend(client: &ClientWrapper, xid: u64) -> bool {
    // `backend_xid` holds the lower half of the number.
    let short = xid & u64::from(u32::MAX);
    let sql = format!("select pg_terminate_backend(pid) from pg_stat_activity where backend_xid = '{short}' and pid <> pg_backend_pid()");
    let ended = client.simple_query(&sql).await;
    if let Err(error) = &ended {
        tracing::warn!(error = error_chain(error), "server process without a client not terminated");
    }
    ended.is_ok()
}
