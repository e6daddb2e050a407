//! Failures, told apart by what a caller can do about them.

use rusqlite::ffi;

/// A technical database failure, or the last guard behind a rule.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// A unique constraint said no. Turn it into a domain error at the query, or let the batch be retried.
    #[error("unique constraint: {0}")]
    Unique(String),
    /// A check or foreign-key constraint said no.
    #[error("constraint: {0}")]
    Constraint(String),
    /// Another transaction was faster (serialization failure, a row that was changed meanwhile): try the whole transaction again.
    #[error("another transaction was in the way: {0}")]
    Retry(String),
    /// Somebody else holds a lock, and it was waited for in vain (lock time-out, deadlock): try the whole transaction again. Whoever asked
    /// is not to blame, and how long it will be held is not to be known.
    #[error("a lock is held by somebody else: {0}")]
    Locked(String),
    /// No connection is free, or a statement took too long.
    #[error("the database is busy")]
    Busy,
    #[error("the disk is full")]
    DiskFull,
    /// The operating system could not read or write the file.
    #[error("the disk failed: {0}")]
    Io(String),
    /// The connection is gone, or none can be made. Nothing of the running transaction stays.
    #[error("no connection to the database: {0}")]
    Closed(String),
    /// The connection broke during the commit, and nobody could say what became of it: it stands, or nothing of it does.
    #[error("the outcome of the commit is not known")]
    Unknown,
    /// A value in the database does not have the type the code expects.
    #[error("column {index}: {reason}")]
    Column { index: usize, reason: String },
    #[error("cannot open the database: {0}")]
    Open(String),
    #[error("migration failed: {0}")]
    Migration(String),
    #[error(transparent)]
    Sqlite(rusqlite::Error),
    /// What PostgreSQL said, with its SQLSTATE, or what the driver refused.
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
            (_, ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED) => DbError::Busy,
            (_, ffi::SQLITE_FULL) => DbError::DiskFull,
            (_, ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN | ffi::SQLITE_READONLY) => DbError::Io(text()),
            _ => DbError::Sqlite(error),
        }
    }
}
