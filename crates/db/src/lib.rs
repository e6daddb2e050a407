//! Access to the database: one SQL text for each query, and the same calls on SQLite and PostgreSQL. The constructor of [`Db`] selects
//! one. This crate knows no messages, services or HTTP.
//!
//! Queries use `$1`, `returning`, `on conflict`. Ids are 16 bytes, times integer microseconds, money 64-bit integers. ` for update` at
//! the end of a query locks rows where the database needs it. SQLite's single writer does not, so it is removed there. Calls are `async`
//! because of databases across a network. On SQLite they are ready at once and run on the calling thread, except those of a
//! [heavy reader](Db::heavy_reader). On PostgreSQL they may be
//! awaited on any thread, because the runtime that opened the connections drives them.

mod error;
mod heavy;
mod migrate;
mod param;
mod portable;
mod postgres;
mod row;
mod sqlite;
mod tx;
mod value;

pub use error::DbError;
pub use migrate::{Migration, migrate, migrate_text};
pub use param::Param;
pub use postgres::{Listener, ScratchDatabase, display_url as postgres_display_url};
pub use row::{FromColumn, FromRow, Row};
pub use sqlite::Synchronous;
pub use tx::Tx;
pub use value::ColumnValue;

use heavy::HeavyTurn;
use runtime::one_reader::ReaderGuard;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Read connections kept open. Reads are short, so a few more than cores suffice.
const READERS: usize = 8;
/// Time a request waits for a read connection before it is refused.
const READER_TIMEOUT: Duration = Duration::from_secs(2);

/// A database. Opens writers, and read connections on demand. Cheap to clone. Opens nothing by itself.
#[derive(Clone, Debug)]
pub struct Db(DbBackend);

#[derive(Clone, Debug)]
enum DbBackend {
    Sqlite(sqlite::File),
    Postgres(postgres::PgServer),
}

impl Db {
    /// A database in a file. The first writer creates the file and its folder.
    pub fn sqlite(path: impl Into<PathBuf>, synchronous: Synchronous) -> Self {
        Self(DbBackend::Sqlite(sqlite::File::new(path.into(), synchronous)))
    }

    /// A database on a PostgreSQL server, by its URL. `schemas` is the search path. Must be called within the runtime that will drive the
    /// connections.
    pub fn postgres(url: &str, schemas: &[&str]) -> Result<Self, DbError> {
        Self::postgres_with(url, schemas, READERS)
    }

    /// A database on a PostgreSQL server, with this number of read connections.
    pub fn postgres_with(url: &str, schemas: &[&str], readers: usize) -> Result<Self, DbError> {
        Ok(Self(DbBackend::Postgres(postgres::PgServer::new(url, schemas, readers)?)))
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self.0, DbBackend::Postgres(_))
    }

    /// True if both use the same server object, so that one connection serves both. May be false for two URLs of the same database.
    pub fn is_same_as(&self, other: &Db) -> bool {
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

    /// Checks the server. `Err`: it is too old, or its settings can lose commits; the error names the change to make.
    pub async fn check(&self) -> Result<(), DbError> {
        match &self.0 {
            DbBackend::Sqlite(_) => Ok(()),
            DbBackend::Postgres(server) => server.check().await,
        }
    }

    /// A connection that writes, outside the pool. On SQLite the engine's must be the only one.
    pub async fn open_writer(&self) -> Result<Tx, DbError> {
        match &self.0 {
            DbBackend::Sqlite(file) => file.open_writer(),
            DbBackend::Postgres(server) => Ok(Tx::of_postgres(server.writer().await?)),
        }
    }

    /// A read-only connection from the pool. It sees each commit as soon as the commit is acknowledged. [`DbError::Busy`]: none became
    /// free within two seconds. A caller must not hold another reader; tests panic in that case.
    pub async fn reader(&self) -> Result<PooledReader, DbError> {
        let _guard = ReaderGuard::begin();
        match &self.0 {
            DbBackend::Sqlite(file) => {
                let (tx, slot) = file.reader().await?;
                Ok(PooledReader { tx: Some(tx), slot: Some(slot), _turn: None, _guard })
            }
            DbBackend::Postgres(server) => {
                let tx = Tx::of_postgres(server.reader().await?);
                Ok(PooledReader { tx: Some(tx), slot: None, _turn: None, _guard })
            }
        }
    }

    /// A read-only connection for reads whose cost grows with the data: searches, filtered lists, large pages. A database has two, apart
    /// from those of [`Db::reader`]. On SQLite they run on threads of their own. Each statement ends after two seconds.
    ///
    /// [`DbError::Busy`]: none became free within two seconds. A caller must not hold another reader; tests panic in that case.
    pub async fn heavy_reader(&self) -> Result<PooledReader, DbError> {
        let _guard = ReaderGuard::begin();
        let (turn, tx) = match &self.0 {
            DbBackend::Sqlite(file) => {
                let turn = file.heavy_turns().take().await?;
                (turn, file.heavy_reader()?)
            }
            DbBackend::Postgres(server) => {
                let turn = server.heavy_turns().take().await?;
                (turn, Tx::of_postgres(server.heavy_reader().await?))
            }
        };
        Ok(PooledReader { tx: Some(tx), slot: None, _turn: Some(turn), _guard })
    }

    /// Listens for `select pg_notify(channel, payload)`, on a separate connection. Only PostgreSQL has notifications.
    pub async fn notifications(&self, channel: &str) -> Result<Listener, DbError> {
        match &self.0 {
            DbBackend::Sqlite(_) => Err(DbError::Open("SQLite has no notifications".into())),
            DbBackend::Postgres(server) => server.listen(channel).await,
        }
    }
}

/// A pooled read connection. Dropping it returns the connection to the pool.
#[derive(Debug)]
pub struct PooledReader {
    tx: Option<Tx>,
    /// `None` on PostgreSQL and for a heavy reader, where the connection knows its pool.
    slot: Option<sqlite::PoolSlot>,
    /// Only a heavy reader has one. Ends after the connection has returned.
    _turn: Option<HeavyTurn>,
    _guard: ReaderGuard,
}

impl std::ops::Deref for PooledReader {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        self.tx.as_ref().expect("present until drop")
    }
}

impl std::ops::DerefMut for PooledReader {
    fn deref_mut(&mut self) -> &mut Tx {
        self.tx.as_mut().expect("present until drop")
    }
}

impl Drop for PooledReader {
    fn drop(&mut self) {
        if let Some(slot) = &self.slot
            && let Some(connection) = self.tx.take().and_then(Tx::into_sqlite)
        {
            slot.return_connection(connection);
        }
    }
}
