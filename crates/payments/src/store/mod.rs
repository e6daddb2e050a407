//! All SQL of payments. Loads and saves; decides nothing.

mod cancellations;
mod payments;
mod refunds;

pub use cancellations::{load_cancellations, waits};
pub use payments::{due_payments, load_live, load_payments, payment};
pub use refunds::{due_refunds, load_refunds, pending_refund};

use crate::model::{Book, Broken};
use kit::{Fault, Tx};

impl From<Broken> for Fault {
    fn from(broken: Broken) -> Self {
        Fault::Bug(broken.0)
    }
}

/// Writes everything a book came to.
pub async fn save(tx: &mut Tx, book: Book) -> Result<(), Fault> {
    let changes = book.into_changes();
    payments::save(tx, &changes.new_payments, &changes.changed_payments).await?;
    refunds::save(tx, &changes.new_refunds, &changes.changed_refunds).await?;
    cancellations::save(tx, &changes.new_cancellations, &changes.changed_cancellations).await?;
    Ok(())
}
