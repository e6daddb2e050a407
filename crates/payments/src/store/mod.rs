//! All SQL of payments. Loads and saves rows, and decides nothing.
//!
//! Several processes may write. All decisions about an order's payment need an advisory lock of the order ([`lock_orders`]). It is taken
//! first, and in sorted order everywhere. Row locks are not enough, because the absence of a payment or a cancellation has no row to
//! lock. The row locks taken afterwards (`payments_payments`, `payments_refunds`, `payments_cancellations`) guard against code without it.

mod cancellations;
mod payments;
mod refunds;
mod slips;

pub use cancellations::{is_undo_waiting, load_cancellations};
pub use payments::{due_payments, load_live, load_payments, orders_of, payment};
pub use refunds::{due_refunds, load_refunds, pending_refund};

use crate::model::{LoadedPayments, PaymentInvariantViolation};
use contracts::OrderId;
use kit::{DbError, Fault, Tx, params};
use std::collections::BTreeSet;

impl From<PaymentInvariantViolation> for Fault {
    fn from(violation: PaymentInvariantViolation) -> Self {
        Fault::Bug(violation.0)
    }
}

/// Locks these orders until the transaction ends. Not needed on SQLite, which has one writer.
pub async fn lock_orders(tx: &mut Tx, orders: &BTreeSet<OrderId>) -> Result<(), DbError> {
    if !tx.is_postgres() {
        return Ok(());
    }
    // Two ids with the same lock key only wait for each other.
    let mut keys: Vec<i64> = orders.iter().map(|order_id| i64::from_be_bytes(lock_key(*order_id))).collect();
    keys.sort_unstable();
    keys.dedup();
    tx.execute_many("select pg_advisory_xact_lock($1)", keys.iter().map(|key| params![*key])).await?;
    Ok(())
}

/// Lock key: the random half of the id, combined with a mark that keeps it apart from other advisory locks.
fn lock_key(order_id: OrderId) -> [u8; 8] {
    let [_, _, _, _, _, _, _, _, rest @ ..] = *order_id.0.as_bytes();
    let mark = *b"payments";
    std::array::from_fn(|at| rest[at] ^ mark[at])
}

/// Writes all changed rows.
pub async fn save(tx: &mut Tx, loaded: &mut LoadedPayments) -> Result<(), Fault> {
    payments::save(tx, loaded.payments.take_changed()).await?;
    refunds::save(tx, loaded.refunds.take_changed()).await?;
    cancellations::save(tx, &loaded.cancellations.take_changed()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit::{Db, ports::new_id};
    use testkit::TestDatabase;

    // I-P1: a request and an undo of one order in two processes wait for each other, even before a row exists.
    #[tokio::test]
    async fn two_transactions_cannot_lock_one_order() {
        let database = TestDatabase::create().await;
        let db = Db::postgres(&database.url(), &["payments"]).expect("a URL");
        let (mut one, mut other) = (db.open_writer().await.expect("connects"), db.open_writer().await.expect("connects"));
        let (a, b) = (OrderId(new_id()), OrderId(new_id()));
        one.begin().await.expect("begins");
        other.begin().await.expect("begins");
        lock_orders(&mut one, &BTreeSet::from([a])).await.expect("the order is free");
        lock_orders(&mut other, &BTreeSet::from([b])).await.expect("another order is free");
        other.batch("set local lock_timeout = 200").await.expect("it is a setting");
        let refused = lock_orders(&mut other, &BTreeSet::from([a, b])).await;
        assert!(matches!(refused, Err(DbError::Locked(_))), "{refused:?}");
        other.rollback().await.expect("rolls back");
        one.commit().await.expect("commits");
        other.begin().await.expect("begins");
        lock_orders(&mut other, &BTreeSet::from([a, b])).await.expect("both are free again");
    }
}
