//! Copies all data of a mall from one database to another: a SQLite file, or the PostgreSQL databases of its services.
//!
//! Rows are copied unchanged, and both sides are counted and compared afterwards. The meaning of rows does not matter, with one exception:
//! in a copy that will be served, every stream begins a new epoch, because its partitions differ.
//! Call path: [`MallDatabase`] → [`schema`] (its tables) → [`rows`] (their rows) → [`copy_rows`] (into the other database).

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

/// Reasons why data were not copied. A failed copy leaves no rows in the target database.
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
    /// The tables of both sides differ.
    #[error("{0}")]
    Schema(String),
    /// A value that the other database cannot store.
    #[error("table {table}, column {column}: {reason}")]
    Value { table: String, column: String, reason: String },
    /// The rows of the target differ from those of the source.
    #[error("table {table}: {sent} rows were sent and {arrived} arrived, or they differ; nothing was copied")]
    Differs { table: String, sent: u64, arrived: u64 },
    /// The user must act first. The text names the action.
    #[error("{0}")]
    Refused(String),
}

impl CopyError {
    fn file(path: &std::path::Path, error: &std::io::Error) -> CopyError {
        CopyError::File { path: path.display().to_string(), reason: error.to_string() }
    }
}
