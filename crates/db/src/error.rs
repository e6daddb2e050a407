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
    /// No connection is free, or a statement timed out.
    #[error("the database is busy")]
    Busy,
    #[error("the disk is full")]
    DiskFull,
    /// The operating system cannot read or write the file.
    #[error("the disk failed: {0}")]
    Io(String),
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
    /// An error of PostgreSQL with its SQLSTATE, or an error of the driver.
    #[error("{0}")]
    Postgres(String),
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
            (_, ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_INTERRUPT) => DbError::Busy,
            (_, ffi::SQLITE_FULL) => DbError::DiskFull,
            (_, ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN | ffi::SQLITE_READONLY) => DbError::Io(text()),
            _ => DbError::Sqlite(error),
        }
    }
}
