//! The database seam: one SQL text per query, for SQLite and PostgreSQL by the same calls; which one says how the [`Db`] was made.
//!
//! Queries use `$1`, `returning`, `on conflict`; ids are 16 bytes, times integer microseconds, money 64-bit integers.
//! ` for update` at the end of a query locks rows where the database needs it; SQLite's single writer does not, and it is cut off there.
//! Calls are `async` because a database across a network is; on SQLite they are ready at once and run on the calling thread.
//! On PostgreSQL they may be awaited on any thread: the connections are driven by the runtime they were made in.

mod error;
mod migrate;
mod param;
mod portable;
mod postgres;
mod row;
mod sqlite;
mod tx;

pub use crate::params;
pub use error::DbError;
pub use migrate::{Migration, migrate, migrate_text};
pub use param::Param;
pub use postgres::{Listener, ScratchDatabase, display_url as postgres_place};
pub use row::{FromColumn, FromRow, Row, Value};
pub use sqlite::Synchronous;
pub use tx::Tx;

use crate::testing::ReaderGuard;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Read connections kept open. Reads are short, so a few more than cores suffice.
const READERS: usize = 8;
/// How long a request waits for a read connection before it is told to come back.
const READER_TIMEOUT: Duration = Duration::from_secs(2);

/// A database: opens writers, and read connections as needed. Cheap to clone; nothing is opened before it is asked for.
#[derive(Clone, Debug)]
pub struct Db(DbBackend);

#[derive(Clone, Debug)]
enum DbBackend {
    Sqlite(sqlite::File),
    Postgres(postgres::PgServer),
}

impl Db {
    /// The database in a file; it and its folder are made with the first writer.
    pub fn sqlite(path: impl Into<PathBuf>, synchronous: Synchronous) -> Self {
        Self(DbBackend::Sqlite(sqlite::File::new(path.into(), synchronous)))
    }

    /// A database on a PostgreSQL server, by its URL; tables are looked for in `schemas`, in this order.
    /// Must be called inside the runtime that is to drive the connections.
    pub fn postgres(url: &str, schemas: &[&str]) -> Result<Self, DbError> {
        Self::postgres_with(url, schemas, READERS)
    }

    /// The same with a number of read connections of one's own.
    pub fn postgres_with(url: &str, schemas: &[&str], readers: usize) -> Result<Self, DbError> {
        Ok(Self(DbBackend::Postgres(postgres::PgServer::new(url, schemas, readers)?)))
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self.0, DbBackend::Postgres(_))
    }

    /// Whether both are one, so that a connection to this is one to the other. They may say no of two ways to the same place.
    pub(crate) fn is(&self, other: &Db) -> bool {
        match (&self.0, &other.0) {
            (DbBackend::Postgres(one), DbBackend::Postgres(other)) => one.is_same_as(other),
            _ => false,
        }
    }

    /// The file, on SQLite.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            DbBackend::Sqlite(file) => Some(file.path()),
            DbBackend::Postgres(_) => None,
        }
    }

    /// Refuses a server that is too old, or set up to lose commits; the error names what to change.
    pub async fn check(&self) -> Result<(), DbError> {
        match &self.0 {
            DbBackend::Sqlite(_) => Ok(()),
            DbBackend::Postgres(server) => server.check().await,
        }
    }

    /// A connection that writes, outside the pool. On SQLite there must be only one: the engine's.
    pub async fn open_writer(&self) -> Result<Tx, DbError> {
        match &self.0 {
            DbBackend::Sqlite(file) => file.open_writer(),
            DbBackend::Postgres(server) => Ok(Tx::of_postgres(server.writer().await?)),
        }
    }

    /// A connection that only reads, from the pool. It sees each commit as soon as that is acknowledged.
    /// [`DbError::Busy`] when none comes free within two seconds.
    /// Nobody may ask for one while holding another: tests panic where it is done.
    pub async fn reader(&self) -> Result<Reader, DbError> {
        let _guard = ReaderGuard::begin();
        match &self.0 {
            DbBackend::Sqlite(file) => {
                let (tx, slot) = file.reader().await?;
                Ok(Reader { tx: Some(tx), slot: Some(slot), _guard })
            }
            DbBackend::Postgres(server) => Ok(Reader { tx: Some(Tx::of_postgres(server.reader().await?)), slot: None, _guard }),
        }
    }

    /// Listens to what is said by `select pg_notify(channel, payload)`, on a connection of its own. Only PostgreSQL has this.
    pub async fn notifications(&self, channel: &str) -> Result<Listener, DbError> {
        match &self.0 {
            DbBackend::Sqlite(_) => Err(DbError::Open("SQLite has no notifications".into())),
            DbBackend::Postgres(server) => server.listen(channel).await,
        }
    }
}

/// A pooled read connection; goes back to the pool when dropped.
#[derive(Debug)]
pub struct Reader {
    tx: Option<Tx>,
    /// On PostgreSQL the connection itself knows where it belongs.
    slot: Option<sqlite::PoolSlot>,
    _guard: ReaderGuard,
}

impl std::ops::Deref for Reader {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        self.tx.as_ref().expect("present until drop")
    }
}

impl std::ops::DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Tx {
        self.tx.as_mut().expect("present until drop")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(slot) = &self.slot
            && let Some(connection) = self.tx.take().and_then(Tx::into_sqlite)
        {
            slot.return_connection(connection);
        }
    }
}
