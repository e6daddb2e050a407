//! Writes orders with their lines, coupons and history.

use super::columns::{CHANGING, CHANGING_COUNT, COUNT, FIXED, FIXED_COUNT};
use crate::model::{Checkout, Order, OrderState, Reason};
use contracts::Code;
use kit::{DbError, Param, Tx, params};

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
