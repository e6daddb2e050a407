//! One connection in use: its statements, its transaction, and what is done when it is lost.

use super::{
    CONNECT_TIMEOUT, Server, error,
    outcome::{Asked, life},
    statements,
    values::Rows,
};
use crate::db::{DbError, Param, portable::without_rowid};
use deadpool_postgres::{ClientWrapper, Object};
use std::{fmt, time::Duration};
use tokio_postgres::Row;

const BEGIN: &str = "begin isolation level read committed read write";
const NUMBER: &str = "select pg_current_xact_id()";

type Failed = tokio_postgres::Error;

/// A connection, its own or one of the pool. After an error inside a transaction there is nothing but rollback.
pub struct Session {
    server: Server,
    /// None once it is known to be lost.
    link: Option<Link>,
    /// Whether it is one of the pool's, which only read.
    pooled: bool,
    /// [`life`] of the server the connection was made to.
    life: Option<String>,
    /// Number of the open transaction.
    open: Option<u64>,
    /// False when a statement of the open transaction failed, or was not waited for: it must not be committed.
    sound: bool,
    /// Whether a statement came back on this connection.
    used: bool,
    /// Longest wait for a lock within a transaction, where it is not to be the connection's.
    lock_wait: Option<Duration>,
}

enum Link {
    Own(ClientWrapper),
    Pooled(Object),
}

impl Link {
    fn client(&self) -> &ClientWrapper {
        match self {
            Link::Own(client) => client,
            Link::Pooled(object) => object,
        }
    }

    /// Ends it: a pooled one does not go back.
    fn discard(self) {
        match self {
            Link::Own(client) => drop(client),
            Link::Pooled(object) => drop(Object::take(object)),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("server", &self.server).field("open", &self.open).finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A pooled connection goes back without anything begun on it.
        if self.open.is_some()
            && let Some(link) = self.link.take()
        {
            link.discard();
        }
    }
}

impl Session {
    pub(super) async fn writer(server: Server, client: ClientWrapper) -> Result<Self, DbError> {
        let life = life(&client).await.map_err(|error| error::of(&error))?;
        Ok(Self { server, link: Some(Link::Own(client)), pooled: false, life, open: None, sound: true, used: false, lock_wait: None })
    }

    pub(super) fn reader(server: Server, object: Object) -> Self {
        Self { server, link: Some(Link::Pooled(object)), pooled: true, life: None, open: None, sound: true, used: false, lock_wait: None }
    }

    fn client(&self) -> Result<&ClientWrapper, DbError> {
        self.link.as_ref().map(Link::client).ok_or_else(|| DbError::Closed("the connection was lost".into()))
    }

    /// A usable connection: outside a transaction a lost one is replaced.
    pub async fn ready(&mut self) -> Result<(), DbError> {
        let lost = self.link.as_ref().is_none_or(|link| link.client().is_closed());
        match self.open {
            Some(_) if lost => Err(DbError::Closed("it was lost within the transaction".into())),
            None if lost => self.renew().await,
            _ => Ok(()),
        }
    }

    async fn renew(&mut self) -> Result<(), DbError> {
        self.used = false;
        // First without the old one: nobody waits for a place in the pool while holding one.
        if let Some(link) = self.link.take() {
            link.discard();
        }
        if self.pooled {
            self.link = Some(Link::Pooled(self.server.pooled().await?));
        } else {
            let client = self.server.connect(CONNECT_TIMEOUT).await?;
            self.life = life(&client).await.map_err(|error| error::of(&error))?;
            self.link = Some(Link::Own(client));
        }
        Ok(())
    }

    pub fn limit_lock_waits(&mut self, most: Duration) {
        self.lock_wait = Some(most);
    }

    pub async fn begin(&mut self) -> Result<(), DbError> {
        if self.open.is_some() {
            return Err(DbError::Postgres("a transaction is open already".into()));
        }
        self.ready().await?;
        match self.begun().await {
            // The connection may have been lost unnoticed while it was idle; nothing was done on it yet.
            Err(DbError::Closed(_)) => {
                self.renew().await?;
                self.begun().await
            }
            other => other,
        }
    }

    /// Without the connection, should nobody wait for the answer: it might have begun.
    async fn begun(&mut self) -> Result<(), DbError> {
        let Some(link) = self.link.take() else {
            return Err(DbError::Closed("the connection was lost".into()));
        };
        // With the transaction, since the connection may be a new one; and in one go with it, since it is begun often.
        let limit = self.lock_wait.map_or_else(String::new, |most| format!("set local lock_timeout = {};", most.as_millis()));
        let rows = match link.client().simple_query(&format!("{BEGIN}; {limit} {NUMBER}")).await {
            Ok(rows) => rows,
            Err(error) => {
                link.discard();
                return Err(error::of(&error));
            }
        };
        let Some(xid) = super::first_row(&rows, 0).and_then(|xid| xid.parse().ok()) else {
            link.discard();
            return Err(DbError::Postgres("the server gave the transaction no number".into()));
        };
        (self.open, self.sound, self.used) = (Some(xid), true, true);
        self.link = Some(link);
        Ok(())
    }

    pub async fn commit(&mut self) -> Result<(), DbError> {
        let Some(xid) = self.open else {
            return Err(DbError::Postgres("there is no transaction to commit".into()));
        };
        if !self.sound {
            self.rollback().await?;
            return Err(DbError::Postgres("a statement of the transaction failed: it is rolled back".into()));
        }
        self.ready().await.inspect_err(|_| self.open = None)?;
        self.sound = false;
        let answer = self.client()?.batch_execute("commit").await;
        self.open = None;
        match answer {
            Ok(()) => Ok(()),
            Err(error) if error::is_refusal(&error) => Err(error::of(&error)),
            Err(error) => {
                tracing::warn!(error = error::chain(&error), "the connection broke during a commit; asking what became of it");
                self.link = None;
                let (outcome, client) = self.server.outcome(Asked { xid, life: self.life.clone() }).await;
                if let Some(client) = client {
                    self.life = life(&client).await.unwrap_or_default();
                    self.link = Some(Link::Own(client));
                }
                outcome
            }
        }
    }

    /// A connection on which this fails is dropped, which takes everything back as well.
    pub async fn rollback(&mut self) -> Result<(), DbError> {
        if self.open.take().is_none() {
            return Ok(());
        }
        let done = match self.client() {
            Ok(client) => client.batch_execute("rollback").await.is_ok(),
            Err(_) => false,
        };
        if !done && let Some(link) = self.link.take() {
            link.discard();
        }
        Ok(())
    }

    pub async fn batch(&mut self, sql: &str) -> Result<(), DbError> {
        self.ready().await?;
        let sound = std::mem::replace(&mut self.sound, false);
        let result = self.client()?.batch_execute(&without_rowid(sql)).await;
        self.settled(result, sound)
    }

    pub async fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, DbError> {
        self.ready().await?;
        let sound = std::mem::replace(&mut self.sound, false);
        let mut result = statements::execute(&self.server, self.client()?, sql, params).await;
        if self.lost_before_use(&result) {
            self.renew().await?;
            result = statements::execute(&self.server, self.client()?, sql, params).await;
        }
        self.settled(result, sound)
    }

    pub async fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DbError> {
        self.ready().await?;
        let sound = std::mem::replace(&mut self.sound, false);
        let mut result = statements::query(&self.server, self.client()?, sql, params).await;
        if self.lost_before_use(&result) {
            self.renew().await?;
            result = statements::query(&self.server, self.client()?, sql, params).await;
        }
        self.settled(result, sound)
    }

    pub async fn execute_many(&mut self, sql: &str, rows: &Rows) -> Result<Vec<u64>, DbError> {
        if rows.len() == 0 {
            return Ok(Vec::new());
        }
        self.ready().await?;
        let sound = std::mem::replace(&mut self.sound, false);
        let result = statements::execute_many(&self.server, self.client()?, sql, rows).await;
        self.settled(result, sound)
    }

    pub async fn query_many(&mut self, sql: &str, rows: &Rows) -> Result<Vec<Row>, DbError> {
        if rows.len() == 0 {
            return Ok(Vec::new());
        }
        self.ready().await?;
        let sound = std::mem::replace(&mut self.sound, false);
        let mut result = statements::query_many(&self.server, self.client()?, sql, rows).await;
        if self.lost_before_use(&result) {
            self.renew().await?;
            result = statements::query_many(&self.server, self.client()?, sql, rows).await;
        }
        self.settled(result, sound)
    }

    /// A pooled connection may have been lost while nobody used it. Those only read, so nothing happens twice.
    fn lost_before_use<T>(&self, result: &Result<T, Failed>) -> bool {
        self.pooled && !self.used && self.open.is_none() && matches!(result, Err(error) if matches!(error::of(error), DbError::Closed(_)))
    }

    fn settled<T>(&mut self, result: Result<T, Failed>, sound: bool) -> Result<T, DbError> {
        match result {
            Ok(value) => {
                self.sound = sound;
                self.used = true;
                Ok(value)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&mut self, failure: &Failed) -> DbError {
        // Outside a transaction nothing hangs on it.
        self.sound = self.open.is_none();
        if let Some(said) = failure.as_db_error()
            && (said.code().code() == "26000" || said.routine() == Some("RevalidateCachedQuery"))
            && let Ok(client) = self.client()
        {
            // Tables changed under a prepared statement, as when another instance migrated them.
            client.statement_cache.clear();
            return DbError::Retry(said.message().to_owned());
        }
        error::of(failure)
    }

    /// The connection, for what works on it as a whole. None within a transaction.
    pub(super) async fn raw(&mut self) -> Result<&mut ClientWrapper, DbError> {
        if self.open.is_some() {
            return Err(DbError::Postgres("this cannot be done within a transaction".into()));
        }
        self.ready().await?;
        match &mut self.link {
            Some(Link::Own(client)) => Ok(client),
            _ => Err(DbError::Postgres("this needs a connection that writes".into())),
        }
    }
}
