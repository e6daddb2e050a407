//! Rules of the checkout saga, as methods that change one order in memory.
//!
//! A method changes the order and queues the rows to store (`events`, `steps`) and the messages to emit (`outgoing`). The caller stores and
//! emits them in one transaction. Answers that do not belong to the running step are late or repeated, and are ignored.
//!
//! Both saga modes follow the same rules. An orchestrated order sends a message to each participant; a choreographed order sends a routing
//! slip (see `choreography.rs`).

use super::{AppliedCoupon, Order, OrderEvent, OrderLine, OrderState, PaymentAttempt, Reason, SagaState, StepKind, StepRecord, StepResult};
use contracts::{
    Code, Message, PaymentId, Refusal, Timestamp,
    messages::{OrderConfirmed, OrderEnded, SagaAnswer, SagaStep, StepOutcome},
};
use std::time::Duration;

/// Maximum time for a participant's answer. After it, the step counts as failed and is undone. In one process answers take milliseconds.
pub const STEP_DEADLINE: Duration = Duration::from_secs(30);

/// Longest interval between repeats of an unanswered undo. The first repeat comes after [`STEP_DEADLINE`], and the interval doubles: an
/// undo behind a dead letter is repeated for hours, and each repeat is another message.
pub const MAX_UNDO_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// An order with its lines and coupons, and its unsaved changes.
#[derive(Clone, Debug)]
pub struct Checkout {
    pub order: Order,
    pub lines: Vec<OrderLine>,
    pub coupons: Vec<AppliedCoupon>,
    /// State changes to store.
    pub events: Vec<OrderEvent>,
    /// Step results to store.
    pub steps: Vec<StepRecord>,
    /// Messages to emit.
    pub outgoing: Vec<Message>,
    /// The order is not in the database yet.
    pub is_new: bool,
    pub is_changed: bool,
    /// The buyer let the unpaid order go in this transaction.
    pub has_lapsed: bool,
}

impl Checkout {
    /// Creates an order and requests its first step.
    pub fn place(order: Order, lines: Vec<OrderLine>, coupons: Vec<AppliedCoupon>, now: Timestamp) -> Checkout {
        let (events, steps, outgoing) = (Vec::new(), Vec::new(), Vec::new());
        let mut checkout = Checkout { order, lines, coupons, events, steps, outgoing, is_new: true, is_changed: true, has_lapsed: false };
        checkout.record_event(None, OrderState::Pending, None, now);
        checkout.enter_step(now);
        checkout.send_forward_slip();
        checkout
    }

    /// No participant's answer is awaited: only the buyer, the seller, an operator or a deadline changes the order now.
    pub fn is_at_rest(&self) -> bool {
        !matches!(self.order.saga_state, SagaState::Running | SagaState::Undoing)
    }

    pub fn current_step(&self) -> Option<SagaStep> {
        self.order.itinerary.get(self.order.progress).copied()
    }

    /// Applies a participant's answer.
    pub fn apply_answer(&mut self, answer: SagaAnswer, now: Timestamp) {
        match (answer.outcome, answer.payment_id) {
            (StepOutcome::Done, Some(payment_id)) => self.payment_approved(payment_id, now),
            (StepOutcome::Done, None) => self.step_done(answer.step, now),
            (StepOutcome::Refused(refusal), Some(payment_id)) => self.payment_failed(payment_id, refusal.into(), now),
            (StepOutcome::Refused(refusal), None) => self.step_refused(answer.step, refusal.into(), now),
            (StepOutcome::Undone, _) => self.step_undone(answer.step, now),
        }
    }

    /// A participant completed the running step.
    pub fn step_done(&mut self, step: SagaStep, now: Timestamp) {
        if self.order.saga_state != SagaState::Running || self.current_step() != Some(step) {
            return;
        }
        self.record_step(step, StepKind::Do, StepResult::Ok, None, now);
        self.order.progress += 1;
        self.enter_step(now);
    }

    /// A participant refused the running step: undoes the steps before it.
    pub fn step_refused(&mut self, step: SagaStep, reason: Reason, now: Timestamp) {
        if self.order.saga_state != SagaState::Running || self.current_step() != Some(step) {
            return;
        }
        self.record_step(step, StepKind::Do, StepResult::Refused, Some(reason.clone()), now);
        self.begin_undo(OrderState::Failed, reason, self.order.progress.checked_sub(1), now);
    }

    /// A participant undid a step.
    pub fn step_undone(&mut self, step: SagaStep, now: Timestamp) {
        if self.order.saga_state != SagaState::Undoing || self.current_step() != Some(step) {
            return;
        }
        self.record_step(step, StepKind::Undo, StepResult::Ok, None, now);
        let undone_too: Vec<SagaStep> = self.order.itinerary.iter().copied().filter(|other| other.undone_with() == Some(step)).collect();
        for other in undone_too {
            self.record_step(other, StepKind::Undo, StepResult::Ok, None, now);
        }
        self.undo_from(self.order.progress.checked_sub(1), now);
    }

    /// The buyer pays.
    pub fn pay(&mut self, payment: PaymentAttempt, now: Timestamp) -> Result<(), Refusal> {
        match (self.order.state, self.order.saga_state) {
            (OrderState::AwaitingPayment, SagaState::Waiting) if now >= self.order.expires_at => Err(Code::OrderExpired.into()),
            (OrderState::AwaitingPayment, SagaState::Waiting) => {
                self.order.payment = Some(payment);
                self.order.reason = None;
                if self.current_step() == Some(SagaStep::AwaitPayment) {
                    self.order.progress += 1;
                }
                self.enter_step(now);
                self.send_forward_slip();
                Ok(())
            }
            (OrderState::AwaitingPayment | OrderState::Expired, _) => Err(Code::OrderExpired.into()),
            (OrderState::Paying, _) => Err(Code::PaymentInProgress.into()),
            (OrderState::Paid | OrderState::Preparing | OrderState::Shipping | OrderState::Delivered | OrderState::Confirmed, _) => {
                Err(Code::AlreadyPaid.into())
            }
            (state, _) => Err(Refusal::new(Code::IllegalTransition, format!("An order that is {} cannot be paid.", state.as_str()))),
        }
    }

    /// The payment was captured: the order is paid. Sends messages that make the holds final. Participants cannot refuse them.
    pub fn payment_approved(&mut self, payment_id: PaymentId, now: Timestamp) {
        if !self.is_running_payment(payment_id) {
            return;
        }
        self.record_step(SagaStep::Payment, StepKind::Do, StepResult::Ok, None, now);
        self.order.progress += 1;
        self.order.saga_state = SagaState::Done;
        self.order.due_at = None;
        self.order.paid_at = Some(now);
        self.order.reason = None;
        self.move_to(OrderState::Paid, None, now);
        self.outgoing.extend(self.order.itinerary.iter().filter_map(|step| step.commit(self.order.id)));
        self.outgoing.push(Message::OrderPaid(self.paid_message()));
    }

    /// The payment was refused. An order paid in the same call is undone. For other orders the buyer may retry until the order expires.
    pub fn payment_failed(&mut self, payment_id: PaymentId, reason: Reason, now: Timestamp) {
        if !self.is_running_payment(payment_id) {
            return;
        }
        if self.order.paid_inline {
            self.step_refused(SagaStep::Payment, reason, now);
            return;
        }
        self.record_step(SagaStep::Payment, StepKind::Do, StepResult::Refused, Some(reason.clone()), now);
        self.order.saga_state = SagaState::Waiting;
        self.order.due_at = Some(self.order.expires_at);
        self.order.reason = Some(reason.clone());
        self.move_to(OrderState::AwaitingPayment, Some(reason), now);
    }

    /// Cancels the order on request of its buyer. An unpaid order counts as let go.
    pub fn cancel_by_buyer(&mut self, reason: &str, now: Timestamp) -> Result<bool, Refusal> {
        let is_unpaid = self.order.is_unpaid();
        let has_begun = self.cancel(reason, now)?;
        self.has_lapsed |= has_begun && is_unpaid;
        Ok(has_begun)
    }

    /// Cancels the order on request of its buyer or an operator. `Ok(false)`: it is already cancelled or being cancelled.
    pub fn cancel(&mut self, reason: &str, now: Timestamp) -> Result<bool, Refusal> {
        match (self.order.state, self.order.saga_state) {
            (OrderState::Cancelled | OrderState::Cancelling, _) => Ok(false),
            (OrderState::Pending | OrderState::AwaitingPayment | OrderState::Paid | OrderState::Preparing, state)
                if state != SagaState::Undoing =>
            {
                // The outcome of the running step is unknown, so it is undone, too.
                let from = self.last_reachable_step();
                let reason = Reason { code: None, detail: reason.to_owned() };
                self.move_to(OrderState::Cancelling, Some(reason.clone()), now);
                self.begin_undo(OrderState::Cancelled, reason, Some(from), now);
                self.send_undo_slip();
                Ok(true)
            }
            (OrderState::Paying, _) => Err(Code::PaymentInProgress.into()),
            (state, _) => Err(Refusal::new(Code::IllegalTransition, format!("An order that is {} cannot be cancelled.", state.as_str()))),
        }
    }

    /// Cancels the order if nothing was paid for it. A running payment goes on; unpaid, the order expires in time.
    pub fn cancel_unpaid(&mut self, reason: &str, now: Timestamp) {
        if matches!(self.order.state, OrderState::Pending | OrderState::AwaitingPayment) {
            // `Err`: the order is being undone already.
            let _ = self.cancel(reason, now);
        }
    }

    /// Handles a passed `due_at`: expires an unpaid order, undoes an unanswered step, or repeats an unanswered undo.
    pub fn on_deadline(&mut self, now: Timestamp) {
        if self.order.due_at.is_none_or(|due| due > now) {
            return;
        }
        match self.order.saga_state {
            SagaState::Waiting => {
                self.has_lapsed = true;
                let reason = Refusal::from(Code::OrderExpired).into();
                self.begin_undo(OrderState::Expired, reason, self.order.progress.checked_sub(1), now);
                self.send_undo_slip();
            }
            SagaState::Running => {
                let Some(step) = self.current_step() else { return };
                let reason: Reason = Refusal::new(Code::StepTimedOut, format!("{} did not answer in time.", step.as_str())).into();
                self.record_step(step, StepKind::Do, StepResult::TimedOut, Some(reason.clone()), now);
                // The participant may have done the step. Its undo comes first and leaves a tombstone that refuses a late request.
                self.begin_undo(OrderState::Failed, reason, Some(self.last_reachable_step()), now);
                self.send_undo_slip();
            }
            SagaState::Undoing => {
                let last_interval = self.order.due_at.map_or(Duration::ZERO, |due| due.since(self.order.updated_at));
                self.send_undo_command(now, (last_interval * 2).clamp(STEP_DEADLINE, MAX_UNDO_INTERVAL));
                self.resend_undo_slip();
            }
            SagaState::Done | SagaState::Undone => self.order.due_at = None,
        }
    }

    /// Moves a paid order to the seller's next state. `Ok(false)`: it is in that state already.
    pub fn advance(&mut self, to: OrderState, now: Timestamp) -> Result<bool, Refusal> {
        let by_seller = matches!(to, OrderState::Preparing | OrderState::Shipping | OrderState::Delivered);
        if by_seller && self.order.state == to {
            return Ok(false);
        }
        if !by_seller || !self.order.state.may_become(to) {
            let detail = format!("An order that is {} cannot become {}.", self.order.state.as_str(), to.as_str());
            return Err(Refusal::new(Code::IllegalTransition, detail));
        }
        self.move_to(to, None, now);
        Ok(true)
    }

    /// Makes a delivered purchase final, so that it earns points. `Ok(false)`: it is confirmed already.
    pub fn confirm(&mut self, now: Timestamp) -> Result<bool, Refusal> {
        if self.order.state == OrderState::Confirmed {
            return Ok(false);
        }
        if !self.order.state.may_become(OrderState::Confirmed) {
            let detail = format!("An order that is {} cannot be confirmed.", self.order.state.as_str());
            return Err(Refusal::new(Code::IllegalTransition, detail));
        }
        self.move_to(OrderState::Confirmed, None, now);
        let (order_id, member_id, cash_paid) = (self.order.id, self.order.member_id, self.order.total);
        self.outgoing.push(Message::OrderConfirmed(OrderConfirmed { order_id, member_id, cash_paid }));
        Ok(true)
    }

    fn is_running_payment(&self, payment_id: PaymentId) -> bool {
        self.order.saga_state == SagaState::Running
            && self.current_step() == Some(SagaStep::Payment)
            && self.order.payment.as_ref().is_some_and(|payment| payment.id == payment_id)
    }

    /// Starts the step at `progress`.
    fn enter_step(&mut self, now: Timestamp) {
        let Some(step) = self.current_step() else { return };
        self.is_changed = true;
        self.order.updated_at = now;
        self.order.saga_state = SagaState::Running;
        self.order.due_at = Some(now.after(STEP_DEADLINE));
        match step {
            SagaStep::AwaitPayment => {
                self.order.saga_state = SagaState::Waiting;
                self.order.due_at = Some(self.order.expires_at);
                self.move_to(OrderState::AwaitingPayment, None, now);
            }
            SagaStep::StockTake => self.move_to(OrderState::Paying, None, now),
            SagaStep::Payment => {
                // No deadline: a silent provider is not a refusal, and the payments service finds out the outcome.
                self.order.due_at = None;
                if self.order.state != OrderState::Paying {
                    self.move_to(OrderState::Paying, None, now);
                }
            }
            _ => {}
        }
        // In a choreographed order the slip already contains the request.
        if !self.is_choreographed() {
            self.outgoing.extend(self.request_for(step).map(Message::from));
        }
    }

    fn begin_undo(&mut self, ending: OrderState, reason: Reason, from: Option<usize>, now: Timestamp) {
        self.order.ending = Some(ending);
        self.order.reason = Some(reason);
        self.undo_from(from, now);
    }

    /// Undoes the last step with an undo at or before `index`. Ends the order when there is none.
    fn undo_from(&mut self, index: Option<usize>, now: Timestamp) {
        self.is_changed = true;
        self.order.updated_at = now;
        let last = index.and_then(|index| (0..=index).rev().find(|at| self.order.itinerary[*at].has_undo()));
        match last {
            Some(at) => {
                self.order.progress = at;
                self.order.saga_state = SagaState::Undoing;
                self.send_undo_command(now, STEP_DEADLINE);
            }
            None => self.end(now),
        }
    }

    /// Requests the undo of the current step, and again after `interval` without an answer.
    fn send_undo_command(&mut self, now: Timestamp, interval: Duration) {
        self.is_changed = true;
        self.order.updated_at = now;
        self.order.due_at = Some(now.after(interval));
        if !self.is_choreographed() {
            self.outgoing.extend(self.current_step().and_then(|step| step.undo(self.order.id)));
        }
    }

    fn end(&mut self, now: Timestamp) {
        let ending = self.order.ending.unwrap_or(OrderState::Failed);
        self.order.saga_state = SagaState::Undone;
        self.order.due_at = None;
        let reason = self.order.reason.clone();
        let ended = OrderEnded {
            order_id: self.order.id,
            member_id: self.order.member_id,
            code: reason.as_ref().and_then(|reason| reason.code),
            detail: reason.as_ref().map(|reason| reason.detail.clone()).unwrap_or_default(),
        };
        self.outgoing.push(match ending {
            OrderState::Cancelled => Message::OrderCancelled(ended),
            OrderState::Expired => Message::OrderExpired(ended),
            _ => Message::OrderFailed(ended),
        });
        self.move_to(ending, reason, now);
    }

    fn move_to(&mut self, to: OrderState, reason: Option<Reason>, now: Timestamp) {
        let from = self.order.state;
        debug_assert!(from.may_become(to), "{from:?} -> {to:?}");
        self.order.state = to;
        self.record_event(Some(from), to, reason, now);
    }

    fn record_event(&mut self, from: Option<OrderState>, to: OrderState, reason: Option<Reason>, now: Timestamp) {
        self.is_changed = true;
        self.order.updated_at = now;
        self.order.events += 1;
        self.events.push(OrderEvent { n: self.order.events, from, to, reason, at: now });
    }

    fn record_step(&mut self, step: SagaStep, kind: StepKind, result: StepResult, reason: Option<Reason>, now: Timestamp) {
        self.is_changed = true;
        self.order.steps += 1;
        // A step starts when the previous one ends, which is the order's last change.
        let started_at = self.order.updated_at;
        self.order.updated_at = now;
        self.steps.push(StepRecord { n: self.order.steps, step, kind, result, reason, started_at, ended_at: now });
    }
}

#[cfg(test)]
mod tests;
