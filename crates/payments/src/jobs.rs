//! Work outside of transactions: calls to the provider after a commit, and the job `payments.reconcile` for open payments and refunds.
//!
//! A crash at any point loses nothing: the intent is stored before the call, and `payments.reconcile` first looks the key up at the
//! provider. A time-out never counts as a failure.

use crate::{
    Payments,
    api::{
        settle::{OUTDATED, SettlePayment},
        settle_refund::SettleRefund,
    },
    model::{Payment, ProviderStatus, Refund, provider_key, refund_key},
    providers::{ChargeAnswer, ChargeRequest, Provider, ProviderError, RefundRequest},
    store,
};
use contracts::{Code, PaymentId, Refusal};
use kit::{
    DbError, Reply,
    jobs::{Job, Pass},
    ports::new_id,
    tasks,
    testing::crash_point,
};
use parking_lot::Mutex;
use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::sync::{Semaphore, mpsc::Receiver};
use uuid::Uuid;

/// Interval of the job `payments.reconcile`.
const RECONCILE_EVERY: Duration = Duration::from_secs(1);
/// Maximum concurrent first calls. Further ones wait.
const MAX_CONCURRENT_CALLS: usize = 32;
/// Maximum payments, and maximum refunds, that one pass handles.
const MAX_PER_PASS: u32 = 50;

pub fn all(payments: &Arc<Payments>) -> Vec<Job> {
    let payments = Arc::clone(payments);
    vec![Job::new("payments.reconcile", RECONCILE_EVERY, move || Arc::clone(&payments).reconcile())]
}

/// A call to the provider, queued after the commit.
#[derive(Clone, Copy, Debug)]
pub enum ProviderTask {
    Charge(PaymentId),
    Refund(PaymentId),
}

/// Payments and refunds with a running provider call in this process, so that its tasks never call twice at once. Other processes may:
/// the provider's idempotency keys make repeats harmless, and [`SettlePayment`] ignores a missing record when another call followed.
#[derive(Default)]
pub struct InFlight(Mutex<HashSet<Uuid>>);

/// Marks a payment or refund as in flight until dropped.
pub struct InFlightGuard<'a> {
    in_flight: &'a InFlight,
    id: Uuid,
}

impl InFlight {
    /// `None`: already in flight.
    fn begin(&self, id: Uuid) -> Option<InFlightGuard<'_>> {
        let is_new = self.0.lock().insert(id);
        is_new.then_some(InFlightGuard { in_flight: self, id })
    }
}

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.in_flight.0.lock().remove(&self.id);
    }
}

/// Runs provider tasks in arrival order, until the service is dropped.
pub async fn run_provider_tasks(payments: Weak<Payments>, mut provider_tasks: Receiver<ProviderTask>) {
    let calls = Arc::new(Semaphore::new(MAX_CONCURRENT_CALLS));
    while let Some(task) = provider_tasks.recv().await {
        let Ok(permit) = Arc::clone(&calls).acquire_owned().await else { return };
        let Some(payments) = payments.upgrade() else { return };
        tasks::spawn("payments.provider_task", async move {
            let done = match task {
                ProviderTask::Charge(id) => payments.charge_first_time(id).await,
                ProviderTask::Refund(id) => payments.refund_first_time(id).await,
            };
            if let Err(error) = done {
                tracing::warn!(%error, ?task, "provider task failed, left to payments.reconcile");
            }
            drop(permit);
        });
    }
}

impl Payments {
    /// Runs one pass of `payments.reconcile`.
    pub async fn reconcile(self: Arc<Self>) -> Result<Pass, DbError> {
        let now = self.kit.clock.now();
        let (open, refunds) = {
            let mut reader = self.kit.db.reader().await?;
            (store::due_payments(&mut reader, now, MAX_PER_PASS).await?, store::due_refunds(&mut reader, now, MAX_PER_PASS).await?)
        };
        let is_full = open.len() == MAX_PER_PASS as usize || refunds.len() == MAX_PER_PASS as usize;
        let payments_moved = tasks::join_concurrently(open.iter().map(|payment| self.reconcile_payment(payment))).await;
        let refunds_moved = tasks::join_concurrently(refunds.iter().map(|refund| self.reconcile_refund(refund))).await;
        // Unsettled ones stay due, so another pass at once would repeat them forever.
        let all_moved = payments_moved.into_iter().chain(refunds_moved).all(|moved| moved);
        Ok(if is_full && all_moved { Pass::More } else { Pass::Done })
    }

    /// Charges a payment for the first time, right after the commit of its intent. Skips payments that were called before or are too late.
    async fn charge_first_time(&self, id: PaymentId) -> Result<(), DbError> {
        let payment = {
            let mut reader = self.kit.db.reader().await?;
            store::payment(&mut reader, id).await?
        };
        let Some(payment) = payment.filter(|payment| payment.state.is_open()) else { return Ok(()) };
        let Some(_guard) = self.in_flight.begin(id.0) else { return Ok(()) };
        // The call must end before the lease does. After it, other processes may conclude from a missing record that no call was made.
        let last_call_ends = self.kit.clock.now().after(self.settings.call_timeout);
        if payment.attempts == 0 && payment.next_try_at.is_some_and(|lease_ends| last_call_ends <= lease_ends) {
            self.charge(&payment).await;
        }
        Ok(())
    }

    /// Refunds a payment for the first time, right after the commit of its refund.
    async fn refund_first_time(&self, id: PaymentId) -> Result<(), DbError> {
        let refund = {
            let mut reader = self.kit.db.reader().await?;
            store::pending_refund(&mut reader, id).await?
        };
        if let Some(refund) = refund {
            self.reconcile_refund(&refund).await;
        }
        Ok(())
    }

    /// Looks a payment up at the provider. Charges again, with the same key, only when an earlier call can no longer be recorded. True when the
    /// result was stored.
    async fn reconcile_payment(&self, payment: &Payment) -> bool {
        let Some(_guard) = self.in_flight.begin(payment.id.0) else { return false };
        metrics::counter!("onrush_payments_reconciled_total").increment(1);
        let Some(provider) = &self.provider else {
            tracing::error!(payment.id = %payment.id, "payment not reconciled: test provider is disabled");
            return self.settle(payment.id, ProviderStatus::Unknown { called: false }).await;
        };
        let found = self.with_timeout(provider.find_charge(provider_key(payment.id))).await;
        match found {
            Ok(Some(answer)) => self.settle(payment.id, status_of(answer)).await,
            Ok(None) if self.is_absence_final(payment, provider.as_ref()) => self.charge_again(payment).await,
            Ok(None) => self.settle(payment.id, ProviderStatus::Unknown { called: false }).await,
            Err(error) => {
                tracing::warn!(payment.id = %payment.id, %error, "payment lookup failed");
                self.settle(payment.id, ProviderStatus::Unknown { called: false }).await
            }
        }
    }

    /// The provider's record deadline has passed: a missing record means that no call arrived.
    fn is_absence_final(&self, payment: &Payment, provider: &dyn Provider) -> bool {
        self.kit.clock.now() >= payment.last_call().after(provider.record_deadline())
    }

    /// Charges again, unless the order is being undone. True when the result was stored.
    async fn charge_again(&self, payment: &Payment) -> bool {
        let is_waiting = match self.kit.db.reader().await {
            Ok(mut reader) => store::is_undo_waiting(&mut reader, payment.order_id).await,
            Err(error) => Err(error),
        };
        match is_waiting {
            // The order is being undone, so the payment fails without another call.
            Ok(true) => self.settle_unless_called_since(payment, ProviderStatus::NeverCharged).await,
            Ok(false) => self.settle_unless_called_since(payment, ProviderStatus::CallingAgain).await && self.charge(payment).await,
            Err(error) => {
                tracing::warn!(payment.id = %payment.id, %error, "reading the order's cancellation failed");
                false
            }
        }
    }

    /// Charges at the provider and stores each of its answers. True when one was stored.
    async fn charge(&self, payment: &Payment) -> bool {
        let Some(provider) = &self.provider else { return false };
        let request = ChargeRequest {
            key: provider_key(payment.id),
            order_id: payment.order_id,
            amount: payment.amount,
            token: payment.token.clone(),
        };
        crash_point("payments.provider.before_call");
        let answers = self.with_timeout(provider.charge(request)).await;
        crash_point("payments.provider.after_call");
        match answers {
            Ok(answers) => {
                let mut written = false;
                for answer in answers {
                    written |= self.settle(payment.id, status_of(answer)).await;
                }
                written
            }
            Err(error) => {
                tracing::warn!(payment.id = %payment.id, %error, "charge failed, outcome unknown");
                self.settle(payment.id, ProviderStatus::Unknown { called: true }).await
            }
        }
    }

    /// Refunds a captured payment at the provider. Repeats are harmless, because the refund has a key. True when the result was stored.
    async fn reconcile_refund(&self, refund: &Refund) -> bool {
        let Some(_guard) = self.in_flight.begin(refund.id) else { return false };
        let Some(provider) = &self.provider else {
            tracing::error!(payment.id = %refund.payment_id, "refund not sent: test provider is disabled");
            return self.settle_refund(refund, None).await;
        };
        let request = RefundRequest { key: refund_key(refund.id), charge_key: provider_key(refund.payment_id), amount: refund.amount };
        crash_point("payments.provider.before_refund");
        let refunded = self.with_timeout(provider.refund(request)).await;
        crash_point("payments.provider.after_refund");
        match refunded {
            Ok(reference) => self.settle_refund(refund, Some(reference)).await,
            Err(error) => {
                tracing::warn!(payment.id = %refund.payment_id, attempts = refund.attempts, %error, "refund not confirmed");
                self.settle_refund(refund, None).await
            }
        }
    }

    async fn with_timeout<T>(&self, call: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
        match tokio::time::timeout(self.settings.call_timeout, call).await {
            Ok(answer) => answer,
            Err(_) => Err(ProviderError("no answer in time".into())),
        }
    }

    async fn settle(&self, payment_id: PaymentId, status: ProviderStatus) -> bool {
        self.submit(SettlePayment { payment_id, status, last_call: None }).await
    }

    /// Stores a conclusion from a missing record, unless another process has called since. True when stored.
    async fn settle_unless_called_since(&self, payment: &Payment, status: ProviderStatus) -> bool {
        self.submit(SettlePayment { payment_id: payment.id, status, last_call: Some(payment.last_call()) }).await
    }

    async fn submit(&self, command: SettlePayment) -> bool {
        let Some(this) = self.weak_self.upgrade() else { return false };
        check_written(command.payment_id, self.kit.batch.submit(&this, command, None, new_id()).await)
    }

    async fn settle_refund(&self, refund: &Refund, reference: Option<String>) -> bool {
        let Some(this) = self.weak_self.upgrade() else { return false };
        let payment_id = refund.payment_id;
        check_written(payment_id, self.kit.batch.submit(&this, SettleRefund { payment_id, reference }, None, new_id()).await)
    }
}

/// True when the result was stored. Otherwise the next pass of `payments.reconcile` handles the payment again.
fn check_written(payment_id: PaymentId, reply: Result<Reply, kit::batch::SubmitError>) -> bool {
    if let Err(error) = &reply {
        tracing::warn!(payment.id = %payment_id, %error, "storing the provider's answer failed");
    }
    matches!(reply, Ok(Reply::Answer(answer)) if answer.status != OUTDATED)
}

fn status_of(answer: ChargeAnswer) -> ProviderStatus {
    match answer {
        ChargeAnswer::Charged { reference } => ProviderStatus::Charged { reference: Some(reference) },
        ChargeAnswer::Declined { reason } => ProviderStatus::Refused(Refusal::new(Code::PaymentFailed, reason)),
    }
}
