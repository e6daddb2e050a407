//! API representations of orders and carts.

use crate::{
    model::{AppliedCoupon, Cart, Checkout, Order, OrderEvent, OrderLine, OrderState, StepRecord, points_per_line},
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

/// An order with its lines, coupons, states and saga.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderView {
    #[serde(flatten)]
    pub summary: OrderSummary,
    pub lines: Vec<LineView>,
    pub coupons: Vec<CouponView>,
    /// All states of the order so far, oldest first.
    pub states: Vec<StateView>,
    pub saga: SagaView,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct StateView {
    pub state: OrderState,
    pub at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Summary of an order.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderSummary {
    pub id: OrderId,
    pub state: OrderState,
    /// Sum of the lines before discounts.
    pub subtotal: Won,
    /// Discount of all coupons.
    pub discount: Won,
    /// Points used, one won each.
    pub points_used: Won,
    pub shipping: Won,
    /// Amount to pay: `subtotal - discount - points_used + shipping`.
    pub total: Won,
    pub payment: Option<OrderPaymentView>,
    /// Reason why the order ended, or why its last payment was refused.
    pub reason: Option<ReasonView>,
    pub created_at: Timestamp,
    /// End of the time to pay.
    pub expires_at: Timestamp,
    pub paid_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PaymentView)]
pub struct OrderPaymentView {
    pub id: PaymentId,
    pub method: PaymentMethod,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ReasonView {
    /// Slug of the problem, such as `out-of-stock`. Absent when the order was cancelled on request.
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
    /// Discount of all coupons on this line.
    pub discount: Won,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct CouponView {
    pub issued_coupon_id: IssuedCouponId,
    pub name: String,
    pub scope: CouponScope,
    pub discount: Won,
}

/// Version and items of a cart.
#[derive(Debug, Serialize, ToSchema)]
pub struct CartView {
    /// Send it as `cart_version` with an order from the cart, so that one version is ordered at most once.
    pub version: i64,
    pub items: Vec<CartItemView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct CartItemView {
    pub sku: Sku,
    pub quantity: u32,
}

impl From<&Cart> for CartView {
    fn from(cart: &Cart) -> Self {
        let items = cart.items.iter().map(|(sku, quantity)| CartItemView { sku: *sku, quantity: *quantity });
        CartView { version: cart.version, items: items.collect() }
    }
}

/// State changes and step results of an order so far.
#[derive(Default)]
pub struct OrderHistory {
    pub events: Vec<OrderEvent>,
    pub steps: Vec<StepRecord>,
}

impl OrderHistory {
    /// Loads the history of each order up to the order's counters, in the order of `orders`. Later rows are left out.
    pub async fn load(tx: &mut Tx, orders: &[&Order]) -> Result<Vec<OrderHistory>, DbError> {
        // Each id once: several answers may wait for one order.
        let ids: BTreeSet<OrderId> = orders.iter().map(|order| order.id).collect();
        let ids: Vec<OrderId> = ids.into_iter().collect();
        let (events, steps) = (store::events(tx, &ids).await?, store::steps(tx, &ids).await?);
        let history = |order: &&Order| {
            let events = events.get(&order.id).into_iter().flatten().filter(|event| event.n <= order.events);
            let steps = steps.get(&order.id).into_iter().flatten().filter(|step| step.n <= order.steps);
            OrderHistory { events: events.cloned().collect(), steps: steps.cloned().collect() }
        };
        Ok(orders.iter().map(history).collect())
    }

    /// Loads the histories and appends the changes that this transaction has not written yet. A new order's history is only in memory.
    pub async fn load_with_unsaved(tx: &mut Tx, checkouts: &[&Checkout]) -> Result<Vec<OrderHistory>, DbError> {
        let stored: Vec<&Order> = checkouts.iter().filter(|checkout| !checkout.is_new).map(|checkout| &checkout.order).collect();
        let mut loaded = OrderHistory::load(tx, &stored).await?.into_iter();
        let history = |checkout: &&Checkout| {
            let mut history = if checkout.is_new { OrderHistory::default() } else { loaded.next().unwrap_or_default() };
            let (last_event, last_step) = (history.events.last().map_or(0, |event| event.n), history.steps.last().map_or(0, |step| step.n));
            history.events.extend(checkout.events.iter().filter(|event| event.n > last_event).cloned());
            history.steps.extend(checkout.steps.iter().filter(|step| step.n > last_step).cloned());
            history
        };
        Ok(checkouts.iter().map(history).collect())
    }
}

/// State and history of the checkout saga.
#[derive(Debug, Serialize, ToSchema)]
pub struct SagaView {
    pub state: &'static str,
    /// The current step. Absent when the saga has ended.
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
    /// Microseconds from the end of the previous step to the answer of this one.
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
            payment: order.payment.as_ref().map(|payment| OrderPaymentView { id: payment.id, method: payment.method }),
            reason: reason.map(|reason| ReasonView { r#type: reason.code.map(Code::slug), detail: reason.detail.clone() }),
            created_at: order.created_at,
            expires_at: order.expires_at,
            paid_at: order.paid_at,
        }
    }
}

impl From<&OrderLine> for LineView {
    fn from(line: &OrderLine) -> Self {
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

impl From<&OrderEvent> for StateView {
    fn from(event: &OrderEvent) -> Self {
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

pub fn order_view(order: &Order, lines: &[OrderLine], coupons: &[AppliedCoupon], history: &OrderHistory) -> OrderView {
    let has_ended = order.progress >= order.itinerary.len() || order.saga_state.as_str() == "UNDONE";
    let step = order.itinerary.get(order.progress).filter(|_| !has_ended).map(|step| step.as_str());
    OrderView {
        summary: order.into(),
        lines: lines.iter().map(Into::into).collect(),
        coupons: coupons.iter().map(Into::into).collect(),
        states: history.events.iter().map(Into::into).collect(),
        saga: SagaView { state: order.saga_state.as_str(), step, history: history.steps.iter().map(Into::into).collect() },
    }
}

/// The lines of one order that a store sold, with their sums. It leaves out the payment, the checkout and everything about other stores.
#[derive(Debug, Serialize, ToSchema)]
pub struct SoldOrderView {
    pub id: OrderId,
    pub state: OrderState,
    /// All states of the order so far, oldest first. Without details, because the buyer may have written them.
    pub states: Vec<SoldStateView>,
    pub created_at: Timestamp,
    pub paid_at: Option<Timestamp>,
    /// Lines of the store.
    pub lines: Vec<LineView>,
    /// Sum of these lines before discounts.
    pub subtotal: Won,
    /// Discount of all coupons on these lines.
    pub discount: Won,
    /// Share of these lines in the points of the order, in proportion to their prices after discounts.
    pub points_used: Won,
    /// Money for these lines: `subtotal - discount - points_used`.
    pub total: Won,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SoldStateView {
    pub state: OrderState,
    pub at: Timestamp,
}

/// View of an order for the seller of the lines that `is_sold` selects.
pub fn sold_order_view(order: &Order, lines: &[OrderLine], events: &[OrderEvent], is_sold: impl Fn(&OrderLine) -> bool) -> SoldOrderView {
    let shares = points_per_line(order.points_used, lines);
    let sold: Vec<(&OrderLine, Won)> = lines.iter().zip(shares).filter(|(line, _)| is_sold(line)).collect();
    let sum = |part: fn(&(&OrderLine, Won)) -> i64| Won(sold.iter().map(part).sum());
    let subtotal = sum(|(line, _)| line.unit_price.0 * i64::from(line.quantity));
    let discount = sum(|(line, _)| line.line_discount.0);
    let points_used = sum(|(_, share)| share.0);
    SoldOrderView {
        id: order.id,
        state: order.state,
        states: events.iter().map(|event| SoldStateView { state: event.to, at: event.at }).collect(),
        created_at: order.created_at,
        paid_at: order.paid_at,
        lines: sold.iter().map(|(line, _)| LineView::from(*line)).collect(),
        subtotal,
        discount,
        points_used,
        total: Won(subtotal.0 - discount.0 - points_used.0),
    }
}

/// The answer to `operation`, with the order's state at the end of the transaction. `trace`: trace id to write into a problem. `None`: the
/// batch adds it.
pub fn answer_for(checkout: &Checkout, history: &OrderHistory, operation: &str, trace: Option<Uuid>) -> Result<Answer, Fault> {
    let order = &checkout.order;
    let location = format!("/v1/orders/{}", order.id);
    if let Some(refusal) = refusal_of(order, operation) {
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

/// The refusal to answer with. `None`: the operation reached its goal, or still may.
fn refusal_of(order: &Order, operation: &str) -> Option<Refusal> {
    let is_refused = match operation {
        "orders.create" => matches!(order.state, OrderState::Failed | OrderState::Expired),
        "orders.pay" => matches!(order.state, OrderState::Failed | OrderState::Expired | OrderState::AwaitingPayment),
        _ => false,
    };
    let reason = order.reason.as_ref().filter(|_| is_refused)?;
    Some(Refusal::new(reason.code.unwrap_or(Code::PaymentFailed), reason.detail.clone()))
}
