//! Accounts, holds and the ledger: rules without a database. Loads nothing, saves nothing, never asks for the time.

pub mod account;
pub mod cause;
pub mod charge;
pub mod hold;
pub mod ledger;

pub use account::{Account, AccountKey, CASH_IN, Entry, Kind, POINTS_GRANTED, POINTS_SPENT, SALES};
pub use cause::{Cause, Note, Settled, Transaction, transaction_id};
pub use charge::check_charge;
pub use hold::{Hold, HoldState};
pub use ledger::{Broken, Ledger};
