//! Payments of orders, whoever moves the money.
//!
//! Owns each attempt to pay, its refund and the undoing of an order's payment. It never calls a provider inside a transaction, never takes an
//! order's money twice, never reads silence as failure, and never moves wallet money itself: it asks the wallet.

mod api;
mod jobs;
mod messages;
mod model;
mod providers;
mod store;

pub use providers::ProviderBook;

use futures::future::BoxFuture;
use jobs::{Errand, InFlight};
use kit::{Fault, Kit, Service, Work, db::Migration, engine::Envelope, jobs::Job, tasks};
use model::{Book, Next, Rules};
use providers::{Provider, TestProvider};
use serde::Deserialize;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use utoipa_axum::router::OpenApiRouter;

/// Errands that wait for the worker; what does not fit is found by the reconciling job.
const ERRANDS: usize = 1_024;
/// How often open payments are looked into.
const RECONCILE_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PaymentsSettings {
    /// Accept method `test`. For demonstrations and tests only: nobody pays there.
    pub test_provider: bool,
    /// The file of the test provider's book. Absent: beside the database, which only a database in a file has. All processes of one
    /// database must name the same one.
    pub book: Option<PathBuf>,
    /// How long a provider may take to answer.
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
    errands: Sender<Errand>,
    /// Taken by the worker when it starts.
    waiting: Mutex<Option<Receiver<Errand>>>,
    me: Weak<Payments>,
}

impl Payments {
    pub fn new(kit: Kit, settings: PaymentsSettings) -> Arc<Self> {
        let (errands, waiting) = channel(ERRANDS);
        let book = settings.book.clone().map(|path| ProviderBook { path }).or_else(|| kit.db.path().map(ProviderBook::beside));
        let test = |book: &ProviderBook| Arc::new(TestProvider::new(book, Arc::clone(&kit.clock))) as Arc<dyn Provider>;
        let provider = book.filter(|_| settings.test_provider).as_ref().map(test);
        Arc::new_cyclic(|me| Self {
            kit,
            settings,
            provider,
            in_flight: InFlight::default(),
            errands,
            waiting: Mutex::new(Some(waiting)),
            me: Weak::clone(me),
        })
    }

    fn rules(&self) -> Rules {
        // The worker's one call, and as long again for it to come round to it.
        Rules { test_provider: self.settings.test_provider, lease: self.settings.call_timeout * 2 }
    }

    /// Does what follows from a decision: tells it now, or sends the worker once it is durable.
    fn follow(&self, work: &mut Work, next: Next) -> Result<(), Fault> {
        let errand = match next {
            Next::Nothing => return Ok(()),
            Next::Tell(order_id, message) => return work.emit(order_id, message),
            Next::Charge(id) => Errand::Charge(id),
            Next::Refund(id) => Errand::Refund(id),
        };
        let errands = self.errands.clone();
        work.after_commit(move || {
            // A full queue is not a loss: the job finds the row.
            let _ = errands.try_send(errand);
        });
        Ok(())
    }
}

impl Service for Payments {
    fn name(&self) -> &'static str {
        "payments"
    }

    fn migrations(&self) -> &'static [Migration] {
        const MIGRATIONS: &[Migration] = &[
            Migration::new(1, "init", include_str!("../migrations/V1__init.sql")),
            Migration::new(2, "slips", include_str!("../migrations/V2__slips.sql")),
            Migration::only_postgres(3, "room", include_str!("../migrations/V3__room.postgres.sql")),
        ];
        MIGRATIONS
    }

    fn kit(&self) -> &Kit {
        &self.kit
    }

    fn router(self: Arc<Self>) -> OpenApiRouter {
        api::router(self)
    }

    fn reads(&self) -> &'static [&'static str] {
        messages::READS
    }

    fn consume<'a>(&'a self, work: &'a mut Work, messages: &'a [&'a Envelope]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(messages::consume(self, work, messages))
    }

    fn flush<'a>(&'a self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let book = work.take_stash::<Book>();
            store::save(&mut work.tx, *book).await
        })
    }

    fn jobs(self: Arc<Self>) -> Vec<Job> {
        vec![Job::new("payments.reconcile", RECONCILE_EVERY, move || Arc::clone(&self).reconcile())]
    }

    fn start(self: Arc<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async move {
            if self.settings.test_provider && self.provider.is_none() {
                return Err(Fault::Setting(
                    "test_provider: its book needs a file, and there is no database file to keep it beside: set book".into(),
                ));
            }
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(waiting) = waiting {
                tasks::spawn("payments.worker", jobs::work(Arc::downgrade(&self), waiting));
            }
            Ok(())
        })
    }
}
