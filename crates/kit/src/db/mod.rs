//! The database seam: one SQL text per query, for SQLite now and PostgreSQL by the same calls.
//!
//! Queries use `$1`, `returning`, `on conflict`; ids are 16 bytes, times integer microseconds, money 64-bit integers.
//! ` for update` at the end of a query locks rows where the database needs it; SQLite's single writer does not, and it is cut off there.
//! Calls are `async` because a database across a network is; on SQLite they are ready at once and run on the calling thread.

mod error;
mod migrate;
mod param;
mod row;
mod tx;

pub use crate::params;
pub use error::DbError;
pub use migrate::{Migration, migrate};
pub use param::Param;
pub use row::{FromColumn, FromRow, Row};
pub use tx::Tx;

use rusqlite::{Connection, OpenFlags, config::DbConfig};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Read connections kept open. Reads are short and run on the calling thread, so a few more than cores suffice.
const READERS: usize = 8;
/// How long a statement waits for another process's lock (audit, backup) before it fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request waits for a read connection before it is told to come back.
const READER_WAIT: Duration = Duration::from_secs(2);
/// Pages the writer keeps: the upper levels of every index and what is being sold just now.
const WRITER_CACHE_KIB: i64 = 48 * 1024;
/// Pages each reader keeps; the system's page cache is behind it.
const READER_CACHE_KIB: i64 = 4 * 1024;
/// Prepared statements kept per connection; above the number of distinct queries in the product.
const STATEMENT_CACHE: usize = 512;

/// Whether a commit reaches the disk before it is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Synchronous {
    /// Every commit is synced: survives power loss.
    #[default]
    Full,
    /// Survives a process kill; power loss may take the last commits.
    Normal,
}

/// One SQLite file: opens the writer once, and read connections as needed.
#[derive(Clone, Debug)]
pub struct Db {
    path: PathBuf,
    synchronous: Synchronous,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Db {
    pub fn new(path: impl Into<PathBuf>, synchronous: Synchronous) -> Self {
        Self { path: path.into(), synchronous, idle: Arc::default(), permits: Arc::new(Semaphore::new(READERS)) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A connection that writes. The engine holds the only one of a serving process.
    pub fn open_writer(&self) -> Result<Tx, DbError> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| DbError::Open(format!("{}: {error}", folder.display())))?;
        }
        let connection = Connection::open(&self.path)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        let synchronous = match self.synchronous {
            Synchronous::Full => "full",
            Synchronous::Normal => "normal",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        // Checkpoint less often than the default 1,000 pages: under load each one copies the same hot pages again.
        connection.pragma_update(None, "wal_autocheckpoint", 8_000)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        Ok(Tx::new(Self::configured(connection)?))
    }

    /// A connection that only reads, from the pool. It sees each commit as soon as that is acknowledged.
    pub async fn reader(&self) -> Result<Reader, DbError> {
        let permit = tokio::time::timeout(READER_WAIT, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| DbError::Busy)?
            .map_err(|_| DbError::Busy)?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open_reader()?,
        };
        Ok(Reader { tx: Some(Tx::new(connection)), idle: Arc::clone(&self.idle), _permit: permit })
    }

    fn open_reader(&self) -> Result<Connection, DbError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        Self::configured(connection)
    }

    fn configured(connection: Connection) -> Result<Connection, DbError> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Plans must not depend on bound values: where a partial index exists, SQLite would otherwise prepare a statement anew at each
        // binding, which was a fifth of the time spent on requests.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.pragma_update(None, "temp_store", "memory")?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        Ok(connection)
    }
}

/// A pooled read connection; goes back to the pool when dropped.
#[derive(Debug)]
pub struct Reader {
    tx: Option<Tx>,
    idle: Arc<Mutex<Vec<Connection>>>,
    _permit: OwnedSemaphorePermit,
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
        if let Some(tx) = self.tx.take() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(tx.into_connection());
        }
    }
}
