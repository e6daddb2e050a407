//! Moving all of a mall's data from one database to another: a SQLite file, or the PostgreSQL databases of its services.
//!
//! It copies rows as they are and counts and compares them afterwards. It never looks at what a row means, but for one thing: where a
//! copy is to be served, every stream begins a new epoch there, because its partitions are others.
//! Way through: [`Store`] (where data is) → [`schema`] (which tables) → [`rows`] (their rows) → [`fill`] (into the other database).

mod cell;
mod epoch;
mod export;
mod fill;
mod import;
mod rows;
mod schema;
mod source;
mod standing;
mod store;

pub use export::{Exported, export};
pub use fill::{Copied, fill};
pub use import::{Imported, import};
pub use rows::{Digest, digest};
pub use schema::{Column, Kind, Table, tables};
pub use source::Source;
pub use standing::Standing;
pub use store::{Store, blank, commit_file, is_served, prepare, snapshot, stores};

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
