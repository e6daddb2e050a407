//! One connection in use: its statements, its transaction, and its recovery after a loss.

use super::{
    CONNECT_TIMEOUT, PgError, PgServer, error,
    outcome::{UnknownCommit, incarnation},
    statements,
    values::ParamRows,
};
use crate::{DbError, Param, portable::without_rowid};
use deadpool_postgres::{ClientWrapper, Object, Pool};
use runtime::telemetry::error_chain;
use std::{fmt, time::Duration};
use tokio_postgres::Row;

const BEGIN: &str = "begin isolation level read committed read write";
const READ_XID: &str = "select pg_current_xact_id()";

/// A connection, either separate or from the pool. After an error inside a transaction only a rollback is possible.
pub struct PgSession {
    server: PgServer,
    /// `None`: the connection is known to be lost.
    handle: Option<ClientHandle>,
    /// The pool of a connection that only reads.
    pool: Option<Pool>,
    /// The [`incarnation`] of the connected server.
    incarnation: Option<String>,
    /// Number of the open transaction.
    xid: Option<u64>,
    /// False if a statement of the open transaction failed or was not awaited: the transaction must not be committed.
    can_commit: bool,
    /// True if a statement has succeeded on this connection.
    was_used: bool,
    /// Lock timeout within transactions. `None`: the connection's default.
    lock_wait: Option<Duration>,
}

enum ClientHandle {
    Own(ClientWrapper),
    Pooled(Object),
}

impl ClientHandle {
    fn client(&self) -> &ClientWrapper {
        match self {
            ClientHandle::Own(client) => client,
            ClientHandle::Pooled(object) => object,
        }
    }

    /// Closes the connection. A pooled one does not return to the pool.
    fn discard(self) {
        match self {
            ClientHandle::Own(client) => drop(client),
            ClientHandle::Pooled(object) => drop(Object::take(object)),
        }
    }
}

impl fmt::Debug for PgSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgSession").field("server", &self.server).field("xid", &self.xid).finish_non_exhaustive()
    }
}

impl Drop for PgSession {
    fn drop(&mut self) {
        // A pooled connection must not return with an open transaction.
        if self.xid.is_some()
            && let Some(handle) = self.handle.take()
        {
            handle.discard();
        }
    }
}

impl PgSession {
    pub(super) async fn writer(server: PgServer, client: ClientWrapper) -> Result<Self, DbError> {
        let incarnation = incarnation(&client).await.map_err(|error| error::of(&error))?;
        Ok(Self {
            server,
            handle: Some(ClientHandle::Own(client)),
            pool: None,
            incarnation,
            xid: None,
            can_commit: true,
            was_used: false,
            lock_wait: None,
        })
    }

    pub(super) fn reader(server: PgServer, pool: Pool, object: Object) -> Self {
        Self {
            server,
            handle: Some(ClientHandle::Pooled(object)),
            pool: Some(pool),
            incarnation: None,
            xid: None,
            can_commit: true,
            was_used: false,
            lock_wait: None,
        }
    }

    fn client(&self) -> Result<&ClientWrapper, DbError> {
        self.handle.as_ref().map(ClientHandle::client).ok_or_else(|| DbError::Closed("the connection was lost".into()))
    }

    /// Ensures a usable connection. Outside a transaction it replaces a lost one.
    pub async fn ensure_connected(&mut self) -> Result<(), DbError> {
        let lost = self.handle.as_ref().is_none_or(|handle| handle.client().is_closed());
        match self.xid {
            Some(_) if lost => Err(DbError::Closed("it was lost within the transaction".into())),
            None if lost => self.reconnect().await,
            _ => Ok(()),
        }
    }

    async fn reconnect(&mut self) -> Result<(), DbError> {
        self.was_used = false;
        // Drops the old connection first: a caller that holds one must not wait for another one from the pool.
        if let Some(handle) = self.handle.take() {
            handle.discard();
        }
        if let Some(pool) = &self.pool {
            self.handle = Some(ClientHandle::Pooled(self.server.pooled(pool).await?));
        } else {
            let client = self.server.connect(CONNECT_TIMEOUT).await?;
            self.incarnation = incarnation(&client).await.map_err(|error| error::of(&error))?;
            self.handle = Some(ClientHandle::Own(client));
        }
        Ok(())
    }

    pub fn limit_lock_waits(&mut self, limit: Duration) {
        self.lock_wait = Some(limit);
    }

    pub async fn begin(&mut self) -> Result<(), DbError> {
        if self.xid.is_some() {
            return Err(DbError::Postgres("a transaction is open already".into()));
        }
        self.ensure_connected().await?;
        match self.send_begin().await {
            // The idle connection may have been lost unnoticed. No work was done on it yet.
            Err(DbError::Closed(_)) => {
                self.reconnect().await?;
                self.send_begin().await
            }
            other => other,
        }
    }

    /// Holds the connection outside of `self`: if the caller stops waiting, it is dropped, because a transaction may have begun on it.
    async fn send_begin(&mut self) -> Result<(), DbError> {
        let Some(handle) = self.handle.take() else {
            return Err(DbError::Closed("the connection was lost".into()));
        };
        // Set with each transaction, because the connection may be new. Sent in the same message, because transactions begin often.
        let limit = self.lock_wait.map_or_else(String::new, |limit| format!("set local lock_timeout = {};", limit.as_millis()));
        let rows = match handle.client().simple_query(&format!("{BEGIN}; {limit} {READ_XID}")).await {
            Ok(rows) => rows,
            Err(error) => {
                handle.discard();
                return Err(error::of(&error));
            }
        };
        let Some(xid) = super::first_row(&rows, 0).and_then(|xid| xid.parse().ok()) else {
            handle.discard();
            return Err(DbError::Postgres("the server gave the transaction no number".into()));
        };
        (self.xid, self.can_commit, self.was_used) = (Some(xid), true, true);
        self.handle = Some(handle);
        Ok(())
    }

    pub async fn commit(&mut self) -> Result<(), DbError> {
        let Some(xid) = self.xid else {
            return Err(DbError::Postgres("there is no transaction to commit".into()));
        };
        if !self.can_commit {
            self.rollback().await?;
            return Err(DbError::Postgres("a statement of the transaction failed: it is rolled back".into()));
        }
        self.ensure_connected().await.inspect_err(|_| self.xid = None)?;
        self.can_commit = false;
        let answer = self.client()?.batch_execute("commit").await;
        self.xid = None;
        match answer {
            Ok(()) => Ok(()),
            Err(error) if error::is_refusal(&error) => Err(error::of(&error)),
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "connection lost during a commit: asking the server for the outcome");
                self.handle = None;
                let (outcome, client) = self.server.outcome(UnknownCommit { xid, incarnation: self.incarnation.clone() }).await;
                if let Some(client) = client {
                    self.incarnation = incarnation(&client).await.unwrap_or_default();
                    self.handle = Some(ClientHandle::Own(client));
                }
                outcome
            }
        }
    }

    /// If the rollback fails, the connection is dropped, which also rolls back.
    pub async fn rollback(&mut self) -> Result<(), DbError> {
        if self.xid.take().is_none() {
            return Ok(());
        }
        let done = match self.client() {
            Ok(client) => client.batch_execute("rollback").await.is_ok(),
            Err(_) => false,
        };
        if !done && let Some(handle) = self.handle.take() {
            handle.discard();
        }
        Ok(())
    }

    pub async fn batch(&mut self, sql: &str) -> Result<(), DbError> {
        self.ensure_connected().await?;
        let can_commit = std::mem::replace(&mut self.can_commit, false);
        let result = self.client()?.batch_execute(&without_rowid(sql)).await;
        self.finish(result, can_commit)
    }

    pub async fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, DbError> {
        self.ensure_connected().await?;
        let can_commit = std::mem::replace(&mut self.can_commit, false);
        let mut result = statements::execute(&self.server, self.client()?, sql, params).await;
        if self.was_lost_while_idle(&result) {
            self.reconnect().await?;
            result = statements::execute(&self.server, self.client()?, sql, params).await;
        }
        self.finish(result, can_commit)
    }

    pub async fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DbError> {
        self.ensure_connected().await?;
        let can_commit = std::mem::replace(&mut self.can_commit, false);
        let mut result = statements::query(&self.server, self.client()?, sql, params).await;
        if self.was_lost_while_idle(&result) {
            self.reconnect().await?;
            result = statements::query(&self.server, self.client()?, sql, params).await;
        }
        self.finish(result, can_commit)
    }

    pub async fn execute_many(&mut self, sql: &str, rows: &ParamRows) -> Result<Vec<u64>, DbError> {
        if rows.len() == 0 {
            return Ok(Vec::new());
        }
        self.ensure_connected().await?;
        let can_commit = std::mem::replace(&mut self.can_commit, false);
        let result = statements::execute_many(&self.server, self.client()?, sql, rows).await;
        self.finish(result, can_commit)
    }

    pub async fn query_many(&mut self, sql: &str, rows: &ParamRows) -> Result<Vec<Row>, DbError> {
        if rows.len() == 0 {
            return Ok(Vec::new());
        }
        self.ensure_connected().await?;
        let can_commit = std::mem::replace(&mut self.can_commit, false);
        let mut result = statements::query_many(&self.server, self.client()?, sql, rows).await;
        if self.was_lost_while_idle(&result) {
            self.reconnect().await?;
            result = statements::query_many(&self.server, self.client()?, sql, rows).await;
        }
        self.finish(result, can_commit)
    }

    /// A pooled connection may have been lost while idle. It only reads, so a repeat is harmless.
    fn was_lost_while_idle<T>(&self, result: &Result<T, PgError>) -> bool {
        self.pool.is_some()
            && !self.was_used
            && self.xid.is_none()
            && matches!(result, Err(error) if matches!(error::of(error), DbError::Closed(_)))
    }

    fn finish<T>(&mut self, result: Result<T, PgError>, can_commit: bool) -> Result<T, DbError> {
        match result {
            Ok(value) => {
                self.can_commit = can_commit;
                self.was_used = true;
                Ok(value)
            }
            Err(error) => Err(self.map_error(&error)),
        }
    }

    fn map_error(&mut self, failure: &PgError) -> DbError {
        // Outside a transaction an error has no consequences.
        self.can_commit = self.xid.is_none();
        if let Some(response) = failure.as_db_error()
            && (response.code().code() == "26000" || response.routine() == Some("RevalidateCachedQuery"))
            && let Ok(client) = self.client()
        {
            // Tables changed under a prepared statement, for example because another instance migrated them.
            client.statement_cache.clear();
            return DbError::Retry(response.message().to_owned());
        }
        error::of(failure)
    }

    /// The connection itself, for calls that use it as a whole. `Err`: a transaction is open, or the connection only reads.
    pub(super) async fn exclusive_client(&mut self) -> Result<&mut ClientWrapper, DbError> {
        if self.xid.is_some() {
            return Err(DbError::Postgres("this cannot be done within a transaction".into()));
        }
        self.ensure_connected().await?;
        match &mut self.handle {
            Some(ClientHandle::Own(client)) => Ok(client),
            _ => Err(DbError::Postgres("this needs a connection that writes".into())),
        }
    }
}
