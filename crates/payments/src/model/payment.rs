//! One attempt to pay an order, its refund, and the undoing of an order's payment.

use contracts::{
    Code, MemberId, OrderId, PaymentId, Refusal, Timestamp, Won,
    messages::{PaymentMethod, PaymentRequest, RoutingSlip},
};
use std::time::Duration;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Written down before anyone outside was asked.
    Intent,
    /// Asked, and nobody knows what came of it. Never read as a failure.
    Unknown,
    Approved,
    Failed,
    /// Captured and given back.
    Cancelled,
}

impl State {
    const ALL: [State; 5] = [State::Intent, State::Unknown, State::Approved, State::Failed, State::Cancelled];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Intent => "INTENT",
            State::Unknown => "UNKNOWN",
            State::Approved => "APPROVED",
            State::Failed => "FAILED",
            State::Cancelled => "CANCELLED",
        }
    }

    pub fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Its outcome is not known yet.
    pub fn is_open(self) -> bool {
        matches!(self, State::Intent | State::Unknown)
    }

    /// It keeps other payments of its order out.
    pub fn is_live(self) -> bool {
        self.is_open() || self == State::Approved
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    pub id: PaymentId,
    pub order_id: OrderId,
    pub member_id: MemberId,
    pub method: PaymentMethod,
    pub amount: Won,
    pub state: State,
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
    /// Of a choreographed order: the slip that asked for it, passed on when the outcome is known.
    pub slip: Option<RoutingSlip>,
}

impl Payment {
    pub fn intent(ask: &PaymentRequest, slip: Option<RoutingSlip>, now: Timestamp) -> Self {
        Self {
            id: ask.payment_id,
            order_id: ask.order_id,
            member_id: ask.member_id,
            method: ask.method,
            amount: ask.amount,
            state: State::Intent,
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
        self.become_state(State::Approved, now);
        self.provider_ref = reference;
        self.captured_at = Some(now);
    }

    pub fn fail(&mut self, refusal: Refusal, now: Timestamp) {
        self.become_state(State::Failed, now);
        self.code = Some(refusal.code);
        self.detail = Some(refusal.detail);
    }

    /// Final or not: nobody has to ask the provider any more.
    pub fn become_state(&mut self, state: State, now: Timestamp) {
        if self.state != state {
            self.state = state;
            self.updated_at = now;
        }
        self.next_try_at = None;
    }

    /// A call is about to be made, and over when the lease is.
    pub fn lease(&mut self, lease: Duration, now: Timestamp) {
        self.next_try_at = Some(now.after(lease));
        self.called_until = self.next_try_at;
    }

    /// No call of ours to charge it is made after this instant.
    pub fn last_call(&self) -> Timestamp {
        self.called_until.unwrap_or(self.created_at)
    }

    /// The provider gave no usable answer; ask again, later each time.
    pub fn doubt(&mut self, called: bool, now: Timestamp) {
        self.become_state(State::Unknown, now);
        self.next_try_at = Some(now.after(back_off(self.attempts)));
        self.attempts += 1;
        if called {
            self.called_until = Some(now);
        }
    }

    pub fn refusal(&self) -> Refusal {
        let code = self.code.unwrap_or(Code::PaymentFailed);
        Refusal { code, detail: self.detail.clone().unwrap_or_else(|| code.title().to_owned()) }
    }
}

/// The name a payment has at the provider.
pub fn provider_key(payment_id: PaymentId) -> String {
    format!("onrush-{}", payment_id.0.simple())
}

/// The name a refund has at the provider.
pub fn refund_key(refund_id: Uuid) -> String {
    format!("onrush-refund-{}", refund_id.simple())
}

/// Longest pause between two questions about the same payment.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// 1, 2, 4 … seconds.
fn back_off(attempts: u32) -> Duration {
    Duration::from_secs(1 << attempts.min(5)).min(MAX_PAUSE)
}

/// What is known of a payment from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    Charged {
        reference: Option<String>,
    },
    Refused(Refusal),
    /// No usable answer. `called`: to a request to charge, as opposed to a question.
    Unknown {
        called: bool,
    },
    /// The provider has no record of it and, by its promise, never will. Only for payments that nobody wants any more.
    NeverCharged,
    /// It is about to be called again: written down first, like the first call.
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

    pub fn done(&mut self, reference: Option<String>, now: Timestamp) {
        self.state = RefundState::Done;
        self.provider_ref = reference;
        self.next_try_at = None;
        self.updated_at = now;
    }

    pub fn doubt(&mut self, now: Timestamp) {
        self.next_try_at = Some(now.after(back_off(self.attempts)));
        self.attempts += 1;
    }
}

/// The undoing of an order's payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancellation {
    pub order_id: OrderId,
    /// Nothing captured is kept. Until then a payment's outcome, or its refund, is waited for.
    pub done: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Of a choreographed order: the slip that asked for it, passed on when it is done.
    pub slip: Option<RoutingSlip>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let pauses: Vec<u64> = (0..8).map(|attempts| back_off(attempts).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(back_off(u32::MAX), MAX_PAUSE);
    }

    #[test]
    fn keys_depend_on_the_id_alone() {
        let id = PaymentId(Uuid::from_u128(5));
        assert_eq!(provider_key(id), provider_key(id));
        assert_ne!(provider_key(id), refund_key(id.0));
    }
}
