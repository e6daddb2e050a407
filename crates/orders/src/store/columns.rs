//! Columns of orders, and the types of their rows.

use crate::model::{
    AppliedCoupon, Order, OrderEvent, OrderLine, OrderState, PaymentAttempt, Reason, SagaState, StepKind, StepRecord, StepResult,
};
use contracts::{
    Code, PaymentId,
    calls::CouponScope,
    messages::{PaymentMethod, SagaStep, StockPolicy},
};
use kit::{DbError, Row, db::FromRow};

/// Columns of an order that never change. [`CHANGING`] follow them in a row.
pub const FIXED: &str = "id, member_id, subtotal, discount, points_used, shipping, total, itinerary, expires_at, paid_inline, idempotency_key, \
     created_at, from_cart";
pub const FIXED_COUNT: usize = 13;
pub const CHANGING: &str = "state, progress, saga_state, due_at, method, payment_id, payment_token, ending, code, detail, events, steps, \
     updated_at, paid_at, slip_run";
pub const CHANGING_COUNT: usize = 15;
pub const COUNT: usize = FIXED_COUNT + CHANGING_COUNT;

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
