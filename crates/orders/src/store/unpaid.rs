//! SQL of reservations without payment. A member's row in `orders_unpaid` guards the member's open unpaid orders.

use contracts::{MemberId, OrderId, Sku, Timestamp, messages::StockPolicy};
use kit::{DbError, Tx, params};

/// A member's lapses and pause.
pub type UnpaidRow = (MemberId, u32, Option<Timestamp>);

/// Locks the rows of these members, which are sorted. Members without a row are left out.
pub async fn lock(tx: &mut Tx, members: &[MemberId]) -> Result<Vec<UnpaidRow>, DbError> {
    let sql = "select member_id, lapses, paused_until from orders_unpaid where member_id=$1 for update";
    tx.query_many(sql, members.iter().map(|member_id| params![*member_id])).await
}

/// Open unpaid orders of these members, one row for each line. Only lines of the policy `reserve_on_order` have units.
pub async fn open_units(tx: &mut Tx, members: &[MemberId]) -> Result<Vec<(MemberId, OrderId, Option<(Sku, u32)>)>, DbError> {
    // The conditions on the order are those of the partial index.
    let sql = "select o.member_id, o.id, l.sku, l.quantity from orders_orders o \
               left join orders_lines l on l.order_id=o.id and l.policy=$2 \
               where o.member_id=$1 and not o.paid_inline and o.paid_at is null and (o.saga_state='RUNNING' or o.saga_state='WAITING')";
    let policy = StockPolicy::ReserveOnOrder.as_str();
    let rows: Vec<(MemberId, OrderId, Option<Sku>, Option<u32>)> =
        tx.query_many(sql, members.iter().map(|member_id| params![*member_id, policy])).await?;
    Ok(rows.into_iter().map(|(member_id, order_id, sku, quantity)| (member_id, order_id, sku.zip(quantity))).collect())
}

pub async fn insert(tx: &mut Tx, rows: &[UnpaidRow]) -> Result<(), DbError> {
    let sql = "insert into orders_unpaid (member_id, lapses, paused_until) values ($1,$2,$3)";
    tx.execute_many(sql, rows.iter().map(|(member_id, lapses, until)| params![*member_id, *lapses, *until])).await?;
    Ok(())
}

pub async fn update(tx: &mut Tx, rows: &[UnpaidRow]) -> Result<(), DbError> {
    let sql = "update orders_unpaid set lapses=$2, paused_until=$3 where member_id=$1";
    tx.execute_many(sql, rows.iter().map(|(member_id, lapses, until)| params![*member_id, *lapses, *until])).await?;
    Ok(())
}
