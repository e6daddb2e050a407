//! SQL of cancellations.

use super::slips::{encode_slip, slip_from_row};
use crate::model::{Cancellation, LoadedPayments};
use contracts::OrderId;
use kit::{
    DbError, Fault, Row, Tx,
    db::{FromRow, params},
    rows::Changed,
};
use std::collections::BTreeSet;

impl FromRow for Cancellation {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let state: String = row.get(1)?;
        let (created_at, updated_at) = (row.get(2)?, row.get(3)?);
        Ok(Self { order_id: row.get(0)?, is_done: state == "DONE", created_at, updated_at, slip: slip_from_row(row, 4)? })
    }
}

/// Locks and loads the cancellations of these orders that are not loaded yet.
pub async fn load_cancellations(tx: &mut Tx, loaded: &mut LoadedPayments, orders: &BTreeSet<OrderId>) -> Result<(), DbError> {
    let missing = loaded.cancellations.missing(orders.iter().copied());
    if missing.is_empty() {
        return Ok(());
    }
    let sql = "select order_id, state, created_at, updated_at, slip from payments_cancellations where order_id=$1 for update";
    let found: Vec<Cancellation> = tx.query_many(sql, missing.iter().map(|order_id| params![*order_id])).await?;
    loaded.cancellations.add_found(missing, found.into_iter().map(|row| (row.order_id, row)));
    Ok(())
}

/// The undo of the order's payment is open.
pub async fn is_undo_waiting(tx: &mut Tx, order_id: OrderId) -> Result<bool, DbError> {
    let sql = "select count(*) from payments_cancellations where order_id=$1 and state='WAITING'";
    let (waiting,): (i64,) = tx.query_one(sql, &params![order_id]).await?;
    Ok(waiting > 0)
}

pub async fn save(tx: &mut Tx, Changed { new, existing }: &Changed<'_, Cancellation>) -> Result<(), Fault> {
    let sql = "insert into payments_cancellations (order_id, state, created_at, updated_at, slip) values ($1,$2,$3,$4,$5)";
    let slips: Vec<Option<String>> = new.iter().map(|row| encode_slip(row.slip.as_ref())).collect::<Result<_, _>>()?;
    let rows = new.iter().zip(&slips);
    tx.execute_many(sql, rows.map(|(row, slip)| params![row.order_id, state_text(row), row.created_at, row.updated_at, slip.as_deref()]))
        .await?;
    let sql = "update payments_cancellations set state=$2, updated_at=$3 where order_id=$1";
    tx.execute_many(sql, existing.iter().map(|row| params![row.order_id, state_text(row), row.updated_at])).await?;
    Ok(())
}

fn state_text(row: &Cancellation) -> &'static str {
    if row.is_done { "DONE" } else { "WAITING" }
}
