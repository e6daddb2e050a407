//! All SQL of the orders service. Loads and saves rows, and decides nothing.
//!
//! Several processes may write. Rows are locked from their reading to the commit, in the order of their keys, `orders_orders` before
//! `orders_unpaid` before `orders_carts`. An order's row also guards its history, its saga and its open answers (`orders_open_answers`). A
//! cart's row guards its items. A transaction with different operations may lock a cart before an order. If two of them deadlock, the database rolls one back,
//! and it is repeated.

mod answers;
pub mod cart;
pub mod unpaid;

pub use answers::{OpenAnswer, add_open_answers, close_answers, open_answers};

use crate::model::{
    AppliedCoupon, Checkout, Order, OrderEvent, OrderLine, OrderState, PaymentAttempt, Reason, SagaState, StepKind, StepRecord, StepResult,
};
use contracts::{
    Code, MemberId, OrderId, PaymentId, StoreId, Timestamp,
    calls::CouponScope,
    messages::{PaymentMethod, SagaStep, StockPolicy},
};
use kit::{DbError, Param, Row, Tx, db::FromRow, params};
use std::collections::HashMap;

/// Columns of an order that never change. [`CHANGING`] follow them in a row.
const FIXED: &str = "id, member_id, subtotal, discount, points_used, shipping, total, itinerary, expires_at, paid_inline, idempotency_key, \
     created_at, from_cart";
const FIXED_COUNT: usize = 13;
const CHANGING: &str = "state, progress, saga_state, due_at, method, payment_id, payment_token, ending, code, detail, events, steps, \
     updated_at, paid_at, slip_run";
const CHANGING_COUNT: usize = 15;
const COUNT: usize = FIXED_COUNT + CHANGING_COUNT;

fn parsed<T>(row: &Row<'_>, index: usize, parse: impl Fn(&str) -> Option<T>) -> Result<T, DbError> {
    let text: String = row.get(index)?;
    parse(&text).ok_or_else(|| DbError::Column { index, reason: format!("{text} is unknown") })
}

fn parsed_opt<T>(row: &Row<'_>, index: usize, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, DbError> {
    match row.get::<Option<String>>(index)? {
        None => Ok(None),
        Some(_) => parsed(row, index, parse).map(Some),
    }
}

fn reason(row: &Row<'_>, code: usize, detail: usize) -> Result<Option<Reason>, DbError> {
    let text: Option<String> = row.get(detail)?;
    let code = parsed_opt(row, code, Code::from_slug)?;
    Ok(text.map(|detail| Reason { code, detail }))
}

fn parse_itinerary(text: &str) -> Option<Vec<SagaStep>> {
    text.split(',').map(SagaStep::parse).collect()
}

impl FromRow for Order {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let method = parsed_opt(row, 17, PaymentMethod::parse)?;
        let payment_id: Option<PaymentId> = row.get(18)?;
        let token: Option<String> = row.get(19)?;
        Ok(Order {
            id: row.get(0)?,
            member_id: row.get(1)?,
            subtotal: row.get(2)?,
            discount: row.get(3)?,
            points_used: row.get(4)?,
            shipping: row.get(5)?,
            total: row.get(6)?,
            itinerary: parsed(row, 7, parse_itinerary)?,
            expires_at: row.get(8)?,
            paid_inline: row.get(9)?,
            idempotency_key: row.get(10)?,
            created_at: row.get(11)?,
            from_cart: row.get(12)?,
            state: parsed(row, 13, OrderState::parse)?,
            progress: usize::try_from(row.get::<i64>(14)?).unwrap_or(0),
            saga_state: parsed(row, 15, SagaState::parse)?,
            due_at: row.get(16)?,
            payment: payment_id.zip(method).map(|(id, method)| PaymentAttempt { id, method, token }),
            ending: parsed_opt(row, 20, OrderState::parse)?,
            reason: reason(row, 21, 22)?,
            events: row.get(23)?,
            steps: row.get(24)?,
            updated_at: row.get(25)?,
            paid_at: row.get(26)?,
            slip_run: row.get(27)?,
        })
    }
}

impl FromRow for OrderLine {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(OrderLine {
            line_no: row.get(0)?,
            sku: row.get(1)?,
            product_id: row.get(2)?,
            store_id: row.get(3)?,
            name: row.get(4)?,
            quantity: row.get(5)?,
            unit_price: row.get(6)?,
            line_discount: row.get(7)?,
            policy: parsed(row, 8, StockPolicy::parse)?,
        })
    }
}

impl FromRow for AppliedCoupon {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(AppliedCoupon {
            issued_coupon_id: row.get(0)?,
            name: row.get(1)?,
            scope: parsed(row, 2, CouponScope::parse)?,
            store_id: row.get(3)?,
            base: row.get(4)?,
            discount: row.get(5)?,
        })
    }
}

impl FromRow for OrderEvent {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(OrderEvent {
            n: row.get(0)?,
            from: parsed_opt(row, 1, OrderState::parse)?,
            to: parsed(row, 2, OrderState::parse)?,
            reason: reason(row, 3, 4)?,
            at: row.get(5)?,
        })
    }
}

impl FromRow for StepRecord {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let kind = |text: &str| [StepKind::Do, StepKind::Undo].into_iter().find(|kind| kind.as_str() == text);
        Ok(StepRecord {
            n: row.get(0)?,
            step: parsed(row, 1, SagaStep::parse)?,
            kind: parsed(row, 2, kind)?,
            result: parsed(row, 3, StepResult::parse)?,
            reason: reason(row, 4, 5)?,
            started_at: row.get(6)?,
            ended_at: row.get(7)?,
        })
    }
}

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

/// Writes new orders with their lines and coupons, changed orders, and the new history of both.
pub async fn save(tx: &mut Tx, checkouts: &[&Checkout]) -> Result<(), DbError> {
    insert_orders(tx, checkouts).await?;
    update_orders(tx, checkouts).await?;
    insert_lines(tx, checkouts).await?;
    insert_history(tx, checkouts).await
}

fn itinerary_text(order: &Order) -> String {
    order.itinerary.iter().map(|step| step.as_str()).collect::<Vec<_>>().join(",")
}

fn slug_of(reason: Option<&Reason>) -> Option<&'static str> {
    reason.and_then(|reason| reason.code).map(Code::slug)
}

fn detail_of(reason: Option<&Reason>) -> Option<&str> {
    reason.map(|reason| reason.detail.as_str())
}

/// Values of [`FIXED`].
fn fixed_params<'a>(order: &'a Order, itinerary: &'a str) -> [Param<'a>; FIXED_COUNT] {
    params![
        order.id,
        order.member_id,
        order.subtotal,
        order.discount,
        order.points_used,
        order.shipping,
        order.total,
        itinerary,
        order.expires_at,
        order.paid_inline,
        &order.idempotency_key,
        order.created_at,
        order.from_cart
    ]
}

/// Values of [`CHANGING`].
fn changing_params(order: &Order) -> [Param<'_>; CHANGING_COUNT] {
    let payment = order.payment.as_ref();
    params![
        order.state.as_str(),
        order.progress as i64,
        order.saga_state.as_str(),
        order.due_at,
        payment.map(|payment| payment.method.as_str()),
        payment.map(|payment| payment.id),
        payment.and_then(|payment| payment.token.as_deref()),
        order.ending.map(OrderState::as_str),
        slug_of(order.reason.as_ref()),
        detail_of(order.reason.as_ref()),
        order.events,
        order.steps,
        order.updated_at,
        order.paid_at,
        order.slip_run
    ]
}

async fn insert_orders(tx: &mut Tx, checkouts: &[&Checkout]) -> Result<(), DbError> {
    let placeholders: Vec<String> = (1..=COUNT).map(|number| format!("${number}")).collect();
    let sql = format!("insert into orders_orders ({FIXED}, {CHANGING}) values ({})", placeholders.join(","));
    let new: Vec<(&Order, String)> =
        checkouts.iter().filter(|checkout| checkout.is_new).map(|checkout| (&checkout.order, itinerary_text(&checkout.order))).collect();
    let rows = new.iter().map(|(order, itinerary)| {
        let mut row = [Param::Null; COUNT];
        row[..FIXED_COUNT].copy_from_slice(&fixed_params(order, itinerary));
        row[FIXED_COUNT..].copy_from_slice(&changing_params(order));
        row
    });
    tx.execute_many(&sql, rows).await?;
    Ok(())
}

async fn update_orders(tx: &mut Tx, checkouts: &[&Checkout]) -> Result<(), DbError> {
    let set: Vec<String> = CHANGING.split(", ").zip(2..).map(|(column, number)| format!("{column}=${number}")).collect();
    let sql = format!("update orders_orders set {} where id=$1", set.join(", "));
    let changed = checkouts.iter().filter(|checkout| checkout.is_changed && !checkout.is_new);
    let rows = changed.map(|checkout| {
        let mut row = [Param::from(checkout.order.id); 1 + CHANGING_COUNT];
        row[1..].copy_from_slice(&changing_params(&checkout.order));
        row
    });
    tx.execute_many(&sql, rows).await?;
    Ok(())
}

async fn insert_lines(tx: &mut Tx, checkouts: &[&Checkout]) -> Result<(), DbError> {
    let sql = "insert into orders_lines (order_id, line_no, sku, product_id, store_id, name, quantity, unit_price, line_discount, policy) \
               values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10)";
    let new = || checkouts.iter().filter(|checkout| checkout.is_new);
    let rows = new().flat_map(|checkout| checkout.lines.iter().map(|line| (checkout.order.id, line))).map(|(id, line)| {
        params![
            id,
            line.line_no,
            line.sku,
            line.product_id,
            line.store_id,
            &line.name,
            line.quantity,
            line.unit_price,
            line.line_discount,
            line.policy.as_str()
        ]
    });
    tx.execute_many(sql, rows).await?;
    let sql =
        "insert into orders_coupons (order_id, issued_coupon_id, name, scope, store_id, base, discount) values ($1,$2,$3,$4,$5,$6,$7)";
    let rows = new().flat_map(|checkout| checkout.coupons.iter().map(|coupon| (checkout.order.id, coupon))).map(|(id, coupon)| {
        params![id, coupon.issued_coupon_id, &coupon.name, coupon.scope.as_str(), coupon.store_id, coupon.base, coupon.discount]
    });
    tx.execute_many(sql, rows).await?;
    Ok(())
}

async fn insert_history(tx: &mut Tx, checkouts: &[&Checkout]) -> Result<(), DbError> {
    let sql = "insert into orders_events (order_id, n, from_state, to_state, code, detail, at) values ($1,$2,$3,$4,$5,$6,$7)";
    let rows = checkouts.iter().flat_map(|checkout| checkout.events.iter().map(|event| (checkout.order.id, event))).map(|(id, event)| {
        let reason = event.reason.as_ref();
        params![id, event.n, event.from.map(OrderState::as_str), event.to.as_str(), slug_of(reason), detail_of(reason), event.at]
    });
    tx.execute_many(sql, rows).await?;
    let sql =
        "insert into orders_steps (order_id, n, step, kind, state, code, detail, started_at, ended_at) values ($1,$2,$3,$4,$5,$6,$7,$8,$9)";
    let rows = checkouts.iter().flat_map(|checkout| checkout.steps.iter().map(|step| (checkout.order.id, step))).map(|(id, step)| {
        let reason = step.reason.as_ref();
        params![
            id,
            step.n,
            step.step.as_str(),
            step.kind.as_str(),
            step.result.as_str(),
            slug_of(reason),
            detail_of(reason),
            step.started_at,
            step.ended_at
        ]
    });
    tx.execute_many(sql, rows).await?;
    Ok(())
}
