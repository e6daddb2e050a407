//! Payments of orders, by wallet or by a payment provider.
//!
//! Owns payments, refunds and the cancellations of orders' payments. It calls providers only outside of transactions, charges an order at
//! most once, and never treats a missing answer as a failure. The wallet service moves wallet money on request.

mod api;
mod checks;
mod jobs;
mod messages;
mod model;
mod providers;
mod start;
mod store;

pub use providers::TestLedger;

use jobs::{InFlight, ProviderTask};
use kit::{Fault, Kit, Work};
use model::{NextAction, PaymentRules};
use parking_lot::Mutex;
use providers::{Provider, TestProvider};
use serde::Deserialize;
use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Maximum queued provider tasks. `payments.reconcile` finds those that do not fit.
const TASK_QUEUE_CAPACITY: usize = 1_024;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PaymentsSettings {
    /// Accepts the method `test`, which moves no real money. For demonstrations and tests only.
    pub test_provider: bool,
    /// File of the test provider's ledger. All processes of one database must use the same file. `None`: beside the database file, so it is
    /// required for databases that are not files.
    pub book: Option<PathBuf>,
    /// Maximum time for a provider's answer.
    #[serde(skip)]
    pub call_timeout: Duration,
}

impl Default for PaymentsSettings {
    fn default() -> Self {
        Self { test_provider: false, book: None, call_timeout: Duration::from_secs(3) }
    }
}

pub struct Payments {
    kit: Kit,
    settings: PaymentsSettings,
    provider: Option<Arc<dyn Provider>>,
    in_flight: InFlight,
    provider_tasks: Sender<ProviderTask>,
    /// Receiver for the worker, taken when it starts.
    task_receiver: Mutex<Option<Receiver<ProviderTask>>>,
    weak_self: Weak<Payments>,
}

impl Payments {
    pub fn new(kit: Kit, settings: PaymentsSettings) -> Arc<Self> {
        let (provider_tasks, task_receiver) = channel(TASK_QUEUE_CAPACITY);
        let ledger = settings.book.clone().map(|path| TestLedger { path }).or_else(|| kit.db.path().map(TestLedger::beside));
        let test = |ledger: &TestLedger| Arc::new(TestProvider::new(ledger, Arc::clone(&kit.clock))) as Arc<dyn Provider>;
        let provider = ledger.filter(|_| settings.test_provider).as_ref().map(test);
        Arc::new_cyclic(|weak_self| Self {
            kit,
            settings,
            provider,
            in_flight: InFlight::default(),
            provider_tasks,
            task_receiver: Mutex::new(Some(task_receiver)),
            weak_self: Weak::clone(weak_self),
        })
    }

    fn rules(&self) -> PaymentRules {
        // One call time-out for the worker's call, and one for its time in the queue.
        PaymentRules { test_provider: self.settings.test_provider, lease: self.settings.call_timeout * 2 }
    }

    /// Performs the next action of a decision: emits a message, or queues a provider task after the commit.
    fn perform(&self, work: &mut Work, next: NextAction) -> Result<(), Fault> {
        let task = match next {
            NextAction::Nothing => return Ok(()),
            NextAction::Emit(order_id, message) => return work.emit(order_id, message),
            NextAction::Charge(id) => ProviderTask::Charge(id),
            NextAction::Refund(id) => ProviderTask::Refund(id),
        };
        let provider_tasks = self.provider_tasks.clone();
        work.after_commit(move || {
            // When the queue is full, `payments.reconcile` finds the row.
            let _ = provider_tasks.try_send(task);
        });
        Ok(())
    }
}

kit::module! {
    impl Module for Payments {
        name: "payments",
        migrations: kit::migrations!("init", "slips", postgres "room"),
        checks: checks::checks,
        reads: &messages::READS,
        consume: messages::consume,
        flush: messages::flush,
        router: api::router,
        jobs: jobs::all,
        start: start::start,
    }
}
