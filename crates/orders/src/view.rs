//! Orders as their buyers and sellers see them.

use crate::{
    model::{AppliedCoupon, Checkout, Event, Line, Order, State, StepRecord},
    store,
};
use contracts::{
    Code, IssuedCouponId, OrderId, PaymentId, ProductId, Refusal, Sku, StoreId, Timestamp, Won, calls::CouponScope, messages::PaymentMethod,
};
use kit::{Answer, DbError, Tx, engine::Fault, http};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeSet;
use utoipa::ToSchema;
use uuid::Uuid;

/// An order with everything that belongs to it.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderView {
    #[serde(flatten)]
    pub summary: OrderSummary,
    pub lines: Vec<LineView>,
    pub coupons: Vec<CouponView>,
    /// Every state it has been in, oldest first.
    pub states: Vec<StateView>,
    pub saga: SagaView,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct StateView {
    pub state: State,
    pub at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// An order at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderSummary {
    pub id: OrderId,
    pub state: State,
    /// Sum of the lines at their prices.
    pub subtotal: Won,
    /// Taken off by coupons.
    pub discount: Won,
    /// Points used, one won each.
    pub points_used: Won,
    pub shipping: Won,
    /// To pay, or paid: `subtotal - discount - points_used + shipping`.
    pub total: Won,
    pub payment: Option<PaymentView>,
    /// Why the order ended, or why its last payment was refused.
    pub reason: Option<ReasonView>,
    pub created_at: Timestamp,
    /// Until when it can be paid.
    pub expires_at: Timestamp,
    pub paid_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct PaymentView {
    pub id: PaymentId,
    pub method: PaymentMethod,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ReasonView {
    /// The problem's slug, such as `out-of-stock`; absent when nobody refused anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<&'static str>,
    pub detail: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct LineView {
    pub line_no: u32,
    pub sku: Sku,
    pub product_id: ProductId,
    pub store_id: StoreId,
    pub name: String,
    pub quantity: u32,
    pub unit_price: Won,
    /// Taken off this line by all coupons.
    pub discount: Won,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct CouponView {
    pub issued_coupon_id: IssuedCouponId,
    pub name: String,
    pub scope: CouponScope,
    pub discount: Won,
}

/// What has happened to an order so far.
#[derive(Default)]
pub struct History {
    pub events: Vec<Event>,
    pub steps: Vec<StepRecord>,
}

impl History {
    /// Up to where each order stands that was read before: more may have been written since. In the order of the orders.
    pub async fn load(tx: &mut Tx, orders: &[&Order]) -> Result<Vec<History>, DbError> {
        // Once each: several answers may wait for one order.
        let ids: BTreeSet<OrderId> = orders.iter().map(|order| order.id).collect();
        let ids: Vec<OrderId> = ids.into_iter().collect();
        let (events, steps) = (store::events(tx, &ids).await?, store::steps(tx, &ids).await?);
        let history = |order: &&Order| {
            let events = events.get(&order.id).into_iter().flatten().filter(|event| event.n <= order.events);
            let steps = steps.get(&order.id).into_iter().flatten().filter(|step| step.n <= order.steps);
            History { events: events.cloned().collect(), steps: steps.cloned().collect() }
        };
        Ok(orders.iter().map(history).collect())
    }

    /// With what this transaction has not written yet. A new order's history is all in memory.
    pub async fn of(tx: &mut Tx, checkouts: &[&Checkout]) -> Result<Vec<History>, DbError> {
        let stored: Vec<&Order> = checkouts.iter().filter(|checkout| !checkout.is_new).map(|checkout| &checkout.order).collect();
        let mut loaded = History::load(tx, &stored).await?.into_iter();
        let history = |checkout: &&Checkout| {
            let mut history = if checkout.is_new { History::default() } else { loaded.next().unwrap_or_default() };
            let (last_event, last_step) = (history.events.last().map_or(0, |event| event.n), history.steps.last().map_or(0, |step| step.n));
            history.events.extend(checkout.events.iter().filter(|event| event.n > last_event).cloned());
            history.steps.extend(checkout.steps.iter().filter(|step| step.n > last_step).cloned());
            history
        };
        Ok(checkouts.iter().map(history).collect())
    }
}

/// The checkout saga: where it is and how it came there.
#[derive(Debug, Serialize, ToSchema)]
pub struct SagaView {
    pub state: &'static str,
    /// The step that runs or rests; absent when the saga has ended.
    pub step: Option<&'static str>,
    pub history: Vec<StepView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct StepView {
    pub step: &'static str,
    /// `DO` or `UNDO`.
    pub kind: &'static str,
    /// `OK`, `REFUSED` or `TIMED_OUT`.
    pub result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    pub at: Timestamp,
    /// Microseconds from the step before to this one's answer.
    pub duration_us: u64,
}

impl From<&Order> for OrderSummary {
    fn from(order: &Order) -> Self {
        let reason = order.reason.as_ref();
        OrderSummary {
            id: order.id,
            state: order.state,
            subtotal: order.subtotal,
            discount: order.discount,
            points_used: order.points_used,
            shipping: order.shipping,
            total: order.total,
            payment: order.payment.as_ref().map(|payment| PaymentView { id: payment.id, method: payment.method }),
            reason: reason.map(|reason| ReasonView { r#type: reason.code.map(Code::slug), detail: reason.detail.clone() }),
            created_at: order.created_at,
            expires_at: order.expires_at,
            paid_at: order.paid_at,
        }
    }
}

impl From<&Line> for LineView {
    fn from(line: &Line) -> Self {
        LineView {
            line_no: line.line_no,
            sku: line.sku,
            product_id: line.product_id,
            store_id: line.store_id,
            name: line.name.clone(),
            quantity: line.quantity,
            unit_price: line.unit_price,
            discount: line.line_discount,
        }
    }
}

impl From<&AppliedCoupon> for CouponView {
    fn from(coupon: &AppliedCoupon) -> Self {
        CouponView { issued_coupon_id: coupon.issued_coupon_id, name: coupon.name.clone(), scope: coupon.scope, discount: coupon.discount }
    }
}

impl From<&Event> for StateView {
    fn from(event: &Event) -> Self {
        StateView { state: event.to, at: event.at, detail: event.reason.as_ref().map(|reason| reason.detail.clone()) }
    }
}

impl From<&StepRecord> for StepView {
    fn from(step: &StepRecord) -> Self {
        StepView {
            step: step.step.as_str(),
            kind: step.kind.as_str(),
            result: step.result.as_str(),
            detail: step.reason.as_ref().map(|reason| reason.detail.clone()),
            at: step.ended_at,
            duration_us: u64::try_from(step.ended_at.since(step.started_at).as_micros()).unwrap_or(u64::MAX),
        }
    }
}

pub fn order_view(order: &Order, lines: &[Line], coupons: &[AppliedCoupon], history: &History) -> OrderView {
    let ended = order.progress >= order.itinerary.len() || order.saga_state.as_str() == "UNDONE";
    let step = order.itinerary.get(order.progress).filter(|_| !ended).map(|step| step.as_str());
    OrderView {
        summary: order.into(),
        lines: lines.iter().map(Into::into).collect(),
        coupons: coupons.iter().map(Into::into).collect(),
        states: history.events.iter().map(Into::into).collect(),
        saga: SagaView { state: order.saga_state.as_str(), step, history: history.steps.iter().map(Into::into).collect() },
    }
}

/// What the caller of `operation` is told about this order as it is at the end of the transaction. `trace` names the request where the
/// batch does not.
pub fn answer(checkout: &Checkout, history: &History, operation: &str, trace: Option<Uuid>) -> Result<Answer, Fault> {
    let order = &checkout.order;
    let location = format!("/v1/orders/{}", order.id);
    if let Some(refusal) = refusal(order, operation) {
        let mut extra = vec![("order_id", json!(order.id))];
        extra.extend(trace.map(|trace| ("trace_id", json!(trace.simple()))));
        let body = http::problem_body(&refusal, &[], &extra);
        return Ok(Answer { status: refusal.code.status(), body: body.into(), location: Some(location), replayed: false });
    }
    let status = match operation {
        "orders.create" => 201,
        _ if checkout.is_at_rest() => 200,
        _ => 202,
    };
    let answer = Answer::json(status, &order_view(order, &checkout.lines, &checkout.coupons, history))?;
    Ok(if operation == "orders.create" { answer.at(location) } else { answer })
}

/// The refusal an operation came to, if it did not reach what it was for.
fn refusal(order: &Order, operation: &str) -> Option<Refusal> {
    let missed = match operation {
        "orders.create" => matches!(order.state, State::Failed | State::Expired),
        "orders.pay" => matches!(order.state, State::Failed | State::Expired | State::AwaitingPayment),
        _ => false,
    };
    let reason = order.reason.as_ref().filter(|_| missed)?;
    Some(Refusal::new(reason.code.unwrap_or(Code::PaymentFailed), reason.detail.clone()))
}
