//! All SQL of the orders service. Loads and saves rows, and decides nothing.
//!
//! Several processes may write. Rows are locked from their reading to the commit, in the order of their keys, `orders_orders` before
//! `orders_unpaid` before `orders_carts`. An order's row also guards its history, its saga and its open answers (`orders_open_answers`). A
//! cart's row guards its items. A transaction with different operations may lock a cart before an order. If two of them deadlock, the database rolls one back,
//! and it is repeated.

mod answers;
pub mod cart;
mod columns;
mod saving;
pub mod unpaid;

pub use answers::{OpenAnswer, add_open_answers, close_answers, open_answers};
pub use saving::save;

use crate::model::{AppliedCoupon, Order, OrderEvent, OrderLine, OrderState, StepRecord};
use columns::{CHANGING, FIXED};
use contracts::{MemberId, OrderId, StoreId, Timestamp};
use kit::{DbError, Row, Tx, db::FromRow, params};
use std::collections::HashMap;

/// Loads and locks orders. The ids are sorted, so that two transactions never deadlock.
pub async fn load_for_update(tx: &mut Tx, ids: &[OrderId]) -> Result<Vec<Order>, DbError> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    let sql = format!("select {FIXED}, {CHANGING} from orders_orders where id=$1 for update");
    tx.query_many(&sql, ids.iter().map(|id| params![*id])).await
}

pub async fn order(tx: &mut Tx, id: OrderId) -> Result<Option<Order>, DbError> {
    Ok(orders(tx, &[id]).await?.pop())
}

/// Orders in the order of the ids. Unknown ids are left out.
pub async fn orders(tx: &mut Tx, ids: &[OrderId]) -> Result<Vec<Order>, DbError> {
    let sql = format!("select {FIXED}, {CHANGING} from orders_orders where id=$1");
    tx.query_many(&sql, ids.iter().map(|id| params![*id])).await
}

/// Rows grouped by order, sorted within each. Orders without rows are missing.
pub type ByOrder<T> = HashMap<OrderId, Vec<T>>;

/// A row of `WIDTH` columns, followed by the id of its order.
struct WithOrderId<T, const WIDTH: usize>(T, OrderId);

impl<T: FromRow, const WIDTH: usize> FromRow for WithOrderId<T, WIDTH> {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(WithOrderId(T::from_row(row)?, row.get(WIDTH)?))
    }
}

async fn by_order<T: FromRow + Send + 'static, const WIDTH: usize>(tx: &mut Tx, sql: &str, ids: &[OrderId]) -> Result<ByOrder<T>, DbError> {
    let found: Vec<WithOrderId<T, WIDTH>> = tx.query_many(sql, ids.iter().map(|id| params![*id])).await?;
    let mut sorted = ByOrder::new();
    for WithOrderId(row, id) in found {
        sorted.entry(id).or_insert_with(Vec::new).push(row);
    }
    Ok(sorted)
}

pub async fn lines(tx: &mut Tx, ids: &[OrderId]) -> Result<ByOrder<OrderLine>, DbError> {
    let sql = "select line_no, sku, product_id, store_id, name, quantity, unit_price, line_discount, policy, order_id \
               from orders_lines where order_id=$1 order by line_no";
    by_order::<_, 9>(tx, sql, ids).await
}

pub async fn coupons(tx: &mut Tx, ids: &[OrderId]) -> Result<ByOrder<AppliedCoupon>, DbError> {
    let sql = "select issued_coupon_id, name, scope, store_id, base, discount, order_id \
               from orders_coupons where order_id=$1 order by issued_coupon_id";
    by_order::<_, 6>(tx, sql, ids).await
}

pub async fn events(tx: &mut Tx, ids: &[OrderId]) -> Result<ByOrder<OrderEvent>, DbError> {
    let sql = "select n, from_state, to_state, code, detail, at, order_id from orders_events where order_id=$1 order by n";
    by_order::<_, 6>(tx, sql, ids).await
}

pub async fn steps(tx: &mut Tx, ids: &[OrderId]) -> Result<ByOrder<StepRecord>, DbError> {
    let sql = "select n, step, kind, state, code, detail, started_at, ended_at, order_id from orders_steps where order_id=$1 order by n";
    by_order::<_, 8>(tx, sql, ids).await
}

/// A member's orders, newest first, at most `limit`, older than `before`.
pub async fn orders_of_member(
    tx: &mut Tx,
    member_id: MemberId,
    state: Option<OrderState>,
    before: Option<OrderId>,
    limit: u32,
) -> Result<Vec<Order>, DbError> {
    let sql = format!(
        "select {FIXED}, {CHANGING} from orders_orders where member_id=$1 and ($2 is null or state=$2) and ($3 is null or id<$3) order by id desc limit $4"
    );
    tx.query(&sql, &params![member_id, state.map(OrderState::as_str), before, limit]).await
}

/// Ids of paid orders with lines of a store, newest first, at most `limit`, older than `before`.
pub async fn sold_order_ids(tx: &mut Tx, store_id: StoreId, before: Option<OrderId>, limit: u32) -> Result<Vec<OrderId>, DbError> {
    let sql = "select distinct l.order_id from orders_lines l join orders_orders o on o.id=l.order_id \
               where l.store_id=$1 and ($2 is null or l.order_id<$2) and o.paid_at is not null order by l.order_id desc limit $3";
    let rows: Vec<(OrderId,)> = tx.query(sql, &params![store_id, before, limit]).await?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

/// Ids of the orders of these members that are not paid and have not ended. Read without a lock.
pub async fn unpaid_order_ids(tx: &mut Tx, members: &[MemberId]) -> Result<Vec<OrderId>, DbError> {
    let sql = "select id from orders_orders where member_id=$1 and (state='PENDING' or state='AWAITING_PAYMENT')";
    let rows: Vec<(OrderId,)> = tx.query_many(sql, members.iter().map(|member_id| params![*member_id])).await?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

/// Number of a member's orders that are paid and not delivered, or whose payment or refund is running.
pub async fn count_open(tx: &mut Tx, member_id: MemberId) -> Result<u64, DbError> {
    let sql = "select count(*) from orders_orders where member_id=$1 \
               and state in ('PAYING', 'PAID', 'PREPARING', 'SHIPPING', 'CANCELLING')";
    let (count,): (i64,) = tx.query_one(sql, &params![member_id]).await?;
    Ok(count.unsigned_abs())
}

/// Ids of orders whose `due_at` has passed, the oldest first, at most `limit`.
pub async fn due_orders(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<OrderId>, DbError> {
    let sql = "select id from orders_orders where due_at is not null and due_at<=$1 order by due_at limit $2";
    let rows: Vec<(OrderId,)> = tx.query(sql, &params![now, limit]).await?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

/// Ids of orders that ended unpaid before this time and are not compacted yet, the oldest first, at most `limit`.
pub async fn ended_unpaid_orders(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<Vec<OrderId>, DbError> {
    let sql = "select id from orders_orders where saga_state='UNDONE' and paid_at is null and compacted_at is null and updated_at<$1 \
               order by updated_at limit $2";
    let rows: Vec<(OrderId,)> = tx.query(sql, &params![before, limit]).await?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

/// Drops the lines, coupons and steps of orders that ended. These rows never change again, so their orders need no lock before.
pub async fn compact(tx: &mut Tx, ids: &[OrderId], now: Timestamp) -> Result<(), DbError> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    let rows = || ids.iter().map(|id| params![*id]);
    let sql = "update orders_orders set compacted_at=$2 where id=$1";
    tx.execute_many(sql, ids.iter().map(|id| params![*id, now])).await?;
    tx.execute_many("delete from orders_lines where order_id=$1", rows()).await?;
    tx.execute_many("delete from orders_coupons where order_id=$1", rows()).await?;
    tx.execute_many("delete from orders_steps where order_id=$1", rows()).await?;
    Ok(())
}
