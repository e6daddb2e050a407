//! One order in the course of its checkout: every rule of the saga, as changes of this value.
//!
//! A method changes the order, notes what is to be stored (`events`, `steps`) and said (`outgoing`); the caller does both in one
//! transaction. Answers that do not belong to the step that runs are ignored: they are late, or repeats.
//!
//! The rules are the same for both kinds of saga. What an orchestrated one says to each participant, a choreographed one leaves to its
//! slips: see `choreography.rs`.

use super::{AppliedCoupon, Event, Line, Order, Payment, Reason, SagaState, State, Step, StepKind, StepRecord, StepResult};
use contracts::{
    Code, Message, PaymentId, Refusal, Timestamp,
    messages::{OrderConfirmed, OrderEnded, StepCommand},
};
use std::time::Duration;

/// A participant that has not answered by then is taken to have failed, and is undone. In one process answers come in milliseconds.
pub const STEP_DEADLINE: Duration = Duration::from_secs(30);
/// An order with what belongs to it, and what changed.
#[derive(Clone, Debug)]
pub struct Checkout {
    pub order: Order,
    pub lines: Vec<Line>,
    pub coupons: Vec<AppliedCoupon>,
    /// Not stored yet.
    pub events: Vec<Event>,
    /// Not stored yet.
    pub steps: Vec<StepRecord>,
    /// Not emitted yet.
    pub outgoing: Vec<Message>,
    /// Not in the database yet.
    pub is_new: bool,
    pub is_changed: bool,
}

impl Checkout {
    /// A new order, with its first step asked for.
    pub fn place(order: Order, lines: Vec<Line>, coupons: Vec<AppliedCoupon>, now: Timestamp) -> Checkout {
        let mut checkout =
            Checkout { order, lines, coupons, events: Vec::new(), steps: Vec::new(), outgoing: Vec::new(), is_new: true, is_changed: true };
        checkout.note_event(None, State::Pending, None, now);
        checkout.enter_step(now);
        checkout.send_forward();
        checkout
    }

    /// Nothing will happen by itself before the buyer, the seller or the clock acts.
    pub fn is_at_rest(&self) -> bool {
        !matches!(self.order.saga_state, SagaState::Running | SagaState::Undoing)
    }

    pub fn current_step(&self) -> Option<Step> {
        self.order.itinerary.get(self.order.progress).copied()
    }

    /// A participant did what the running step asked for.
    pub fn step_done(&mut self, step: Step, now: Timestamp) {
        if self.order.saga_state != SagaState::Running || self.current_step() != Some(step) {
            return;
        }
        self.note_step(step, StepKind::Do, StepResult::Ok, None, now);
        self.order.progress += 1;
        self.enter_step(now);
    }

    /// A participant refused the running step: what was done before it is undone.
    pub fn step_refused(&mut self, step: Step, reason: Reason, now: Timestamp) {
        if self.order.saga_state != SagaState::Running || self.current_step() != Some(step) {
            return;
        }
        self.note_step(step, StepKind::Do, StepResult::Refused, Some(reason.clone()), now);
        self.begin_undo(State::Failed, reason, self.order.progress.checked_sub(1), now);
    }

    /// A participant undid its part.
    pub fn step_undone(&mut self, step: Step, now: Timestamp) {
        if self.order.saga_state != SagaState::Undoing || self.current_step() != Some(step) {
            return;
        }
        self.note_step(step, StepKind::Undo, StepResult::Ok, None, now);
        if step == Step::StockReserve && self.order.itinerary.contains(&Step::StockTake) {
            // One release gives back both parts.
            self.note_step(Step::StockTake, StepKind::Undo, StepResult::Ok, None, now);
        }
        self.undo_from(self.order.progress.checked_sub(1), now);
    }

    /// The buyer pays.
    pub fn pay(&mut self, payment: Payment, now: Timestamp) -> Result<(), Refusal> {
        match (self.order.state, self.order.saga_state) {
            (State::AwaitingPayment, SagaState::Waiting) if now >= self.order.expires_at => Err(Code::OrderExpired.into()),
            (State::AwaitingPayment, SagaState::Waiting) => {
                self.order.payment = Some(payment);
                self.order.reason = None;
                if self.current_step() == Some(Step::AwaitPayment) {
                    self.order.progress += 1;
                }
                self.enter_step(now);
                self.send_forward();
                Ok(())
            }
            (State::AwaitingPayment | State::Expired, _) => Err(Code::OrderExpired.into()),
            (State::Paying, _) => Err(Code::PaymentInProgress.into()),
            (State::Paid | State::Preparing | State::Shipping | State::Delivered | State::Confirmed, _) => Err(Code::AlreadyPaid.into()),
            (state, _) => Err(Refusal::new(Code::IllegalTransition, format!("An order that is {} cannot be paid.", state.as_str()))),
        }
    }

    /// The payment was captured: the order is a sale. What is held becomes final by messages that cannot be refused.
    pub fn payment_approved(&mut self, payment_id: PaymentId, now: Timestamp) {
        if !self.is_running_payment(payment_id) {
            return;
        }
        self.note_step(Step::Payment, StepKind::Do, StepResult::Ok, None, now);
        self.order.progress += 1;
        self.order.saga_state = SagaState::Done;
        self.order.due_at = None;
        self.order.paid_at = Some(now);
        self.order.reason = None;
        self.move_to(State::Paid, None, now);
        let command = StepCommand { order_id: self.order.id };
        self.outgoing.push(Message::StockCommit(command));
        if self.order.itinerary.contains(&Step::CouponHold) {
            self.outgoing.push(Message::CouponUse(command));
        }
        if self.order.itinerary.contains(&Step::PointsHold) {
            self.outgoing.push(Message::PointsUse(command));
        }
        self.outgoing.push(Message::OrderPaid(self.paid_message()));
    }

    /// The payment was refused. Paid in one call: the order is undone. Otherwise the buyer may try again until the order expires.
    pub fn payment_failed(&mut self, payment_id: PaymentId, reason: Reason, now: Timestamp) {
        if !self.is_running_payment(payment_id) {
            return;
        }
        if self.order.paid_inline {
            self.step_refused(Step::Payment, reason, now);
            return;
        }
        self.note_step(Step::Payment, StepKind::Do, StepResult::Refused, Some(reason.clone()), now);
        self.order.saga_state = SagaState::Waiting;
        self.order.due_at = Some(self.order.expires_at);
        self.order.reason = Some(reason.clone());
        self.move_to(State::AwaitingPayment, Some(reason), now);
    }

    /// The buyer, the seller or an operator cancels. `Ok(false)`: it is cancelled, or being cancelled, already.
    pub fn cancel(&mut self, reason: &str, now: Timestamp) -> Result<bool, Refusal> {
        match (self.order.state, self.order.saga_state) {
            (State::Cancelled | State::Cancelling, _) => Ok(false),
            (State::Pending | State::AwaitingPayment | State::Paid | State::Preparing, state) if state != SagaState::Undoing => {
                // The step that runs may or may not have happened: undo it too.
                let from = self.reach();
                let reason = Reason { code: None, detail: reason.to_owned() };
                self.move_to(State::Cancelling, Some(reason.clone()), now);
                self.begin_undo(State::Cancelled, reason, Some(from), now);
                self.send_back();
                Ok(true)
            }
            (State::Paying, _) => Err(Code::PaymentInProgress.into()),
            (state, _) => Err(Refusal::new(Code::IllegalTransition, format!("An order that is {} cannot be cancelled.", state.as_str()))),
        }
    }

    /// The clock looks at an order that is due: unpaid too long, or a participant that does not answer.
    pub fn fall_due(&mut self, now: Timestamp) {
        if self.order.due_at.is_none_or(|due| due > now) {
            return;
        }
        match self.order.saga_state {
            SagaState::Waiting => {
                let reason = Refusal::from(Code::OrderExpired).into();
                self.begin_undo(State::Expired, reason, self.order.progress.checked_sub(1), now);
                self.send_back();
            }
            SagaState::Running => {
                let Some(step) = self.current_step() else { return };
                let reason: Reason = Refusal::new(Code::StepTimedOut, format!("{} did not answer in time.", step.as_str())).into();
                self.note_step(step, StepKind::Do, StepResult::TimedOut, Some(reason.clone()), now);
                // It may have happened all the same: its undo goes first, and refuses the step should it come late.
                self.begin_undo(State::Failed, reason, Some(self.reach()), now);
                self.send_back();
            }
            SagaState::Undoing => {
                self.send_undo(now);
                self.send_back_again();
            }
            SagaState::Done | SagaState::Undone => self.order.due_at = None,
        }
    }

    /// The seller moves a paid order on.
    pub fn advance(&mut self, to: State, now: Timestamp) -> Result<bool, Refusal> {
        if self.order.state == to {
            return Ok(false);
        }
        let by_seller = matches!(to, State::Preparing | State::Shipping | State::Delivered);
        if !by_seller || !self.order.state.may_become(to) {
            let detail = format!("An order that is {} cannot become {}.", self.order.state.as_str(), to.as_str());
            return Err(Refusal::new(Code::IllegalTransition, detail));
        }
        self.move_to(to, None, now);
        Ok(true)
    }

    /// The purchase is final; from here it earns points.
    pub fn confirm(&mut self, now: Timestamp) -> Result<bool, Refusal> {
        if self.order.state == State::Confirmed {
            return Ok(false);
        }
        if !self.order.state.may_become(State::Confirmed) {
            let detail = format!("An order that is {} cannot be confirmed.", self.order.state.as_str());
            return Err(Refusal::new(Code::IllegalTransition, detail));
        }
        self.move_to(State::Confirmed, None, now);
        let (order_id, member_id, cash_paid) = (self.order.id, self.order.member_id, self.order.total);
        self.outgoing.push(Message::OrderConfirmed(OrderConfirmed { order_id, member_id, cash_paid }));
        Ok(true)
    }

    fn is_running_payment(&self, payment_id: PaymentId) -> bool {
        self.order.saga_state == SagaState::Running
            && self.current_step() == Some(Step::Payment)
            && self.order.payment.as_ref().is_some_and(|payment| payment.id == payment_id)
    }

    /// Asks for the step at `progress`.
    fn enter_step(&mut self, now: Timestamp) {
        let Some(step) = self.current_step() else { return };
        self.is_changed = true;
        self.order.updated_at = now;
        self.order.saga_state = SagaState::Running;
        self.order.due_at = Some(now.after(STEP_DEADLINE));
        match step {
            Step::AwaitPayment => {
                self.order.saga_state = SagaState::Waiting;
                self.order.due_at = Some(self.order.expires_at);
                self.move_to(State::AwaitingPayment, None, now);
            }
            Step::StockTake => {
                self.move_to(State::Paying, None, now);
                self.ask(step);
            }
            Step::Payment => {
                // A provider's silence is not a refusal: there is no deadline here, payments finds out.
                self.order.due_at = None;
                if self.order.state != State::Paying {
                    self.move_to(State::Paying, None, now);
                }
                self.ask(step);
            }
            Step::StockReserve | Step::CouponHold | Step::PointsHold => self.ask(step),
        }
    }

    /// An orchestrated step is asked for by a message of its own; a choreographed one by the slip that is on its way.
    fn ask(&mut self, step: Step) {
        if !self.is_choreographed() {
            self.outgoing.push(self.stop(step).into());
        }
    }

    fn begin_undo(&mut self, ending: State, reason: Reason, from: Option<usize>, now: Timestamp) {
        self.order.ending = Some(ending);
        self.order.reason = Some(reason);
        self.undo_from(from, now);
    }

    /// Undoes the last step at or before `index`; with none left, the order ends.
    fn undo_from(&mut self, index: Option<usize>, now: Timestamp) {
        self.is_changed = true;
        self.order.updated_at = now;
        let last = index.and_then(|index| (0..=index).rev().find(|at| self.order.itinerary[*at].has_undo()));
        match last {
            Some(at) => {
                self.order.progress = at;
                self.order.saga_state = SagaState::Undoing;
                self.send_undo(now);
            }
            None => self.end(now),
        }
    }

    fn send_undo(&mut self, now: Timestamp) {
        self.is_changed = true;
        self.order.updated_at = now;
        self.order.due_at = Some(now.after(STEP_DEADLINE));
        if self.is_choreographed() {
            return;
        }
        let command = StepCommand { order_id: self.order.id };
        let undo = match self.current_step() {
            Some(Step::StockReserve) => Message::StockRelease(command),
            Some(Step::CouponHold) => Message::CouponUnhold(command),
            Some(Step::PointsHold) => Message::PointsUnhold(command),
            Some(Step::Payment) => Message::PaymentCancel(command),
            Some(Step::AwaitPayment | Step::StockTake) | None => return,
        };
        self.outgoing.push(undo);
    }

    fn end(&mut self, now: Timestamp) {
        let ending = self.order.ending.unwrap_or(State::Failed);
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
            State::Cancelled => Message::OrderCancelled(ended),
            State::Expired => Message::OrderExpired(ended),
            _ => Message::OrderFailed(ended),
        });
        self.move_to(ending, reason, now);
    }

    fn move_to(&mut self, to: State, reason: Option<Reason>, now: Timestamp) {
        let from = self.order.state;
        debug_assert!(from.may_become(to), "{from:?} -> {to:?}");
        self.order.state = to;
        self.note_event(Some(from), to, reason, now);
    }

    fn note_event(&mut self, from: Option<State>, to: State, reason: Option<Reason>, now: Timestamp) {
        self.is_changed = true;
        self.order.updated_at = now;
        self.order.events += 1;
        self.events.push(Event { n: self.order.events, from, to, reason, at: now });
    }

    fn note_step(&mut self, step: Step, kind: StepKind, result: StepResult, reason: Option<Reason>, now: Timestamp) {
        self.is_changed = true;
        self.order.steps += 1;
        // A step starts when the one before it ended: that is when the order was last touched.
        let started_at = self.order.updated_at;
        self.order.updated_at = now;
        self.steps.push(StepRecord { n: self.order.steps, step, kind, result, reason, started_at, ended_at: now });
    }
}

#[cfg(test)]
mod tests;
