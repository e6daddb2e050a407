//! All SQL of accounts. Loads and saves; decides nothing.
//!
//! Several processes may write. A transaction locks the rows that its decisions depend on, from the read to the commit. The order is
//! `accounts_members`, `accounts_sessions`, then `accounts_refresh_tokens` and `accounts_web_sessions`, and by key within a table.
//! A session is opened under the lock of its member, and ended under that lock or its own. Its tokens and cookie change under its lock.
//! The unique index refuses a second account with one address; its transaction is repeated and finds the first.

pub mod members;
pub mod reserved_addresses;
pub mod sessions;
pub mod web_sessions;

use kit::DbError;

/// The error for a stored text that this version does not know.
fn unknown(index: usize, text: &str) -> DbError {
    DbError::Column { index, reason: format!("unknown value {text:?}") }
}
