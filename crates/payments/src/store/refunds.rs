//! SQL of refunds.

use crate::model::{LoadedPayments, Refund, RefundState};
use contracts::{PaymentId, Timestamp};
use kit::{
    DbError, Fault, Param, Row, Tx,
    db::{FromRow, params},
    rows::Changed,
};
use std::collections::BTreeSet;

impl FromRow for Refund {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let state: String = row.get(4)?;
        let state = RefundState::parse(&state).ok_or_else(|| DbError::Column { index: 4, reason: format!("unknown state {state}") })?;
        Ok(Self {
            id: row.get(0)?,
            payment_id: row.get(1)?,
            order_id: row.get(2)?,
            amount: row.get(3)?,
            state,
            provider_ref: row.get(5)?,
            attempts: row.get(6)?,
            next_try_at: row.get(7)?,
            created_at: row.get(8)?,
            updated_at: row.get(9)?,
        })
    }
}

const COLUMNS: &str = "id, payment_id, order_id, amount, state, provider_ref, attempts, next_try_at, created_at, updated_at";

/// Locks and loads the refunds of these payments that are not loaded yet.
pub async fn load_refunds(tx: &mut Tx, loaded: &mut LoadedPayments, payments: &BTreeSet<PaymentId>) -> Result<(), DbError> {
    let missing = loaded.refunds.missing(payments.iter().copied());
    if missing.is_empty() {
        return Ok(());
    }
    let sql = format!("select {COLUMNS} from payments_refunds where payment_id=$1 for update");
    let found: Vec<Refund> = tx.query_many(&sql, missing.iter().map(|id| params![*id])).await?;
    loaded.refunds.add_found(missing, found.into_iter().map(|refund| (refund.payment_id, refund)));
    Ok(())
}

/// The refund of a payment that a provider has not confirmed yet. `None`: there is none.
pub async fn pending_refund(tx: &mut Tx, payment_id: PaymentId) -> Result<Option<Refund>, DbError> {
    let sql = format!("select {COLUMNS} from payments_refunds where payment_id=$1 and state='PENDING' and next_try_at is not null");
    tx.query_opt(&sql, &params![payment_id]).await
}

/// Refunds whose next call to the provider is due, the oldest first.
pub async fn due_refunds(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<Refund>, DbError> {
    let sql =
        format!("select {COLUMNS} from payments_refunds where next_try_at is not null and next_try_at<=$1 order by next_try_at limit $2");
    tx.query(&sql, &params![now, limit]).await
}

/// Writes refunds. `Err`: a changed refund is no longer pending in the database.
pub async fn save(tx: &mut Tx, refunds: Changed<'_, Refund>) -> Result<(), Fault> {
    let Changed { mut new, existing } = refunds;
    // Neighbours share pages.
    new.sort_unstable_by_key(|refund| refund.id);
    let sql = format!("insert into payments_refunds ({COLUMNS}) values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10)");
    tx.execute_many(&sql, new.iter().map(|refund| insert_params(refund))).await?;
    let sql = "update payments_refunds set state=$2, provider_ref=$3, attempts=$4, next_try_at=$5, updated_at=$6 \
               where id=$1 and state='PENDING'";
    let rows = existing.iter().map(|refund| {
        let reference = refund.provider_ref.as_deref();
        params![refund.id, refund.state.as_str(), reference, refund.attempts, refund.next_try_at, refund.updated_at]
    });
    let saved = tx.execute_many(sql, rows).await?;
    match saved.iter().zip(&existing).find(|(rows, _)| **rows != 1) {
        Some((_, stale)) => Err(DbError::Retry(format!("refund {} was changed since it was read", stale.id)).into()),
        None => Ok(()),
    }
}

fn insert_params(refund: &Refund) -> [Param<'_>; 10] {
    params![
        refund.id,
        refund.payment_id,
        refund.order_id,
        refund.amount,
        refund.state.as_str(),
        refund.provider_ref.as_deref(),
        refund.attempts,
        refund.next_try_at,
        refund.created_at,
        refund.updated_at
    ]
}
