//! What payments does outside any transaction: calling the provider after a commit, and asking it about everything that is open.
//!
//! A crash at any point here loses nothing: the intent is written before the call, and `payments.reconcile` asks the provider by key before
//! it does anything else. A time-out is never read as a failure.

use crate::{
    Payments,
    api::{
        settle::{OUTDATED, Settle},
        settle_refund::SettleRefund,
    },
    model::{Payment, Refund, Says, provider_key, refund_key},
    providers::{Charge, ChargeAnswer, GiveBack, Provider, ProviderError},
    store,
};
use contracts::{Code, PaymentId, Refusal};
use kit::{DbError, Reply, jobs::Pass, ports::new_id, tasks, testing::crash_point};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::{Semaphore, mpsc::Receiver};
use uuid::Uuid;

/// Calls in flight at once; more wait.
const CALLS: usize = 32;
/// Payments, and refunds, looked into by one pass.
const PER_PASS: u32 = 50;

/// What is to be asked of the provider, once it is durable.
#[derive(Clone, Copy, Debug)]
pub enum Errand {
    Charge(PaymentId),
    Refund(PaymentId),
}

/// Payments that a task of this process is asking the provider about, so that two of its tasks never do so at once. Tasks of other processes
/// may: the provider's keys make a call that is repeated harmless, and [`Settle`] takes no conclusion from a silence that was broken since.
#[derive(Default)]
pub struct InFlight(Mutex<HashSet<Uuid>>);

pub struct Flight<'a> {
    of: &'a InFlight,
    id: Uuid,
}

impl InFlight {
    fn board(&self, id: Uuid) -> Option<Flight<'_>> {
        let fresh = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        fresh.then_some(Flight { of: self, id })
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.of.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// Runs errands as they come, until the service is gone.
pub async fn work(payments: Weak<Payments>, mut errands: Receiver<Errand>) {
    let calls = Arc::new(Semaphore::new(CALLS));
    while let Some(errand) = errands.recv().await {
        let Ok(permit) = Arc::clone(&calls).acquire_owned().await else { return };
        let Some(payments) = payments.upgrade() else { return };
        tasks::spawn("payments.errand", async move {
            let done = match errand {
                Errand::Charge(id) => payments.charge_fresh(id).await,
                Errand::Refund(id) => payments.refund_fresh(id).await,
            };
            if let Err(error) = done {
                tracing::warn!(%error, ?errand, "left to the reconciling job");
            }
            drop(permit);
        });
    }
}

impl Payments {
    /// One pass of `payments.reconcile`.
    pub async fn reconcile(self: Arc<Self>) -> Result<Pass, DbError> {
        let now = self.kit.clock.now();
        let (open, refunds) = {
            let mut reader = self.kit.db.reader().await?;
            (store::due_payments(&mut reader, now, PER_PASS).await?, store::due_refunds(&mut reader, now, PER_PASS).await?)
        };
        let full = open.len() == PER_PASS as usize || refunds.len() == PER_PASS as usize;
        let asked = tasks::beside_each_other(open.iter().map(|payment| self.look_into(payment))).await;
        let given = tasks::beside_each_other(refunds.iter().map(|refund| self.give_back(refund))).await;
        // What could not be settled stays due: going on at once would turn in a circle.
        let all_moved = asked.into_iter().chain(given).all(|moved| moved);
        Ok(if full && all_moved { Pass::More } else { Pass::Done })
    }

    /// The first call for a payment, right after its intent became durable. True when its state moved.
    async fn charge_fresh(&self, id: PaymentId) -> Result<(), DbError> {
        let payment = {
            let mut reader = self.kit.db.reader().await?;
            store::payment(&mut reader, id).await?
        };
        let Some(payment) = payment.filter(|payment| payment.state.is_open()) else { return Ok(()) };
        let Some(_flight) = self.in_flight.board(id.0) else { return Ok(()) };
        // A call must be over when the lease is: from then on others may conclude from silence that it was never made.
        let last_call_ends = self.kit.clock.now().after(self.settings.call_timeout);
        if payment.attempts == 0 && payment.next_try_at.is_some_and(|lease_ends| last_call_ends <= lease_ends) {
            self.charge(&payment).await;
        }
        Ok(())
    }

    async fn refund_fresh(&self, id: PaymentId) -> Result<(), DbError> {
        let refund = {
            let mut reader = self.kit.db.reader().await?;
            store::pending_refund(&mut reader, id).await?
        };
        if let Some(refund) = refund {
            self.give_back(&refund).await;
        }
        Ok(())
    }

    /// Finds out what became of a payment: asks first, and charges again, under the same key, only when the provider cannot have a record.
    /// True when what is known was written down.
    async fn look_into(&self, payment: &Payment) -> bool {
        let Some(_flight) = self.in_flight.board(payment.id.0) else { return false };
        metrics::counter!("onrush_payments_reconciled_total").increment(1);
        let Some(provider) = &self.provider else {
            tracing::error!(payment.id = %payment.id, "a payment waits for the test provider, which is not enabled");
            return self.settle(payment.id, Says::Unknown { called: false }).await;
        };
        let found = self.within_time(provider.find(provider_key(payment.id))).await;
        match found {
            Ok(Some(answer)) => self.settle(payment.id, says(answer)).await,
            Ok(None) if self.is_settled_silence(payment, provider.as_ref()) => self.charge_again(payment).await,
            Ok(None) => self.settle(payment.id, Says::Unknown { called: false }).await,
            Err(error) => {
                tracing::warn!(payment.id = %payment.id, %error, "the provider does not say what became of a payment");
                self.settle(payment.id, Says::Unknown { called: false }).await
            }
        }
    }

    /// Whether "no record" means that no call ever arrived.
    fn is_settled_silence(&self, payment: &Payment, provider: &dyn Provider) -> bool {
        self.kit.clock.now() >= payment.last_call().after(provider.guarantee())
    }

    async fn charge_again(&self, payment: &Payment) -> bool {
        let waits = match self.kit.db.reader().await {
            Ok(mut reader) => store::waits(&mut reader, payment.order_id).await,
            Err(error) => Err(error),
        };
        match waits {
            // The order is being undone: what was never charged will not be.
            Ok(true) => self.conclude(payment, Says::NeverCharged).await,
            Ok(false) => self.conclude(payment, Says::CallingAgain).await && self.charge(payment).await,
            Err(error) => {
                tracing::warn!(payment.id = %payment.id, %error, "cannot read whether the payment is still wanted");
                false
            }
        }
    }

    /// Calls the provider and writes down what it says, as often as it says it.
    async fn charge(&self, payment: &Payment) -> bool {
        let Some(provider) = &self.provider else { return false };
        let ask =
            Charge { key: provider_key(payment.id), order_id: payment.order_id, amount: payment.amount, token: payment.token.clone() };
        crash_point("payments.provider.before_call");
        let answers = self.within_time(provider.charge(ask)).await;
        crash_point("payments.provider.after_call");
        match answers {
            Ok(answers) => {
                let mut written = false;
                for answer in answers {
                    written |= self.settle(payment.id, says(answer)).await;
                }
                written
            }
            Err(error) => {
                tracing::warn!(payment.id = %payment.id, %error, "the outcome of a payment is not known");
                self.settle(payment.id, Says::Unknown { called: true }).await
            }
        }
    }

    /// Gives a captured payment back at the provider. Asking twice is harmless: the refund has its own key.
    async fn give_back(&self, refund: &Refund) -> bool {
        let Some(_flight) = self.in_flight.board(refund.id) else { return false };
        let Some(provider) = &self.provider else {
            tracing::error!(payment.id = %refund.payment_id, "a refund waits for the test provider, which is not enabled");
            return self.settle_refund(refund, None).await;
        };
        let ask = GiveBack { key: refund_key(refund.id), charge_key: provider_key(refund.payment_id), amount: refund.amount };
        crash_point("payments.provider.before_refund");
        let given = self.within_time(provider.give_back(ask)).await;
        crash_point("payments.provider.after_refund");
        match given {
            Ok(reference) => self.settle_refund(refund, Some(reference)).await,
            Err(error) => {
                tracing::warn!(payment.id = %refund.payment_id, attempts = refund.attempts, %error, "a refund is not confirmed");
                self.settle_refund(refund, None).await
            }
        }
    }

    async fn within_time<T>(&self, call: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
        match tokio::time::timeout(self.settings.call_timeout, call).await {
            Ok(answer) => answer,
            Err(_) => Err(ProviderError("no answer in time".into())),
        }
    }

    async fn settle(&self, payment_id: PaymentId, says: Says) -> bool {
        self.submit(Settle { payment_id, says, last_call: None }).await
    }

    /// What follows from the provider's silence. False also when another process has called meanwhile.
    async fn conclude(&self, payment: &Payment, says: Says) -> bool {
        self.submit(Settle { payment_id: payment.id, says, last_call: Some(payment.last_call()) }).await
    }

    async fn submit(&self, command: Settle) -> bool {
        let Some(me) = self.me.upgrade() else { return false };
        written(command.payment_id, self.kit.submit(&me, command, None, new_id()).await)
    }

    async fn settle_refund(&self, refund: &Refund, reference: Option<String>) -> bool {
        let Some(me) = self.me.upgrade() else { return false };
        let payment_id = refund.payment_id;
        written(payment_id, self.kit.submit(&me, SettleRefund { payment_id, reference }, None, new_id()).await)
    }
}

/// What could not be written down is found out again by the next pass.
fn written(payment_id: PaymentId, reply: Result<Reply, kit::batch::SubmitError>) -> bool {
    if let Err(error) = &reply {
        tracing::warn!(payment.id = %payment_id, %error, "the provider's word could not be written down");
    }
    matches!(reply, Ok(Reply::Answer(answer)) if answer.status != OUTDATED)
}

fn says(answer: ChargeAnswer) -> Says {
    match answer {
        ChargeAnswer::Charged { reference } => Says::Charged { reference: Some(reference) },
        ChargeAnswer::Declined { reason } => Says::Refused(Refusal::new(Code::PaymentFailed, reason)),
    }
}
