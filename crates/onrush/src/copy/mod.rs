//! Moving all of a mall's data from one database to another: a SQLite file, or the PostgreSQL databases of its services.
//!
//! It copies rows as they are and counts and compares them afterwards. It never looks at what a row means, but for one thing: where a
//! copy is to be served, every stream begins a new epoch there, because its partitions are others.
//! Way through: [`MallDatabase`] (where data is) → [`schema`] (which tables) → [`rows`] (their rows) → [`copy_rows`] (into the other database).

mod cell;
mod copy_rows;
mod databases;
mod epoch;
mod export;
mod import;
mod positions;
mod rows;
mod schema;
mod source;

pub use copy_rows::{CopiedTable, copy_rows};
pub use databases::{MallDatabase, commit_file, create_file, mall_databases, open_snapshot, prepare, served_services};
pub use export::{ExportSummary, export};
pub use import::{ImportSummary, import};
pub use positions::StreamPositions;
pub use rows::{TableDigest, digest};
pub use schema::{Column, ColumnKind, Table, tables};
pub use source::ImportSource;

use crate::mall::MallError;
use kit::{DbError, Fault};

/// Why data were not copied. Nothing of a copy that failed is left in the database it was to go to.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Mall(#[from] MallError),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("{path}: {reason}")]
    File { path: String, reason: String },
    /// The tables on both sides are not the same.
    #[error("{0}")]
    Schema(String),
    /// A value the other database cannot take.
    #[error("table {table}, column {column}: {reason}")]
    Value { table: String, column: String, reason: String },
    /// What arrived is not what was sent.
    #[error("table {table}: {sent} rows were sent and {arrived} arrived, or they are not the same; nothing was kept")]
    Differs { table: String, sent: u64, arrived: u64 },
    /// Somebody has to do something first; the text says what.
    #[error("{0}")]
    Refused(String),
}

impl CopyError {
    fn file(path: &std::path::Path, error: &std::io::Error) -> CopyError {
        CopyError::File { path: path.display().to_string(), reason: error.to_string() }
    }
}
