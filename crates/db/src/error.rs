//! Database errors, classified by the caller's possible reaction.

use rusqlite::ffi;

/// A technical database failure, or the violation of a constraint that backs a rule.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Violation of a unique constraint. The query turns it into a domain error, or the batch is retried.
    #[error("unique constraint: {0}")]
    Unique(String),
    /// Violation of a check or foreign-key constraint.
    #[error("constraint: {0}")]
    Constraint(String),
    /// A concurrent transaction was faster (serialization failure, or a row changed meanwhile). Retry the whole transaction.
    #[error("a concurrent transaction conflicted: {0}")]
    Retry(String),
    /// Another transaction holds a lock, and the wait failed (lock timeout, deadlock). Retry the whole transaction. The time until the
    /// lock is free is unknown.
    #[error("another transaction holds a lock: {0}")]
    Locked(String),
    /// No connection is free, or another process holds the file.
    #[error("the database is busy")]
    Busy,
    /// The database ended a statement that took too long. Either the statement is too large, or the whole server is slow.
    #[error("the statement took too long")]
    Slow,
    #[error("the disk is full")]
    DiskFull,
    /// The operating system cannot read or write the file.
    #[error("the disk failed: {0}")]
    Io(String),
    /// The server cannot work at the moment: out of memory, limits or locks, read-only, or in trouble itself. Later the same statement
    /// may succeed.
    #[error("the database server is in trouble: {0}")]
    Server(String),
    /// The file or a page of it is damaged. Only a repair or a backup helps.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The connection is lost, or cannot be opened. The running transaction is rolled back.
    #[error("no connection to the database: {0}")]
    Closed(String),
    /// The connection broke during the commit, and its outcome could not be found out. Either all of the transaction is committed, or
    /// none.
    #[error("the outcome of the commit is unknown")]
    Unknown,
    /// A value in the database does not have the type that the code expects.
    #[error("column {index}: {reason}")]
    Column { index: usize, reason: String },
    #[error("cannot open the database: {0}")]
    Open(String),
    #[error("migration failed: {0}")]
    Migration(String),
    #[error(transparent)]
    Sqlite(rusqlite::Error),
    /// The statement's own fault, with its SQLSTATE, or an error of the driver.
    #[error("{0}")]
    Postgres(String),
}

impl DbError {
    /// True if the statement itself is not to blame: the database cannot work at the moment, and the statement may succeed later.
    /// Conflicts between transactions and slow statements are separate cases.
    pub fn is_outage(&self) -> bool {
        match self {
            DbError::Busy
            | DbError::DiskFull
            | DbError::Io(_)
            | DbError::Server(_)
            | DbError::Damaged(_)
            | DbError::Closed(_)
            | DbError::Unknown
            | DbError::Open(_) => true,
            DbError::Unique(_)
            | DbError::Constraint(_)
            | DbError::Retry(_)
            | DbError::Locked(_)
            | DbError::Slow
            | DbError::Column { .. }
            | DbError::Migration(_)
            | DbError::Sqlite(_)
            | DbError::Postgres(_) => false,
        }
    }
}

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        let rusqlite::Error::SqliteFailure(failure, ref message) = error else {
            return DbError::Sqlite(error);
        };
        let text = || message.clone().unwrap_or_default();
        match (failure.extended_code, failure.extended_code & 0xff) {
            (ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID, _) => {
                DbError::Unique(text())
            }
            (_, ffi::SQLITE_CONSTRAINT) => DbError::Constraint(text()),
            (_, ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED) => DbError::Busy,
            (_, ffi::SQLITE_INTERRUPT) => DbError::Slow,
            (_, ffi::SQLITE_FULL) => DbError::DiskFull,
            (_, ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN | ffi::SQLITE_READONLY) => DbError::Io(text()),
            (_, ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB) => DbError::Damaged(text()),
            // Faults of the statement or of this program. Every other code is trouble of the file or the system.
            (_, ffi::SQLITE_ERROR | ffi::SQLITE_MISMATCH | ffi::SQLITE_TOOBIG | ffi::SQLITE_MISUSE | ffi::SQLITE_RANGE) => {
                DbError::Sqlite(error)
            }
            _ => DbError::Server(text()),
        }
    }
}
