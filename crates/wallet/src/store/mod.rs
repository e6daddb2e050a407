//! All SQL of the wallet. Loads and saves; decides nothing.
//!
//! Several processes may write. What a decision rests on is locked from its reading to the commit, always in this order, and within a table
//! in the order of the keys: `wallet_holds`, `wallet_accounts`. What is not there yet has no lock: of two transactions that open the same
//! account, settle the same cause (`wallet_transactions`) or hold for the same order, the keys refuse the second, which is then repeated
//! and finds what the first one wrote. Causes never change, so they are read without a lock.

mod accounts;
mod history;
mod holds;
mod transactions;

pub use accounts::{load_accounts, save_accounts};
pub use history::{EntryRow, balances, history, last_transaction};
pub use holds::{load_holds, save_holds};
pub use transactions::{append, load_causes};

use crate::model::{Broken, Ledger};
use kit::{Fault, Tx};

impl From<Broken> for Fault {
    fn from(broken: Broken) -> Self {
        Fault::Bug(broken.0)
    }
}

/// Writes everything a ledger came to.
pub async fn save(tx: &mut Tx, ledger: Ledger) -> Result<(), Fault> {
    let changes = ledger.into_changes();
    save_accounts(tx, &changes.new_accounts, &changes.changed_accounts).await?;
    save_holds(tx, &changes.new_holds, &changes.changed_holds).await?;
    append(tx, &changes.transactions, &changes.entries).await?;
    Ok(())
}
