//! All SQL of coupons, one file per table. It loads and saves, and decides nothing.

pub mod definitions;
pub mod holds;
pub mod issued;
pub mod waiting;

mod books;

pub use books::Books;

use kit::DbError;

/// A text of the database that the code does not know.
fn unknown(column: usize, text: &str) -> DbError {
    DbError::Column { index: column, reason: format!("unknown value {text}") }
}
