//! All SQL of accounts. Loads and saves; decides nothing.
//!
//! Several processes may write. What a decision rests on is locked from its reading to the commit, always in this order, and within a table
//! in the order of the keys: `accounts_members`, `accounts_sessions`, `accounts_refresh_tokens` and `accounts_web_sessions`. A session is
//! opened and ended under the lock of its member, or ended under its own; its tokens and its cookie change under its lock. Of two accounts with one address the unique index refuses
//! the second, whose transaction is repeated and finds the first.

pub mod members;
pub mod sessions;
pub mod web_sessions;

use kit::DbError;

/// A text in the database that no version of this code wrote.
fn unknown(index: usize, text: &str) -> DbError {
    DbError::Column { index, reason: format!("unknown value {text:?}") }
}
