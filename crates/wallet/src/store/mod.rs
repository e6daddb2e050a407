//! All SQL of the wallet. Loads and saves; decides nothing.
//!
//! Several processes may write. A transaction locks the rows that its decisions depend on, from the read to the commit: first
//! `wallet_holds`, then `wallet_accounts`, and by key within a table. A row that does not exist yet cannot be locked. Two
//! transactions may open the same account, settle the same cause (`wallet_transactions`) or hold for the same order. Then the keys
//! refuse the second, which is repeated and finds the rows of the first. Causes never change, so they are read without a lock.

mod accounts;
mod history;
mod holds;
mod transactions;

pub use accounts::{load_accounts, save_accounts};
pub use history::{EntryRow, balances, history, last_transaction};
pub use holds::{load_holds, save_holds};
pub use transactions::{append, load_causes};

use crate::model::{Ledger, LedgerViolation};
use kit::{Fault, Tx};

impl From<LedgerViolation> for Fault {
    fn from(broken: LedgerViolation) -> Self {
        Fault::Bug(broken.0)
    }
}

/// Writes the changes of a ledger.
pub async fn save(tx: &mut Tx, ledger: &mut Ledger) -> Result<(), Fault> {
    save_accounts(tx, ledger.accounts.take_changed()).await?;
    save_holds(tx, &ledger.holds.take_changed()).await?;
    let (transactions, entries) = ledger.take_appended();
    append(tx, &transactions, &entries).await?;
    Ok(())
}
