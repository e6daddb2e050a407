//! An order, its lines and its history, as stored.

use super::{OrderState, SagaState, StepKind};
use contracts::{
    Code, IssuedCouponId, MemberId, OrderId, PaymentId, ProductId, Refusal, Sku, StoreId, Timestamp, Won,
    calls::CouponScope,
    messages::{PaymentMethod, SagaStep, StockPolicy},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: OrderId,
    pub member_id: MemberId,
    pub state: OrderState,
    pub subtotal: Won,
    pub discount: Won,
    pub points_used: Won,
    pub shipping: Won,
    pub total: Won,
    pub itinerary: Vec<SagaStep>,
    pub progress: usize,
    pub saga_state: SagaState,
    /// Run number of the last slip, 0 before the first. `None`: orchestrated. A later change of the setting does not change the mode.
    pub slip_run: Option<u32>,
    pub due_at: Option<Timestamp>,
    pub expires_at: Timestamp,
    pub paid_inline: bool,
    /// The lines are removed from the buyer's cart when the order is paid.
    pub from_cart: bool,
    pub payment: Option<PaymentAttempt>,
    pub ending: Option<OrderState>,
    pub reason: Option<Reason>,
    pub idempotency_key: String,
    pub events: u32,
    pub steps: u32,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub paid_at: Option<Timestamp>,
}

/// Reason of an end or a refusal: a sentence for the buyer (G6), and the problem code when a rule refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub code: Option<Code>,
    pub detail: String,
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        Self { code: Some(refusal.code), detail: refusal.detail }
    }
}

/// The running attempt to pay, or the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentAttempt {
    pub id: PaymentId,
    pub method: PaymentMethod,
    pub token: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderLine {
    pub line_no: u32,
    pub sku: Sku,
    pub product_id: ProductId,
    pub store_id: StoreId,
    pub name: String,
    pub quantity: u32,
    pub unit_price: Won,
    pub line_discount: Won,
    pub policy: StockPolicy,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedCoupon {
    pub issued_coupon_id: IssuedCouponId,
    pub name: String,
    pub scope: CouponScope,
    pub store_id: Option<StoreId>,
    pub base: Won,
    pub discount: Won,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderEvent {
    pub n: u32,
    pub from: Option<OrderState>,
    pub to: OrderState,
    pub reason: Option<Reason>,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepResult {
    Ok,
    Refused,
    TimedOut,
}

impl StepResult {
    pub fn as_str(self) -> &'static str {
        match self {
            StepResult::Ok => "OK",
            StepResult::Refused => "REFUSED",
            StepResult::TimedOut => "TIMED_OUT",
        }
    }
    pub fn parse(text: &str) -> Option<StepResult> {
        [StepResult::Ok, StepResult::Refused, StepResult::TimedOut].into_iter().find(|result| result.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    pub n: u32,
    pub step: SagaStep,
    pub kind: StepKind,
    pub result: StepResult,
    pub reason: Option<Reason>,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
}
