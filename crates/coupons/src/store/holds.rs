//! `coupons_holds`: the coupons of each order.

use crate::model::{OrderHold, OrderHoldState};
use contracts::{Code, IssuedCouponId, OrderId, Refusal};
use kit::{
    DbError, Row, Tx,
    db::{FromRow, params},
    rows::Changed,
};
use uuid::Uuid;

impl FromRow for OrderHold {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let state: String = row.get(1)?;
        let coupons: Vec<u8> = row.get(2)?;
        let (code, detail): (Option<String>, Option<String>) = (row.get(5)?, row.get(6)?);
        Ok(OrderHold {
            order_id: row.get(0)?,
            state: OrderHoldState::parse(&state).ok_or_else(|| super::unknown(1, &state))?,
            coupons: read_ids(&coupons),
            held_at: row.get(3)?,
            expires_at: row.get(4)?,
            refusal: code.as_deref().and_then(Code::from_slug).map(|code| Refusal::new(code, detail.unwrap_or_default())),
        })
    }
}

fn read_ids(bytes: &[u8]) -> Vec<IssuedCouponId> {
    bytes.as_chunks::<16>().0.iter().map(|id| IssuedCouponId(Uuid::from_bytes(*id))).collect()
}

fn write_ids(ids: &[IssuedCouponId]) -> Vec<u8> {
    ids.iter().flat_map(|id| *id.0.as_bytes()).collect()
}

/// Holds for a change. Orders without one are missing.
pub async fn load(tx: &mut Tx, orders: &[OrderId]) -> Result<Vec<OrderHold>, DbError> {
    let sql = "select order_id, state, coupons, held_at, expires_at, refusal_code, refusal_detail from coupons_holds \
               where order_id=$1 for update";
    tx.query_many(sql, orders.iter().map(|id| params![*id])).await
}

/// Saves holds. A new one never overwrites that of another transaction.
pub async fn save(tx: &mut Tx, holds: &Changed<'_, OrderHold>) -> Result<(), DbError> {
    let ids: Vec<Vec<u8>> = holds.new.iter().map(|hold| write_ids(&hold.coupons)).collect();
    let rows = holds.new.iter().zip(&ids).map(|(hold, ids)| {
        let (code, detail) = hold.refusal.as_ref().map(|refusal| (refusal.code.slug(), refusal.detail.as_str())).unzip();
        params![hold.order_id, hold.state.as_str(), ids, hold.held_at, hold.expires_at, code, detail]
    });
    tx.execute_many(
        "insert into coupons_holds (order_id, state, coupons, held_at, expires_at, refusal_code, refusal_detail) \
         values ($1,$2,$3,$4,$5,$6,$7)",
        rows,
    )
    .await?;
    let rows = holds.existing.iter().map(|hold| params![hold.order_id, hold.state.as_str()]);
    tx.execute_many("update coupons_holds set state=$2 where order_id=$1", rows).await?;
    Ok(())
}
