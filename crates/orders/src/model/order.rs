//! An order, its lines and its history, as they are stored.

use super::{SagaState, State, Step, StepKind};
use contracts::{
    Code, IssuedCouponId, MemberId, OrderId, PaymentId, ProductId, Refusal, Sku, StoreId, Timestamp, Won,
    calls::CouponScope,
    messages::{PaymentMethod, StockPolicy},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: OrderId,
    pub member_id: MemberId,
    pub state: State,
    pub subtotal: Won,
    pub discount: Won,
    pub points_used: Won,
    pub shipping: Won,
    pub total: Won,
    pub itinerary: Vec<Step>,
    pub progress: usize,
    pub saga_state: SagaState,
    /// Choreographed: the number of its last slip, 0 before the first. Absent: orchestrated. A saga ends as it began, whatever is set by then.
    pub slip_run: Option<u32>,
    pub due_at: Option<Timestamp>,
    pub expires_at: Timestamp,
    pub paid_inline: bool,
    /// Its lines leave the buyer's cart when it is paid.
    pub from_cart: bool,
    pub payment: Option<Payment>,
    pub ending: Option<State>,
    pub reason: Option<Reason>,
    pub idempotency_key: String,
    pub events: u32,
    pub steps: u32,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub paid_at: Option<Timestamp>,
}

/// Why something ended as it did: a rule's code where a rule said no, and a sentence for the buyer (G6).
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

/// The running or last attempt to pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    pub id: PaymentId,
    pub method: PaymentMethod,
    pub token: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
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
pub struct Event {
    pub n: u32,
    pub from: Option<State>,
    pub to: State,
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
    pub step: Step,
    pub kind: StepKind,
    pub result: StepResult,
    pub reason: Option<Reason>,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
}
