//! SQL of payments.

use super::slips::{encode_slip, slip_from_row};
use crate::model::{LoadedPayment, LoadedPayments, Payment, PaymentState};
use contracts::{Code, OrderId, PaymentId, Timestamp, messages::PaymentMethod};
use kit::{
    DbError, Fault, Param, Row, Tx,
    db::{FromRow, params},
    rows::Changed,
};
use std::collections::BTreeSet;

impl FromRow for Payment {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let (method, state): (String, String) = (row.get(3)?, row.get(5)?);
        let unknown = |index, text: &str| DbError::Column { index, reason: format!("unknown value {text}") };
        let code: Option<String> = row.get(9)?;
        Ok(Self {
            id: row.get(0)?,
            order_id: row.get(1)?,
            member_id: row.get(2)?,
            method: PaymentMethod::parse(&method).ok_or_else(|| unknown(3, &method))?,
            amount: row.get(4)?,
            state: PaymentState::parse(&state).ok_or_else(|| unknown(5, &state))?,
            provider_key: row.get(6)?,
            provider_ref: row.get(7)?,
            token: row.get(8)?,
            code: code.as_deref().and_then(Code::from_slug),
            detail: row.get(10)?,
            attempts: row.get(11)?,
            next_try_at: row.get(12)?,
            called_until: row.get(13)?,
            created_at: row.get(14)?,
            updated_at: row.get(15)?,
            captured_at: row.get(16)?,
            slip: slip_from_row(row, 17)?,
        })
    }
}

const COLUMNS: &str = "id, order_id, member_id, method, amount, state, provider_key, provider_ref, token, code, detail, attempts, \
                       next_try_at, called_until, created_at, updated_at, captured_at, slip";

pub async fn payment(tx: &mut Tx, id: PaymentId) -> Result<Option<Payment>, DbError> {
    tx.query_opt(&format!("select {COLUMNS} from payments_payments where id=$1"), &params![id]).await
}

/// Orders of these payments. Unknown payments are left out. Read without a lock, because a payment never changes its order.
pub async fn orders_of(tx: &mut Tx, ids: &BTreeSet<PaymentId>) -> Result<Vec<OrderId>, DbError> {
    let found: Vec<(OrderId,)> =
        tx.query_many("select order_id from payments_payments where id=$1", ids.iter().map(|id| params![*id])).await?;
    Ok(found.into_iter().map(|(order_id,)| order_id).collect())
}

/// Locks and loads the payments that are not loaded yet.
pub async fn load_payments(tx: &mut Tx, loaded: &mut LoadedPayments, ids: &BTreeSet<PaymentId>) -> Result<(), DbError> {
    let missing = loaded.payments.missing(ids.iter().copied());
    if missing.is_empty() {
        return Ok(());
    }
    let sql = format!("select {COLUMNS} from payments_payments where id=$1 for update");
    let found: Vec<Payment> = tx.query_many(&sql, missing.iter().map(|id| params![*id])).await?;
    loaded.payments.add_found(missing, found.into_iter().map(|payment| (payment.id, payment.into())));
    Ok(())
}

/// Locks and loads the live payment of each order: approved, or with unknown outcome.
pub async fn load_live(tx: &mut Tx, loaded: &mut LoadedPayments, orders: &BTreeSet<OrderId>) -> Result<(), DbError> {
    let missing: Vec<OrderId> = orders.iter().copied().filter(|order_id| !loaded.has_live(*order_id)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    // The condition repeats the index's condition literally, so that the database can use the index.
    let sql =
        format!("select {COLUMNS} from payments_payments where order_id=$1 and state <> 'FAILED' and state <> 'CANCELLED' for update");
    let found: Vec<Payment> = tx.query_many(&sql, missing.iter().map(|order_id| params![*order_id])).await?;
    loaded.load_live(missing, found);
    Ok(())
}

/// Payments whose next question to the provider is due, the oldest first.
pub async fn due_payments(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<Payment>, DbError> {
    let sql =
        format!("select {COLUMNS} from payments_payments where next_try_at is not null and next_try_at<=$1 order by next_try_at limit $2");
    tx.query(&sql, &params![now, limit]).await
}

/// Writes payments. `Err`: the state of a changed payment is no longer the one it was read with. Ended payments are written first, because
/// an order may have only one live payment.
pub async fn save(tx: &mut Tx, payments: Changed<'_, LoadedPayment>) -> Result<(), Fault> {
    let Changed { new, mut existing } = payments;
    existing.sort_by_key(|loaded| loaded.payment.state.is_live());
    let sql = "update payments_payments set state=$2, provider_ref=$3, code=$4, detail=$5, attempts=$6, next_try_at=$7, called_until=$8, \
               updated_at=$9, captured_at=$10 where id=$1 and state=$11";
    let rows = existing.iter().map(|LoadedPayment { payment, stored_state }| {
        params![
            payment.id,
            payment.state.as_str(),
            payment.provider_ref.as_deref(),
            payment.code.map(Code::slug),
            payment.detail.as_deref(),
            payment.attempts,
            payment.next_try_at,
            payment.called_until,
            payment.updated_at,
            payment.captured_at,
            stored_state.as_str()
        ]
    });
    let saved = tx.execute_many(sql, rows).await?;
    if let Some((_, stale)) = saved.iter().zip(&existing).find(|(rows, _)| **rows != 1) {
        return Err(DbError::Retry(format!("payment {} was changed since it was read", stale.payment.id)).into());
    }
    let sql = format!("insert into payments_payments ({COLUMNS}) values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18)");
    let slips: Vec<Option<String>> = new.iter().map(|loaded| encode_slip(loaded.payment.slip.as_ref())).collect::<Result<_, _>>()?;
    tx.execute_many(&sql, new.iter().zip(&slips).map(|(loaded, slip)| insert_params(&loaded.payment, slip.as_deref()))).await?;
    for loaded in new.into_iter().chain(existing) {
        loaded.stored_state = loaded.payment.state;
    }
    Ok(())
}

fn insert_params<'a>(payment: &'a Payment, slip: Option<&'a str>) -> [Param<'a>; 18] {
    params![
        payment.id,
        payment.order_id,
        payment.member_id,
        payment.method.as_str(),
        payment.amount,
        payment.state.as_str(),
        payment.provider_key.as_deref(),
        payment.provider_ref.as_deref(),
        payment.token.as_deref(),
        payment.code.map(Code::slug),
        payment.detail.as_deref(),
        payment.attempts,
        payment.next_try_at,
        payment.called_until,
        payment.created_at,
        payment.updated_at,
        payment.captured_at,
        slip
    ]
}
