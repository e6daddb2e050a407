//! SQLite: one file, one writer, a few read connections. Calls run on the calling thread and are ready at once, except heavy reads.

mod lane;

pub use lane::{CopiedRow, HeavySession, copied};

use super::{
    DbError, FromRow, Param, Row, Tx,
    heavy::{HEAVY_READERS, HeavyTurns},
    portable::{numbered, without_lock},
};
use lane::HeavyLane;
use parking_lot::Mutex;
use rusqlite::{CachedStatement, Connection, OpenFlags, config::DbConfig, params_from_iter};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// Time a statement waits for a lock of another process (audit, backup) before it fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Page cache of the writer: the upper levels of every index and the rows in current use.
const WRITER_CACHE_KIB: i64 = 48 * 1024;
/// Page cache of each reader. The system's page cache backs it.
const READER_CACHE_KIB: i64 = 4 * 1024;
/// Rest after a heavy read, in lengths of the read. A checkpoint can truncate the log only at a moment without readers.
const HEAVY_REST: u32 = 1;
/// Prepared statements kept by each connection. More than the distinct queries of the product.
const STATEMENT_CACHE_SIZE: usize = 512;

/// Durability of an acknowledged commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Synchronous {
    /// Every commit is synced: survives power loss.
    #[default]
    Full,
    /// Survives a process kill. Power loss may take the last commits.
    Normal,
}

/// One file. Opens the writer once, and read connections on demand.
#[derive(Clone, Debug)]
pub struct File {
    path: PathBuf,
    synchronous: Synchronous,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    idle_lanes: Arc<Mutex<Vec<HeavyLane>>>,
    heavy_turns: HeavyTurns,
}

/// The place in the pool to which a read connection returns.
#[derive(Debug)]
pub struct PoolSlot {
    idle: Arc<Mutex<Vec<Connection>>>,
    _permit: OwnedSemaphorePermit,
}

impl PoolSlot {
    pub fn return_connection(&self, connection: Connection) {
        self.idle.lock().push(connection);
    }
}

impl File {
    pub fn new(path: PathBuf, synchronous: Synchronous) -> Self {
        Self {
            path,
            synchronous,
            idle: Arc::default(),
            permits: Arc::new(Semaphore::new(super::READERS)),
            idle_lanes: Arc::default(),
            heavy_turns: HeavyTurns::new(HEAVY_READERS, HEAVY_REST),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

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
        // Checkpoints less often than the default of 1,000 pages. Under load each checkpoint copies the same hot pages again.
        connection.pragma_update(None, "wal_autocheckpoint", 8_000)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        Ok(Tx::of_sqlite(configured(connection)?))
    }

    /// A read-only connection from the pool. It sees each commit as soon as the commit is acknowledged.
    pub async fn reader(&self) -> Result<(Tx, PoolSlot), DbError> {
        let permits = Arc::clone(&self.permits);
        let permit = match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => permit,
            // Waiting needs the timers of a runtime.
            Err(_) if Handle::try_current().is_err() => return Err(DbError::Busy),
            Err(_) => {
                let waited = tokio::time::timeout(super::READER_TIMEOUT, permits.acquire_owned()).await;
                waited.map_err(|_| DbError::Busy)?.map_err(|_| DbError::Busy)?
            }
        };
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open_reader()?,
        };
        Ok((Tx::of_sqlite(connection), PoolSlot { idle: Arc::clone(&self.idle), _permit: permit }))
    }

    pub fn heavy_turns(&self) -> &HeavyTurns {
        &self.heavy_turns
    }

    /// A read-only connection on a thread of its own, for the holder of a turn.
    pub fn heavy_reader(&self) -> Result<Tx, DbError> {
        let idle = self.idle_lanes.lock().pop();
        let lane = match idle {
            Some(lane) => lane,
            None => HeavyLane::start(self.open_reader()?)?,
        };
        Ok(Tx::of_heavy(HeavySession::new(lane, Arc::clone(&self.idle_lanes))))
    }

    fn open_reader(&self) -> Result<Connection, DbError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        configured(connection)
    }
}

fn configured(connection: Connection) -> Result<Connection, DbError> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Plans must not depend on bound values. With a partial index SQLite would otherwise prepare a statement again at each binding. That
    // was a fifth of the time spent on requests.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE_SIZE);
    Ok(connection)
}

fn statement<'c>(connection: &'c Connection, sql: &str) -> Result<CachedStatement<'c>, DbError> {
    Ok(connection.prepare_cached(&numbered(without_lock(sql)))?)
}

pub fn execute(connection: &Connection, sql: &str, params: &[Param<'_>]) -> Result<u64, DbError> {
    Ok(statement(connection, sql)?.execute(params_from_iter(params))? as u64)
}

pub fn execute_each<'p, const N: usize>(
    connection: &Connection,
    sql: &str,
    rows: impl IntoIterator<Item = [Param<'p>; N]>,
) -> Result<Vec<u64>, DbError> {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        return Ok(Vec::new());
    }
    let mut statement = statement(connection, sql)?;
    rows.map(|row| Ok(statement.execute(params_from_iter(row))? as u64)).collect()
}

pub fn query<T: FromRow>(connection: &Connection, sql: &str, params: &[Param<'_>]) -> Result<Vec<T>, DbError> {
    let mut found = Vec::new();
    collect(&mut statement(connection, sql)?, params_from_iter(params), &mut found)?;
    Ok(found)
}

pub fn query_each<'p, T: FromRow, const N: usize>(
    connection: &Connection,
    sql: &str,
    rows: impl IntoIterator<Item = [Param<'p>; N]>,
) -> Result<Vec<T>, DbError> {
    let mut statement = statement(connection, sql)?;
    let mut found = Vec::new();
    for row in rows {
        collect(&mut statement, params_from_iter(row), &mut found)?;
    }
    Ok(found)
}

pub fn query_opt<T: FromRow>(connection: &Connection, sql: &str, params: &[Param<'_>]) -> Result<Option<T>, DbError> {
    let mut statement = statement(connection, sql)?;
    let mut rows = statement.query(params_from_iter(params))?;
    rows.next()?.map(|row| T::from_row(&Row::sqlite(row))).transpose()
}

fn collect<T: FromRow, P: rusqlite::Params>(statement: &mut CachedStatement<'_>, params: P, found: &mut Vec<T>) -> Result<(), DbError> {
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        found.push(T::from_row(&Row::sqlite(row))?);
    }
    Ok(())
}
