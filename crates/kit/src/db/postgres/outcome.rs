//! What became of a transaction whose connection broke during its commit.

use super::{CONNECT_TIMEOUT, Server, connected, error, first_row};
use crate::db::DbError;
use deadpool_postgres::ClientWrapper;
use std::time::Duration;
use tokio_postgres::{Config, error::SqlState};

/// How long it is asked for; a caller waits for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// After so many looks at a transaction that still runs, its server process is ended: its client is gone.
const LOOKS_BEFORE_END: u32 = 4;

/// The transaction in question.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `pg_current_xact_id()`.
    pub xid: u64,
    /// [`life`] of the server when the connection was made.
    pub life: Option<String>,
}

/// What is certain about it.
enum Answer {
    Committed,
    Aborted,
    /// Its server process goes on, or that of somebody else who got its number.
    Running {
        surely_ours: bool,
    },
    /// Nothing, and that will not change.
    Nothing,
}

/// Tells one life of a server from the next: its statistics start anew after a crash, and only then, or when an operator resets them.
///
/// Numbers of transactions of which nothing reached the disk are given out again after a crash. What is said of a number counts only if
/// there was no crash in between; if there was, "committed" may be meant for somebody else's transaction.
pub async fn life(client: &ClientWrapper) -> Result<Option<String>, tokio_postgres::Error> {
    let rows = client.simple_query("select stats_reset from pg_stat_wal").await?;
    Ok(first_row(&rows, 0).map(str::to_owned))
}

impl Server {
    /// Asks until it is known, and gives back the connection it was asked on. `Ok` says it stands.
    pub async fn outcome(&self, asked: Asked) -> (Result<(), DbError>, Option<ClientWrapper>) {
        let config = self.0.writer.clone();
        let bounded = async move { tokio::time::timeout(PATIENCE, ask(config, asked)).await.unwrap_or(Err(DbError::Unknown)) };
        match self.inside(bounded).await {
            Ok((true, client)) => (Ok(()), Some(client)),
            Ok((false, client)) => (Err(DbError::Closed("it broke during the commit, and nothing of that stays".into())), Some(client)),
            Err(_) => (Err(DbError::Unknown), None),
        }
    }
}

/// Asks until there is an answer: whether it was committed, and the connection that says so.
async fn ask(config: Config, asked: Asked) -> Result<(bool, ClientWrapper), DbError> {
    let mut pause = FIRST_PAUSE;
    let mut looks = 0;
    let mut connection = None;
    loop {
        let client = match connection.take() {
            Some(client) => Some(client),
            None => connected(config.clone(), CONNECT_TIMEOUT).await.ok(),
        };
        if let Some(client) = client {
            match look(&client, &asked).await {
                Ok(Answer::Committed) => return Ok((true, client)),
                Ok(Answer::Aborted) => return Ok((false, client)),
                Ok(Answer::Nothing) => return Err(DbError::Unknown),
                Ok(Answer::Running { surely_ours }) => {
                    looks += 1;
                    if !surely_ours || looks < LOOKS_BEFORE_END || end(&client, asked.xid).await {
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

async fn look(client: &ClientWrapper, asked: &Asked) -> Result<Answer, tokio_postgres::Error> {
    let rows = match client.simple_query(&format!("select pg_xact_status('{}')", asked.xid)).await {
        Ok(rows) => rows,
        // A number that has not been given out: nothing of it reached the disk before a crash.
        Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => return Ok(Answer::Aborted),
        Err(error) => return Err(error),
    };
    let same_life = asked.life.is_some() && life(client).await? == asked.life;
    Ok(match first_row(&rows, 0) {
        Some("aborted") => Answer::Aborted,
        Some("committed") if same_life => Answer::Committed,
        Some("in progress") => Answer::Running { surely_ours: same_life },
        _ => Answer::Nothing,
    })
}

/// Ends the server process that still holds the transaction; a commit it is in the middle of is finished or not begun.
async fn end(client: &ClientWrapper, xid: u64) -> bool {
    // `backend_xid` has the lower half of the number.
    let short = xid & u64::from(u32::MAX);
    let sql = format!("select pg_terminate_backend(pid) from pg_stat_activity where backend_xid = '{short}' and pid <> pg_backend_pid()");
    let ended = client.simple_query(&sql).await;
    if let Err(error) = &ended {
        tracing::warn!(error = error::chain(error), "a server process without a client could not be ended");
    }
    ended.is_ok()
}
