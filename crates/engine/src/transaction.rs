//! A transaction of the engine: its body, its commit, and the steps after it.

use super::{
    envelope::Envelope,
    fault::Fault,
    heartbeat::Heartbeat,
    lock_budget::LockBudget,
    log,
    position::{SOLE_PARTITION, Stream},
    readers::Readers,
    setup::Services,
    tables::prepare,
    work::Work,
};
use contracts::Timestamp;
use db::{Db, Tx};
use runtime::{
    backoff::Backoff,
    failpoints::crash_point,
    ports::{Clock, Stopwatch},
    tasks::panic_text,
};
use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

/// Tries of a transaction that loses against others, before it counts as failed.
const MAX_TRIES: u32 = 6;
/// Pauses between these tries. Others need a few milliseconds to commit, and the writer must not wait long.
const CONFLICT_BACKOFF: Backoff = Backoff::new(Duration::from_millis(12), Duration::from_millis(60));

/// The writing connection of an engine, and everything that one transaction hands to the next.
pub(super) struct Transaction {
    work: Work,
    clock: Arc<dyn Clock>,
    services: Services,
    /// The streams of `services`.
    streams: HashMap<&'static str, Stream>,
    /// Sequence numbers of the last committed messages, where this engine assigns them.
    heads: HashMap<&'static str, i64>,
    /// Services whose messages the sequencer must number after the commit.
    emitting_services: Vec<&'static str>,
    lock_budget: LockBudget,
    heartbeat: Heartbeat,
}

impl Transaction {
    /// Opens the writing connection and the streams of these services. A sole writer prepares their tables, too, and numbers their
    /// messages.
    pub async fn open(db: &Db, services: Services, clock: Arc<dyn Clock>, is_sole_writer: bool) -> Result<Transaction, Fault> {
        let mut tx = db.open_writer().await?;
        let now = clock.now();
        let (mut streams, mut heads) = (HashMap::new(), HashMap::new());
        for service in services.iter() {
            let name = service.name();
            let stream = match is_sole_writer {
                true => prepare(&mut tx, service.as_ref(), 1, now).await?,
                false => log::find_stream(&mut tx, name).await?.ok_or_else(|| Fault::Bug(format!("{name} was not prepared")))?,
            };
            streams.insert(name, stream);
            if is_sole_writer {
                heads.insert(name, log::head(&mut tx, name, stream.epoch, SOLE_PARTITION).await?);
            }
        }
        Ok(Transaction {
            work: Work::new(tx, is_sole_writer),
            clock,
            services,
            streams,
            heads,
            emitting_services: Vec::new(),
            lock_budget: LockBudget::default(),
            heartbeat: Heartbeat::default(),
        })
    }

    /// The writing connection, for statements outside a transaction.
    pub fn tx(&mut self) -> &mut Tx {
        &mut self.work.tx
    }

    /// The writing connection with the streams of the services.
    pub fn tx_and_streams(&mut self) -> (&mut Tx, &HashMap<&'static str, Stream>) {
        (&mut self.work.tx, &self.streams)
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The stream of a service. `None`: another engine writes it.
    pub fn stream(&self, service: &str) -> Option<Stream> {
        self.streams.get(service).copied()
    }

    pub fn heads(&self) -> &HashMap<&'static str, i64> {
        &self.heads
    }

    /// Beats at both ends of each transaction.
    pub fn heartbeat(&self) -> &Heartbeat {
        &self.heartbeat
    }

    pub fn lock_budget(&mut self) -> &mut LockBudget {
        &mut self.lock_budget
    }

    /// Retries a transaction that lost against another one, after a short random delay.
    ///
    /// With several writers, a unique constraint may fail because another writer was faster; the next try sees its row. A locked row is
    /// retried while the lock budget lasts.
    pub fn retry_on_conflict(
        &mut self,
        readers: &mut Readers,
        mut attempt: impl FnMut(&mut Transaction, &mut Readers) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        for tries in 1.. {
            // The tries may take longer than a lease lasts.
            readers.renew_leases(&mut self.work.tx);
            match attempt(self, readers) {
                Err(fault) if fault.is_locked() && !self.lock_budget.has_budget() => return Err(fault),
                Err(fault) if tries < MAX_TRIES && readers.are_shared() && fault.is_conflict() => {
                    tracing::debug!(error = %fault, tries, "transaction conflict, retrying");
                    metrics::counter!("onrush_transaction_conflicts_total").increment(1);
                    std::thread::sleep(CONFLICT_BACKOFF.full_jitter(tries - 1));
                }
                result => return result,
            }
        }
        Ok(())
    }

    /// Runs one transaction: `body`, the outbox and the staged positions, the commit. A fault or panic rolls everything back.
    ///
    /// `names` are the crash points of its parts.
    pub fn attempt(
        &mut self,
        readers: &mut Readers,
        names: &[String],
        body: impl AsyncFnOnce(&mut Work, &mut Readers) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        // Once true, the transaction may be durable even if the commit reports an error.
        let mut is_committing = false;
        let since_begin = Stopwatch::start();
        self.heartbeat.beat();
        let run = self.run(readers, names, body, &mut is_committing);
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| futures::executor::block_on(run)))
            .unwrap_or_else(|panic| Err(Fault::Panic(panic_text(panic.as_ref()).to_owned())));
        self.heartbeat.beat();
        match result {
            Ok(()) => self.on_committed(readers),
            Err(fault) => {
                if fault.is_locked() {
                    self.lock_budget.charge(since_begin.elapsed());
                }
                let is_known = !is_committing || fault.is_conflict();
                self.roll_back(readers, is_known);
                return Err(fault);
            }
        }
        Ok(())
    }

    async fn run(
        &mut self,
        readers: &mut Readers,
        names: &[String],
        body: impl AsyncFnOnce(&mut Work, &mut Readers) -> Result<(), Fault>,
        is_committing: &mut bool,
    ) -> Result<(), Fault> {
        self.work.tx.limit_lock_waits(self.lock_budget.max_wait());
        self.work.begin(self.clock.now(), &self.heads).await?;
        body(&mut self.work, readers).await?;
        self.persist(readers).await?;
        for name in names {
            crash_point(&format!("{name}.before_commit"));
        }
        *is_committing = true;
        let since_commit = Stopwatch::start();
        self.work.tx.commit().await?;
        metrics::histogram!("onrush_batch_commit_seconds").record(since_commit.elapsed().as_secs_f64());
        for name in names {
            crash_point(&format!("{name}.after_commit"));
        }
        Ok(())
    }

    /// Writes the emitted messages and the staged positions.
    async fn persist(&mut self, readers: &Readers) -> Result<(), Fault> {
        self.emitting_services.clear();
        let emitted = self.work.take_messages();
        for service in self.services.iter() {
            let source = service.name();
            let own: Vec<&Envelope> = emitted.iter().filter(|envelope| envelope.source == source).collect();
            if own.is_empty() {
                continue;
            }
            let stream = self.streams[source];
            if readers.are_shared() {
                log::append_pending(&mut self.work.tx, source, stream, &own).await?;
                self.emitting_services.push(source);
            } else {
                log::append(&mut self.work.tx, source, stream.epoch, &own).await?;
            }
        }
        for service in self.services.iter() {
            let updates = readers.staged_updates(service.name());
            if !updates.is_empty() {
                log::advance(&mut self.work.tx, service.name(), &updates, self.work.now).await?;
            }
        }
        Ok(())
    }

    fn on_committed(&mut self, readers: &mut Readers) {
        self.work.hand_over_heads(&mut self.heads);
        readers.commit();
        self.run_hooks(true);
        self.notify_others(readers);
        self.work.clear();
    }

    /// Rolls back. With a known outcome, the hooks of the transaction learn it.
    fn roll_back(&mut self, readers: &mut Readers, is_known: bool) {
        if let Err(error) = futures::executor::block_on(self.work.tx.rollback()) {
            tracing::error!(%error, "rollback failed");
        }
        readers.rollback();
        if is_known {
            self.run_hooks(false);
        }
        self.work.clear();
    }

    fn run_hooks(&mut self, is_durable: bool) {
        for hook in self.work.take_hooks() {
            // The transaction's outcome is final, and the writer must survive a panic of a hook.
            if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| hook(is_durable))) {
                tracing::error!(panic = panic_text(panic.as_ref()), "commit hook panicked");
            }
        }
    }

    /// Sends the notifications of the committed transaction.
    fn notify_others(&mut self, readers: &Readers) {
        let Some(notifications) = readers.notifications() else { return };
        for service in &self.emitting_services {
            notifications.notify_written(service);
        }
        for (service, text) in self.work.notifications() {
            notifications.notify(service, text);
        }
    }
}
