//! One attempt to pay an order, its refund, and the cancellation of an order's payment.

use contracts::{
    Code, MemberId, OrderId, PaymentId, Refusal, Timestamp, Won,
    messages::{PaymentMethod, PaymentRequest, RoutingSlip},
};
use kit::backoff::Backoff;
use std::time::Duration;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaymentState {
    /// Stored before the wallet or the provider is asked.
    Intent,
    /// Asked, with an unknown outcome. It never counts as a failure.
    Unknown,
    Approved,
    Failed,
    /// Captured and refunded.
    Cancelled,
}

impl PaymentState {
    const ALL: [PaymentState; 5] =
        [PaymentState::Intent, PaymentState::Unknown, PaymentState::Approved, PaymentState::Failed, PaymentState::Cancelled];

    pub fn as_str(self) -> &'static str {
        match self {
            PaymentState::Intent => "INTENT",
            PaymentState::Unknown => "UNKNOWN",
            PaymentState::Approved => "APPROVED",
            PaymentState::Failed => "FAILED",
            PaymentState::Cancelled => "CANCELLED",
        }
    }

    pub fn parse(text: &str) -> Option<PaymentState> {
        PaymentState::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// The outcome is not known yet.
    pub fn is_open(self) -> bool {
        matches!(self, PaymentState::Intent | PaymentState::Unknown)
    }

    /// Approved or open: no other payment of the order is allowed.
    pub fn is_live(self) -> bool {
        self.is_open() || self == PaymentState::Approved
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    pub id: PaymentId,
    pub order_id: OrderId,
    pub member_id: MemberId,
    pub method: PaymentMethod,
    pub amount: Won,
    pub state: PaymentState,
    pub provider_key: Option<String>,
    pub provider_ref: Option<String>,
    pub token: Option<String>,
    pub code: Option<Code>,
    pub detail: Option<String>,
    pub attempts: u32,
    pub next_try_at: Option<Timestamp>,
    pub called_until: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub captured_at: Option<Timestamp>,
    /// The slip that requested the payment, passed on when the outcome is known. `None`: the order is orchestrated.
    pub slip: Option<RoutingSlip>,
}

impl Payment {
    pub fn intent(request: &PaymentRequest, slip: Option<RoutingSlip>, now: Timestamp) -> Self {
        Self {
            id: request.payment_id,
            order_id: request.order_id,
            member_id: request.member_id,
            method: request.method,
            amount: request.amount,
            state: PaymentState::Intent,
            provider_key: None,
            provider_ref: None,
            token: None,
            code: None,
            detail: None,
            attempts: 0,
            next_try_at: None,
            called_until: None,
            created_at: now,
            updated_at: now,
            captured_at: None,
            slip,
        }
    }

    pub fn capture(&mut self, reference: Option<String>, now: Timestamp) {
        self.move_to(PaymentState::Approved, now);
        self.provider_ref = reference;
        self.captured_at = Some(now);
    }

    pub fn fail(&mut self, refusal: Refusal, now: Timestamp) {
        self.move_to(PaymentState::Failed, now);
        self.code = Some(refusal.code);
        self.detail = Some(refusal.detail);
    }

    /// Moves to a state in which the provider need not be asked. [`Payment::mark_unknown`] schedules the next question afterwards.
    pub fn move_to(&mut self, state: PaymentState, now: Timestamp) {
        if self.state != state {
            self.state = state;
            self.updated_at = now;
        }
        self.next_try_at = None;
    }

    /// Notes that a call is about to start, and ends before the lease does.
    pub fn begin_call(&mut self, lease: Duration, now: Timestamp) {
        self.next_try_at = Some(now.after(lease));
        self.called_until = self.next_try_at;
    }

    /// End of the last call to charge the payment. No later call was made.
    pub fn last_call(&self) -> Timestamp {
        self.called_until.unwrap_or(self.created_at)
    }

    /// Notes that the provider gave no usable answer, and schedules the next question. `called`: to a charge, not to a lookup.
    pub fn mark_unknown(&mut self, called: bool, now: Timestamp) {
        self.move_to(PaymentState::Unknown, now);
        self.next_try_at = Some(now.after(BACKOFF.delay(self.attempts)));
        self.attempts += 1;
        if called {
            self.called_until = Some(now);
        }
    }

    /// Code and detail of a failed payment.
    pub fn refusal(&self) -> Refusal {
        let code = self.code.unwrap_or(Code::PaymentFailed);
        Refusal { code, detail: self.detail.clone().unwrap_or_else(|| code.title().to_owned()) }
    }
}

/// Idempotency key of a payment at the provider.
pub fn provider_key(payment_id: PaymentId) -> String {
    format!("onrush-{}", payment_id.0.simple())
}

/// Idempotency key of a refund at the provider.
pub fn refund_key(refund_id: Uuid) -> String {
    format!("onrush-refund-{}", refund_id.simple())
}

/// Delays between two questions about one payment: 1, 2, 4 … seconds.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Status of a payment at the wallet or the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderStatus {
    Charged {
        reference: Option<String>,
    },
    Refused(Refusal),
    /// No usable answer. `called`: to a charge, not to a lookup.
    Unknown {
        called: bool,
    },
    /// The provider has no record, and its record deadline has passed. Only for payments of orders that are being undone.
    NeverCharged,
    /// The provider is about to be called again. Stored before the call, as for the first one.
    CallingAgain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundState {
    Pending,
    Done,
}

impl RefundState {
    pub fn as_str(self) -> &'static str {
        match self {
            RefundState::Pending => "PENDING",
            RefundState::Done => "DONE",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        [RefundState::Pending, RefundState::Done].into_iter().find(|state| state.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    pub id: Uuid,
    pub payment_id: PaymentId,
    pub order_id: OrderId,
    pub amount: Won,
    pub state: RefundState,
    pub provider_ref: Option<String>,
    pub attempts: u32,
    pub next_try_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Refund {
    pub fn pending(id: Uuid, payment: &Payment, next_try_at: Option<Timestamp>, now: Timestamp) -> Self {
        Self {
            id,
            payment_id: payment.id,
            order_id: payment.order_id,
            amount: payment.amount,
            state: RefundState::Pending,
            provider_ref: None,
            attempts: 0,
            next_try_at,
            created_at: now,
            updated_at: now,
        }
    }

    pub fn complete(&mut self, reference: Option<String>, now: Timestamp) {
        self.state = RefundState::Done;
        self.provider_ref = reference;
        self.next_try_at = None;
        self.updated_at = now;
    }

    /// Schedules the next try with exponential backoff.
    pub fn schedule_retry(&mut self, now: Timestamp) {
        self.next_try_at = Some(now.after(BACKOFF.delay(self.attempts)));
        self.attempts += 1;
    }
}

/// The undo of an order's payment. Also a tombstone that refuses later payments of the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancellation {
    pub order_id: OrderId,
    /// All captured money is refunded. `false`: the outcome of a payment or a refund is awaited.
    pub is_done: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// The slip that requested the undo, passed on when it is done. `None`: the order is orchestrated.
    pub slip: Option<RoutingSlip>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_grows_up_to_its_maximum() {
        let delays: Vec<u64> = (0..8).map(|attempts| BACKOFF.delay(attempts).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(BACKOFF.delay(u32::MAX), Duration::from_secs(30));
    }

    #[test]
    fn provider_keys_depend_only_on_the_id() {
        let id = PaymentId(Uuid::from_u128(5));
        assert_eq!(provider_key(id), provider_key(id));
        assert_ne!(provider_key(id), refund_key(id.0));
    }
}
