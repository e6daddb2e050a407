//! The payments of one database transaction: what was loaded, what is decided, and what has to be written at its end.
//!
//! An order is paid once, a captured payment of an undone order is given back, and what is not known is never taken for a failure.
//! Every decision comes to at most one next step; calls to the outside are made by others, after the commit.

mod told;

use super::payment::{Cancellation, Payment, Refund, RefundState, Says, State, provider_key};
use contracts::{
    Code, Message, OrderId, PaymentId, Refusal, Timestamp, Won,
    messages::{PaymentMethod, PaymentRequest, RoutingSlip, Stop, Way},
};
use std::{collections::HashMap, time::Duration};
use told::{tell_approved, tell_cancelled, tell_failed, transfer};
use uuid::Uuid;

/// What payments depend on besides themselves.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Whether method `test` may be used.
    pub test_provider: bool,
    /// How long an intent belongs to whoever calls the provider, before anyone else may look into it.
    pub lease: Duration,
}

/// What follows from a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Nothing,
    /// Under the order's key.
    Tell(OrderId, Message),
    /// Ask the provider for the money, once this is durable.
    Charge(PaymentId),
    /// Give the money back at the provider, once this is durable.
    Refund(PaymentId),
}

/// Something that cannot be, unless code or data are broken: the transaction must not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

struct Loaded<T> {
    row: T,
    stored: bool,
    changed: bool,
}

struct LoadedPayment {
    row: Payment,
    /// The state in the database, if it is there.
    was: Option<State>,
    changed: bool,
}

/// Rows to write, each once. Changed payments come with the state they were read in.
#[derive(Default)]
pub struct Changes {
    pub new_payments: Vec<Payment>,
    pub changed_payments: Vec<(State, Payment)>,
    pub new_refunds: Vec<Refund>,
    pub changed_refunds: Vec<Refund>,
    pub new_cancellations: Vec<Cancellation>,
    pub changed_cancellations: Vec<Cancellation>,
}

/// `None` stands for "looked for, and there is none". Refunds are known by their payment.
#[derive(Default)]
pub struct Book {
    payments: HashMap<PaymentId, Option<LoadedPayment>>,
    live: HashMap<OrderId, Option<PaymentId>>,
    refunds: HashMap<PaymentId, Option<Loaded<Refund>>>,
    cancellations: HashMap<OrderId, Option<Loaded<Cancellation>>>,
}

impl Book {
    pub fn has_payment(&self, id: PaymentId) -> bool {
        self.payments.contains_key(&id)
    }
    pub fn has_live(&self, order_id: OrderId) -> bool {
        self.live.contains_key(&order_id)
    }
    pub fn has_refund(&self, id: PaymentId) -> bool {
        self.refunds.contains_key(&id)
    }
    pub fn has_cancellation(&self, order_id: OrderId) -> bool {
        self.cancellations.contains_key(&order_id)
    }

    pub fn load_payment(&mut self, id: PaymentId, row: Option<Payment>) {
        let loaded = row.map(|row| LoadedPayment { was: Some(row.state), row, changed: false });
        self.payments.entry(id).or_insert(loaded);
    }
    pub fn load_live(&mut self, order_id: OrderId, row: Option<Payment>) {
        let id = row.as_ref().map(|payment| payment.id);
        self.live.entry(order_id).or_insert(id);
        if let Some(payment) = row {
            self.load_payment(payment.id, Some(payment));
        }
    }
    pub fn load_refund(&mut self, id: PaymentId, row: Option<Refund>) {
        self.refunds.entry(id).or_insert(row.map(|row| Loaded { row, stored: true, changed: false }));
    }
    pub fn load_cancellation(&mut self, order_id: OrderId, row: Option<Cancellation>) {
        self.cancellations.entry(order_id).or_insert(row.map(|row| Loaded { row, stored: true, changed: false }));
    }

    pub fn payment(&self, id: PaymentId) -> Result<Option<&Payment>, Broken> {
        let slot = self.payments.get(&id).ok_or_else(|| Broken(format!("payment {id} was not loaded")))?;
        Ok(slot.as_ref().map(|loaded| &loaded.row))
    }

    /// What has to be written, in the order of the keys: neighbours share pages.
    pub fn into_changes(self) -> Changes {
        let mut changes = Changes::default();
        for loaded in self.payments.into_values().flatten().filter(|loaded| loaded.changed) {
            match loaded.was {
                Some(was) => changes.changed_payments.push((was, loaded.row)),
                None => changes.new_payments.push(loaded.row),
            }
        }
        for loaded in self.refunds.into_values().flatten().filter(|loaded| loaded.changed) {
            if loaded.stored { &mut changes.changed_refunds } else { &mut changes.new_refunds }.push(loaded.row);
        }
        for loaded in self.cancellations.into_values().flatten().filter(|loaded| loaded.changed) {
            if loaded.stored { &mut changes.changed_cancellations } else { &mut changes.new_cancellations }.push(loaded.row);
        }
        changes.new_payments.sort_unstable_by_key(|payment| payment.id);
        changes.changed_payments.sort_unstable_by_key(|(_, payment)| payment.id);
        changes.new_refunds.sort_unstable_by_key(|refund| refund.id);
        changes.new_cancellations.sort_unstable_by_key(|cancellation| cancellation.order_id);
        changes
    }

    /// A slip that calls for payments: the same step, or the same undo, whose answer is the slip passed on.
    pub fn travel(&mut self, slip: &RoutingSlip, refund_id: Uuid, rules: &Rules, now: Timestamp) -> Result<Next, Broken> {
        match slip.call("payments") {
            Some((Way::Forward, Stop::Payment(ask))) => self.pay(ask, Some(slip), rules, now),
            Some((Way::Back, _)) => self.give_up(slip.order_id, Some(slip), refund_id, rules, now),
            _ => Ok(Next::Nothing),
        }
    }

    /// Saga step: an order is to be paid.
    pub fn request(&mut self, ask: &PaymentRequest, rules: &Rules, now: Timestamp) -> Result<Next, Broken> {
        self.pay(ask, None, rules, now)
    }

    fn pay(&mut self, ask: &PaymentRequest, slip: Option<&RoutingSlip>, rules: &Rules, now: Timestamp) -> Result<Next, Broken> {
        if let Some(payment) = self.payment(ask.payment_id)? {
            return Ok(self.answer_again(payment, now));
        }
        let mut payment = Payment::intent(ask, slip.cloned(), now);
        if let Some(refusal) = self.reason_against(ask, rules)? {
            payment.fail(refusal, now);
            let next = tell_failed(&payment, now);
            self.put(payment);
            return Ok(next);
        }
        let next = match ask.method {
            _ if ask.amount == Won::ZERO => {
                payment.capture(None, now);
                tell_approved(&payment, now)
            }
            PaymentMethod::Test => {
                payment.provider_key = Some(provider_key(ask.payment_id));
                payment.token.clone_from(&ask.token);
                payment.lease(rules.lease, now);
                Next::Charge(ask.payment_id)
            }
            PaymentMethod::Wallet | PaymentMethod::None => Next::Tell(ask.order_id, Message::WalletDebit(transfer(&payment))),
        };
        self.put(payment);
        Ok(next)
    }

    /// Why this payment may not be.
    fn reason_against(&self, ask: &PaymentRequest, rules: &Rules) -> Result<Option<Refusal>, Broken> {
        if self.cancellation(ask.order_id)?.is_some() {
            return Ok(Some(Refusal::new(Code::StepTimedOut, "The order was given up before it could be paid")));
        }
        if let Some(other) = self.live(ask.order_id)? {
            return Ok(Some(if other.state == State::Approved { Code::AlreadyPaid } else { Code::PaymentInProgress }.into()));
        }
        if ask.amount.is_negative() {
            return Ok(Some(Code::AmountOutOfRange.into()));
        }
        Ok(match ask.method {
            PaymentMethod::None if ask.amount > Won::ZERO => {
                Some(Refusal::new(Code::PaymentMethodNotAllowed, "There is something to pay; choose a payment method"))
            }
            PaymentMethod::Test if !rules.test_provider => {
                Some(Refusal::new(Code::PaymentMethodNotAllowed, "The test provider is not enabled here"))
            }
            PaymentMethod::None | PaymentMethod::Test | PaymentMethod::Wallet => None,
        })
    }

    /// What a repeated request is told.
    fn answer_again(&self, payment: &Payment, now: Timestamp) -> Next {
        match payment.state {
            State::Intent | State::Unknown => Next::Nothing,
            State::Approved => tell_approved(payment, now),
            State::Failed => tell_failed(payment, now),
            State::Cancelled => {
                let refused = Payment { code: Some(Code::StepTimedOut), detail: None, ..payment.clone() };
                tell_failed(&refused, now)
            }
        }
    }

    /// Saga undo: nothing captured for the order is kept. What is not known yet is found out first.
    pub fn cancel(&mut self, order_id: OrderId, refund_id: Uuid, rules: &Rules, now: Timestamp) -> Result<Next, Broken> {
        self.give_up(order_id, None, refund_id, rules, now)
    }

    fn give_up(
        &mut self,
        order_id: OrderId,
        slip: Option<&RoutingSlip>,
        refund_id: Uuid,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<Next, Broken> {
        if let Some(cancellation) = self.cancellation(order_id)? {
            // The slip that is kept goes on when it is done; a repeat goes on at once when that was before.
            return Ok(if cancellation.done { tell_cancelled(order_id, slip, now) } else { Next::Nothing });
        }
        let live = self.live(order_id)?.cloned();
        self.put_cancellation(Cancellation { order_id, done: live.is_none(), created_at: now, updated_at: now, slip: slip.cloned() });
        match live {
            None => Ok(tell_cancelled(order_id, slip, now)),
            Some(payment) if payment.state == State::Approved => self.give_back(payment, refund_id, rules, now),
            Some(_) => Ok(Next::Nothing),
        }
    }

    /// Someone outside said what became of a payment. Whatever is said twice, or after the payment is settled, changes nothing.
    pub fn settle(&mut self, id: PaymentId, says: &Says, refund_id: Uuid, rules: &Rules, now: Timestamp) -> Result<Next, Broken> {
        let mut payment = self.payment(id)?.cloned().ok_or_else(|| Broken(format!("payment {id} does not exist")))?;
        let unwanted = self.cancellation(payment.order_id)?.is_some_and(|cancellation| !cancellation.done);
        match (payment.state.is_open(), says) {
            (true, Says::Charged { reference }) => {
                payment.capture(reference.clone(), now);
                if unwanted {
                    return self.give_back(payment, refund_id, rules, now);
                }
                let next = tell_approved(&payment, now);
                self.put(payment);
                Ok(next)
            }
            (true, Says::Refused(refusal)) => self.not_captured(payment, refusal.clone(), unwanted, now),
            (true, Says::NeverCharged) if unwanted => self.not_captured(payment, Code::StepTimedOut.into(), unwanted, now),
            (true, Says::Unknown { called }) => {
                payment.doubt(*called, now);
                self.put(payment);
                Ok(Next::Nothing)
            }
            (true, Says::CallingAgain) => {
                payment.lease(rules.lease, now);
                self.put(payment);
                Ok(Next::Nothing)
            }
            // Money came although we were told it would not: it goes back.
            (false, Says::Charged { reference }) if payment.state == State::Failed && payment.captured_at.is_none() => {
                payment.capture(reference.clone(), now);
                payment.become_state(State::Cancelled, now);
                self.give_back(payment, refund_id, rules, now)
            }
            _ => Ok(Next::Nothing),
        }
    }

    fn not_captured(&mut self, mut payment: Payment, refusal: Refusal, unwanted: bool, now: Timestamp) -> Result<Next, Broken> {
        payment.fail(refusal, now);
        let (order_id, failed) = (payment.order_id, tell_failed(&payment, now));
        self.put(payment);
        if unwanted { self.end_cancellation(order_id, now) } else { Ok(failed) }
    }

    /// Starts the way back of a captured payment.
    fn give_back(&mut self, mut payment: Payment, refund_id: Uuid, rules: &Rules, now: Timestamp) -> Result<Next, Broken> {
        if payment.amount == Won::ZERO {
            payment.become_state(State::Cancelled, now);
            let order_id = payment.order_id;
            self.put(payment);
            return self.end_cancellation(order_id, now);
        }
        // The wallet's answer comes by itself, a provider has to be asked until it agrees.
        let at_provider = payment.method == PaymentMethod::Test;
        let next_try_at = at_provider.then(|| now.after(rules.lease));
        let refund = Refund::pending(refund_id, &payment, next_try_at, now);
        let next =
            if at_provider { Next::Refund(payment.id) } else { Next::Tell(payment.order_id, Message::WalletCredit(transfer(&payment))) };
        self.refunds.insert(payment.id, Some(Loaded { row: refund, stored: false, changed: true }));
        self.put(payment);
        Ok(next)
    }

    /// A refund arrived.
    pub fn refunded(&mut self, id: PaymentId, reference: Option<String>, now: Timestamp) -> Result<Next, Broken> {
        let Some(refund) = self.refund_mut(id)? else { return Ok(Next::Nothing) };
        if refund.row.state == RefundState::Done {
            return Ok(Next::Nothing);
        }
        refund.row.done(reference, now);
        refund.changed = true;
        let mut payment = self.payment(id)?.cloned().ok_or_else(|| Broken(format!("refunded payment {id} does not exist")))?;
        payment.become_state(State::Cancelled, now);
        let order_id = payment.order_id;
        self.put(payment);
        self.end_cancellation(order_id, now)
    }

    /// The provider did not confirm a refund; it is asked again, under the same key.
    pub fn refund_unknown(&mut self, id: PaymentId, now: Timestamp) -> Result<(), Broken> {
        if let Some(refund) = self.refund_mut(id)?
            && refund.row.state == RefundState::Pending
        {
            refund.row.doubt(now);
            refund.changed = true;
        }
        Ok(())
    }

    fn refund_mut(&mut self, id: PaymentId) -> Result<Option<&mut Loaded<Refund>>, Broken> {
        self.refunds.get_mut(&id).map(Option::as_mut).ok_or_else(|| Broken(format!("the refund of {id} was not loaded")))
    }

    fn cancellation(&self, order_id: OrderId) -> Result<Option<&Cancellation>, Broken> {
        let slot = self.cancellations.get(&order_id).ok_or_else(|| Broken(format!("the cancellation of {order_id} was not loaded")))?;
        Ok(slot.as_ref().map(|loaded| &loaded.row))
    }

    fn live(&self, order_id: OrderId) -> Result<Option<&Payment>, Broken> {
        let id = self.live.get(&order_id).ok_or_else(|| Broken(format!("the payment of {order_id} was not loaded")))?;
        match id {
            Some(id) => self.payment(*id),
            None => Ok(None),
        }
    }

    fn put(&mut self, row: Payment) {
        if row.state.is_live() {
            self.live.insert(row.order_id, Some(row.id));
        } else if self.live.get(&row.order_id) == Some(&Some(row.id)) {
            self.live.insert(row.order_id, None);
        }
        let slot = self.payments.entry(row.id).or_insert(None);
        let was = slot.as_ref().and_then(|loaded| loaded.was);
        *slot = Some(LoadedPayment { row, was, changed: true });
    }

    fn put_cancellation(&mut self, row: Cancellation) {
        let slot = self.cancellations.entry(row.order_id).or_insert(None);
        let stored = slot.as_ref().is_some_and(|loaded| loaded.stored);
        *slot = Some(Loaded { row, stored, changed: true });
    }

    /// Tells the order that nothing is kept, if it asked and nothing else of it is open.
    fn end_cancellation(&mut self, order_id: OrderId, now: Timestamp) -> Result<Next, Broken> {
        let open = self.live(order_id)?.is_some();
        match self.cancellation(order_id)?.cloned() {
            Some(cancellation) if !cancellation.done && !open => {
                let next = tell_cancelled(order_id, cancellation.slip.as_ref(), now);
                self.put_cancellation(Cancellation { done: true, updated_at: now, ..cancellation });
                Ok(next)
            }
            _ => Ok(Next::Nothing),
        }
    }
}

#[cfg(test)]
mod tests;
