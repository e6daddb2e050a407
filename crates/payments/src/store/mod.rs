//! All SQL of payments. Loads and saves; decides nothing.
//!
//! Several processes may write. Everything about the payment of an order is decided under one lock that is named after the order
//! ([`lock_orders`]), taken before anything else and in one order everywhere. A row lock would not do: that an order has no payment, or was
//! not cancelled, is a decision about rows that are not there. Row locks, taken after it (`payments_payments`, `payments_refunds`,
//! `payments_cancellations`), only keep out whoever should forget it.

mod cancellations;
mod payments;
mod refunds;
mod slips;

pub use cancellations::{load_cancellations, waits};
pub use payments::{due_payments, load_live, load_payments, orders_of, payment};
pub use refunds::{due_refunds, load_refunds, pending_refund};

use crate::model::{Book, Broken};
use contracts::OrderId;
use kit::{DbError, Fault, Tx, params};
use std::collections::BTreeSet;

impl From<Broken> for Fault {
    fn from(broken: Broken) -> Self {
        Fault::Bug(broken.0)
    }
}

/// Keeps these orders from other transactions until this one ends. SQLite has one writer, and so no others.
pub async fn lock_orders(tx: &mut Tx, orders: &BTreeSet<OrderId>) -> Result<(), DbError> {
    if !tx.is_postgres() {
        return Ok(());
    }
    // Of two ids with the same number one merely waits for the other.
    let mut keys: Vec<i64> = orders.iter().map(|order_id| i64::from_be_bytes(lock_key(*order_id))).collect();
    keys.sort_unstable();
    keys.dedup();
    tx.execute_many("select pg_advisory_xact_lock($1)", keys.iter().map(|key| params![*key])).await?;
    Ok(())
}

/// The random half of the id, so marked that no other lock of the database has it but by chance.
fn lock_key(order_id: OrderId) -> [u8; 8] {
    let [_, _, _, _, _, _, _, _, rest @ ..] = *order_id.0.as_bytes();
    let mark = *b"payments";
    std::array::from_fn(|at| rest[at] ^ mark[at])
}

/// Writes everything a book came to.
pub async fn save(tx: &mut Tx, book: Book) -> Result<(), Fault> {
    let changes = book.into_changes();
    payments::save(tx, &changes.new_payments, &changes.changed_payments).await?;
    refunds::save(tx, &changes.new_refunds, &changes.changed_refunds).await?;
    cancellations::save(tx, &changes.new_cancellations, &changes.changed_cancellations).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit::{Db, ports::new_id, testing::TestDatabase};

    // I-P1: a request and the undo of the same order, in two processes, wait for each other although neither has a row yet.
    #[tokio::test]
    async fn an_order_belongs_to_one_transaction_at_a_time() {
        let database = TestDatabase::create().await;
        let db = Db::postgres(&database.url(), &["payments"]).expect("a URL");
        let (mut one, mut other) = (db.open_writer().await.expect("connects"), db.open_writer().await.expect("connects"));
        let (a, b) = (OrderId(new_id()), OrderId(new_id()));
        one.begin().await.expect("begins");
        other.begin().await.expect("begins");
        lock_orders(&mut one, &BTreeSet::from([a])).await.expect("nobody has it");
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
