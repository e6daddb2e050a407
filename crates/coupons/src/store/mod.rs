//! All SQL of coupons, one file per table. It loads and saves, and decides nothing.
//!
//! Several processes may write. What a decision rests on is locked from its reading to the commit, always in this order, and within a table
//! in the order of the keys: `coupons_holds`, `coupons_definitions`, `coupons_issued`. A definition's row also guards everything that is
//! counted in it: who has how many of it, its waitlist (`coupons_waiting`, `coupons_departures`) and its next number; whoever touches
//! those holds that lock. New rows have no lock: there the primary and unique keys refuse the second writer, who is then repeated.

pub mod claims;
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
