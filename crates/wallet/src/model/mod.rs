//! The rules of accounts, holds and the ledger, without a database or a clock.

pub mod account;
pub mod cause;
pub mod charge;
pub mod hold;
pub mod ledger;

pub use account::{Account, AccountKey, AccountKind, CASH_IN, LedgerEntry, POINTS_GRANTED, POINTS_SPENT, SALES};
pub use cause::{Cause, CauseOutcome, LedgerTransaction, Note, transaction_id};
pub use charge::check_charge;
pub use hold::{WalletHold, WalletHoldState};
pub use ledger::{Ledger, LedgerViolation};
