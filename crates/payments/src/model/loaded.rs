//! Payments, refunds and cancellations of the current transaction: loaded once, changed in memory, and written at its end.
//!
//! An order is paid at most once. A captured payment of an undone order is refunded. An unknown outcome never counts as a failure.
//! Each decision returns at most one next action. Provider calls happen after the commit (`jobs.rs`).

mod replies;

use super::payment::{Cancellation, Payment, PaymentState, ProviderStatus, Refund, RefundState, provider_key};
use contracts::{
    Code, Message, OrderId, PaymentId, Refusal, Timestamp, Won,
    messages::{Direction, PaymentMethod, PaymentRequest, RoutingSlip, SlipStep},
};
use kit::rows::{Rows, Tracked};
use replies::{reply_approved, reply_cancelled, reply_failed, transfer};
use std::{collections::HashMap, time::Duration};
use uuid::Uuid;

/// Settings that the rules depend on.
#[derive(Clone, Copy, Debug)]
pub struct PaymentRules {
    /// The method `test` is allowed.
    pub test_provider: bool,
    /// Time that the process calling the provider owns a payment. After it, any process may reconcile the payment.
    pub lease: Duration,
}

/// The action that follows from a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextAction {
    Nothing,
    /// Emit a message with the order's id as key.
    Emit(OrderId, Message),
    /// Charge at the provider, after the commit.
    Charge(PaymentId),
    /// Refund at the provider, after the commit.
    Refund(PaymentId),
}

/// A state that only a bug or corrupt data can cause. The transaction must roll back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentInvariantViolation(pub String);

/// A payment with its state in the database. A new payment has its first state here.
#[derive(Debug)]
pub struct LoadedPayment {
    pub payment: Payment,
    pub stored_state: PaymentState,
}

impl From<Payment> for LoadedPayment {
    fn from(payment: Payment) -> Self {
        Self { stored_state: payment.state, payment }
    }
}

/// Loaded rows by id; refunds by the id of their payment.
#[derive(Debug, Default)]
pub struct LoadedPayments {
    pub payments: Rows<PaymentId, LoadedPayment>,
    pub refunds: Rows<PaymentId, Refund>,
    pub cancellations: Rows<OrderId, Cancellation>,
    /// Payment of each order that is approved or has an unknown outcome. `None`: loaded, and the order has none.
    live: HashMap<OrderId, Option<PaymentId>>,
}

impl LoadedPayments {
    pub fn has_live(&self, order_id: OrderId) -> bool {
        self.live.contains_key(&order_id)
    }

    /// Adds the live payments found for these orders.
    pub fn load_live(&mut self, orders: Vec<OrderId>, found: Vec<Payment>) {
        for payment in found {
            self.live.entry(payment.order_id).or_insert(Some(payment.id));
            self.payments.add_stored(payment.id, payment.into());
        }
        for order_id in orders {
            self.live.entry(order_id).or_insert(None);
        }
    }

    pub fn payment(&self, id: PaymentId) -> Result<Option<&Payment>, PaymentInvariantViolation> {
        let loaded = self.payments.get_loaded(id, || PaymentInvariantViolation(format!("payment {id} was not loaded")))?;
        Ok(loaded.map(|loaded| &loaded.payment))
    }

    /// Handles a slip that calls payments, like the message for the same step or undo. The reply is the slip, passed on.
    pub fn advance_slip(
        &mut self,
        slip: &RoutingSlip,
        refund_id: Uuid,
        rules: &PaymentRules,
        now: Timestamp,
    ) -> Result<NextAction, PaymentInvariantViolation> {
        match slip.next_step("payments") {
            Some((Direction::Forward, SlipStep::Payment(request))) => self.start_payment(request, Some(slip), rules, now),
            Some((Direction::Back, _)) => self.undo_payment(slip.order_id, Some(slip), refund_id, rules, now),
            _ => Ok(NextAction::Nothing),
        }
    }

    /// Handles a request to pay an order (saga step).
    pub fn request(
        &mut self,
        request: &PaymentRequest,
        rules: &PaymentRules,
        now: Timestamp,
    ) -> Result<NextAction, PaymentInvariantViolation> {
        self.start_payment(request, None, rules, now)
    }

    fn start_payment(
        &mut self,
        request: &PaymentRequest,
        slip: Option<&RoutingSlip>,
        rules: &PaymentRules,
        now: Timestamp,
    ) -> Result<NextAction, PaymentInvariantViolation> {
        if let Some(payment) = self.payment(request.payment_id)? {
            return Ok(self.repeat_reply(payment, now));
        }
        let mut payment = Payment::intent(request, slip.cloned(), now);
        if let Some(refusal) = self.refusal_for(request, rules)? {
            payment.fail(refusal, now);
            let next = reply_failed(&payment, now);
            self.put_payment(payment);
            return Ok(next);
        }
        let next = match request.method {
            _ if request.amount == Won::ZERO => {
                payment.capture(None, now);
                reply_approved(&payment, now)
            }
            PaymentMethod::Test => {
                payment.provider_key = Some(provider_key(request.payment_id));
                payment.token.clone_from(&request.token);
                payment.begin_call(rules.lease, now);
                NextAction::Charge(request.payment_id)
            }
            PaymentMethod::Wallet | PaymentMethod::None => NextAction::Emit(request.order_id, Message::WalletDebit(transfer(&payment))),
        };
        self.put_payment(payment);
        Ok(next)
    }

    /// The reason to refuse a payment. `None`: it is allowed.
    fn refusal_for(&self, request: &PaymentRequest, rules: &PaymentRules) -> Result<Option<Refusal>, PaymentInvariantViolation> {
        if self.cancellation(request.order_id)?.is_some() {
            return Ok(Some(Refusal::new(Code::StepTimedOut, "The order was given up before it could be paid")));
        }
        if let Some(other) = self.live(request.order_id)? {
            return Ok(Some(if other.state == PaymentState::Approved { Code::AlreadyPaid } else { Code::PaymentInProgress }.into()));
        }
        if request.amount.is_negative() {
            return Ok(Some(Code::AmountOutOfRange.into()));
        }
        Ok(match request.method {
            PaymentMethod::None if request.amount > Won::ZERO => {
                Some(Refusal::new(Code::PaymentMethodNotAllowed, "There is something to pay; choose a payment method"))
            }
            PaymentMethod::Test if !rules.test_provider => {
                Some(Refusal::new(Code::PaymentMethodNotAllowed, "The test provider is not enabled here"))
            }
            PaymentMethod::None | PaymentMethod::Test | PaymentMethod::Wallet => None,
        })
    }

    /// The reply to a repeated request. Nothing while the outcome is unknown.
    fn repeat_reply(&self, payment: &Payment, now: Timestamp) -> NextAction {
        match payment.state {
            PaymentState::Intent | PaymentState::Unknown => NextAction::Nothing,
            PaymentState::Approved => reply_approved(payment, now),
            PaymentState::Failed => reply_failed(payment, now),
            PaymentState::Cancelled => {
                let refused = Payment { code: Some(Code::StepTimedOut), detail: None, ..payment.clone() };
                reply_failed(&refused, now)
            }
        }
    }

    /// Handles the undo of an order's payment (saga undo). A captured payment is refunded; an unknown outcome is awaited first.
    pub fn cancel(
        &mut self,
        order_id: OrderId,
        refund_id: Uuid,
        rules: &PaymentRules,
        now: Timestamp,
    ) -> Result<NextAction, PaymentInvariantViolation> {
        self.undo_payment(order_id, None, refund_id, rules, now)
    }

    fn undo_payment(
        &mut self,
        order_id: OrderId,
        slip: Option<&RoutingSlip>,
        refund_id: Uuid,
        rules: &PaymentRules,
        now: Timestamp,
    ) -> Result<NextAction, PaymentInvariantViolation> {
        if let Some(cancellation) = self.cancellation(order_id)? {
            // Only a completed undo is answered again. An open one passes its stored slip on when it completes.
            return Ok(if cancellation.is_done { reply_cancelled(order_id, slip, now) } else { NextAction::Nothing });
        }
        let live = self.live(order_id)?.cloned();
        self.put_cancellation(Cancellation { order_id, is_done: live.is_none(), created_at: now, updated_at: now, slip: slip.cloned() });
        match live {
            None => Ok(reply_cancelled(order_id, slip, now)),
            Some(payment) if payment.state == PaymentState::Approved => self.start_refund(payment, refund_id, rules, now),
            Some(_) => Ok(NextAction::Nothing),
        }
    }

    /// Applies the status of a payment at the wallet or the provider. Repeats, and statuses of settled payments, change nothing.
    pub fn settle(
        &mut self,
        id: PaymentId,
        status: &ProviderStatus,
        refund_id: Uuid,
        rules: &PaymentRules,
        now: Timestamp,
    ) -> Result<NextAction, PaymentInvariantViolation> {
        let mut payment = self.payment(id)?.cloned().ok_or_else(|| PaymentInvariantViolation(format!("payment {id} does not exist")))?;
        let is_unwanted = self.cancellation(payment.order_id)?.is_some_and(|cancellation| !cancellation.is_done);
        match (payment.state.is_open(), status) {
            (true, ProviderStatus::Charged { reference }) => {
                payment.capture(reference.clone(), now);
                if is_unwanted {
                    return self.start_refund(payment, refund_id, rules, now);
                }
                let next = reply_approved(&payment, now);
                self.put_payment(payment);
                Ok(next)
            }
            (true, ProviderStatus::Refused(refusal)) => self.end_uncaptured(payment, refusal.clone(), is_unwanted, now),
            (true, ProviderStatus::NeverCharged) if is_unwanted => {
                self.end_uncaptured(payment, Code::StepTimedOut.into(), is_unwanted, now)
            }
            (true, ProviderStatus::Unknown { called }) => {
                payment.mark_unknown(*called, now);
                self.put_payment(payment);
                Ok(NextAction::Nothing)
            }
            (true, ProviderStatus::CallingAgain) => {
                payment.begin_call(rules.lease, now);
                self.put_payment(payment);
                Ok(NextAction::Nothing)
            }
            // The provider charged after it had refused. The money is refunded.
            (false, ProviderStatus::Charged { reference }) if payment.state == PaymentState::Failed && payment.captured_at.is_none() => {
                payment.capture(reference.clone(), now);
                payment.move_to(PaymentState::Cancelled, now);
                self.start_refund(payment, refund_id, rules, now)
            }
            _ => Ok(NextAction::Nothing),
        }
    }

    /// Fails a payment. Completes the order's undo when one waits for it.
    fn end_uncaptured(
        &mut self,
        mut payment: Payment,
        refusal: Refusal,
        is_unwanted: bool,
        now: Timestamp,
    ) -> Result<NextAction, PaymentInvariantViolation> {
        payment.fail(refusal, now);
        let (order_id, failed) = (payment.order_id, reply_failed(&payment, now));
        self.put_payment(payment);
        if is_unwanted { self.complete_cancellation(order_id, now) } else { Ok(failed) }
    }

    /// Starts the refund of a captured payment. A payment of 0 needs none.
    fn start_refund(
        &mut self,
        mut payment: Payment,
        refund_id: Uuid,
        rules: &PaymentRules,
        now: Timestamp,
    ) -> Result<NextAction, PaymentInvariantViolation> {
        if payment.amount == Won::ZERO {
            payment.move_to(PaymentState::Cancelled, now);
            let order_id = payment.order_id;
            self.put_payment(payment);
            return self.complete_cancellation(order_id, now);
        }
        // The wallet answers by message. A provider must be asked until it confirms.
        let is_at_provider = payment.method == PaymentMethod::Test;
        let next_try_at = is_at_provider.then(|| now.after(rules.lease));
        let refund = Refund::pending(refund_id, &payment, next_try_at, now);
        let next = if is_at_provider {
            NextAction::Refund(payment.id)
        } else {
            NextAction::Emit(payment.order_id, Message::WalletCredit(transfer(&payment)))
        };
        self.refunds.put(payment.id, refund);
        self.put_payment(payment);
        Ok(next)
    }

    /// Completes a confirmed refund.
    pub fn complete_refund(
        &mut self,
        id: PaymentId,
        reference: Option<String>,
        now: Timestamp,
    ) -> Result<NextAction, PaymentInvariantViolation> {
        let Some(refund) = self.refund_mut(id)? else { return Ok(NextAction::Nothing) };
        if refund.state == RefundState::Done {
            return Ok(NextAction::Nothing);
        }
        refund.complete(reference, now);
        let mut payment =
            self.payment(id)?.cloned().ok_or_else(|| PaymentInvariantViolation(format!("refunded payment {id} does not exist")))?;
        payment.move_to(PaymentState::Cancelled, now);
        let order_id = payment.order_id;
        self.put_payment(payment);
        self.complete_cancellation(order_id, now)
    }

    /// Schedules a retry, with the same key, of a refund that the provider did not confirm.
    pub fn retry_refund_later(&mut self, id: PaymentId, now: Timestamp) -> Result<(), PaymentInvariantViolation> {
        if let Some(refund) = self.refund_mut(id)?
            && refund.state == RefundState::Pending
        {
            refund.schedule_retry(now);
        }
        Ok(())
    }

    fn refund_mut(&mut self, id: PaymentId) -> Result<Option<&mut Tracked<Refund>>, PaymentInvariantViolation> {
        self.refunds.get_loaded(id, || PaymentInvariantViolation(format!("the refund of {id} was not loaded")))?;
        Ok(self.refunds.get_mut(id))
    }

    fn cancellation(&self, order_id: OrderId) -> Result<Option<&Cancellation>, PaymentInvariantViolation> {
        self.cancellations.get_loaded(order_id, || PaymentInvariantViolation(format!("the cancellation of {order_id} was not loaded")))
    }

    fn live(&self, order_id: OrderId) -> Result<Option<&Payment>, PaymentInvariantViolation> {
        let id = self.live.get(&order_id).ok_or_else(|| PaymentInvariantViolation(format!("the payment of {order_id} was not loaded")))?;
        match id {
            Some(id) => self.payment(*id),
            None => Ok(None),
        }
    }

    fn put_payment(&mut self, payment: Payment) {
        if payment.state.is_live() {
            self.live.insert(payment.order_id, Some(payment.id));
        } else if self.live.get(&payment.order_id) == Some(&Some(payment.id)) {
            self.live.insert(payment.order_id, None);
        }
        match self.payments.get_mut(payment.id) {
            Some(loaded) => loaded.payment = payment,
            None => self.payments.put(payment.id, payment.into()),
        }
    }

    fn put_cancellation(&mut self, cancellation: Cancellation) {
        self.cancellations.put(cancellation.order_id, cancellation);
    }

    /// Completes the order's undo and replies, if one is open and no payment of the order is live.
    fn complete_cancellation(&mut self, order_id: OrderId, now: Timestamp) -> Result<NextAction, PaymentInvariantViolation> {
        let has_live = self.live(order_id)?.is_some();
        match self.cancellation(order_id)?.cloned() {
            Some(cancellation) if !cancellation.is_done && !has_live => {
                let next = reply_cancelled(order_id, cancellation.slip.as_ref(), now);
                self.put_cancellation(Cancellation { is_done: true, updated_at: now, ..cancellation });
                Ok(next)
            }
            _ => Ok(NextAction::Nothing),
        }
    }
}

#[cfg(test)]
mod tests;
