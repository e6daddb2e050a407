//! All SQL of coupons, one file per table. It loads and saves, and decides nothing.
//!
//! Several processes may write. A transaction locks the rows on which it decides from the read to the commit. It locks `coupons_holds`,
//! then `coupons_definitions`, then `coupons_issued`, and within a table in the order of the keys. The lock on a definition's row also
//! guards all that it counts: the members' holdings, its waitlist (`coupons_waiting`, `coupons_departures`) and its next number. Code that
//! changes those holds that lock. New rows have no lock: the primary and unique keys reject the second writer, whose transaction is
//! repeated.

pub mod claims;
pub mod closed_members;
pub mod definitions;
pub mod holds;
pub mod issued;
pub mod waiting;

use kit::DbError;

/// An unknown text in a column.
fn unknown(column: usize, text: &str) -> DbError {
    DbError::Column { index: column, reason: format!("unknown value {text}") }
}
