//! All SQL of accounts. Loads and saves; decides nothing.

pub mod members;
pub mod sessions;

use kit::DbError;

/// A text in the database that no version of this code wrote.
fn unknown(index: usize, text: &str) -> DbError {
    DbError::Column { index, reason: format!("unknown value {text:?}") }
}
