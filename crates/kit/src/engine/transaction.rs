//! A transaction of the engine: its body, its commit, and the steps after it.

use super::{Engine, Envelope, Fault, log, reader::Position};
use crate::{
    failpoints::crash_point,
    ports::{Stopwatch, random_bytes},
    service::Service,
};
use std::{panic::AssertUnwindSafe, time::Duration};

/// Tries of a transaction that loses against others, before it counts as failed.
const MAX_TRIES: u32 = 6;

impl Engine {
    /// Retries a transaction that lost against another one, after a short random delay.
    ///
    /// With several writers, a unique constraint may fail because another writer was faster; the next try sees its row. A locked row is
    /// retried while the lock budget lasts.
    pub(super) fn retry_on_conflict(&mut self, mut attempt: impl FnMut(&mut Engine) -> Result<(), Fault>) -> Result<(), Fault> {
        for tries in 1.. {
            // The tries may take longer than a lease lasts.
            self.renew_leases();
            match attempt(self) {
                Err(fault) if fault.is_locked() && !self.lock_budget.has_budget() => return Err(fault),
                Err(fault) if tries < MAX_TRIES && self.assignment.is_some() && fault.is_conflict() => {
                    tracing::debug!(error = %fault, tries, "transaction conflict, retrying");
                    metrics::counter!("onrush_transaction_conflicts_total").increment(1);
                    let [jitter] = random_bytes::<1>();
                    std::thread::sleep(Duration::from_micros(u64::from(jitter) * 50 * u64::from(tries)));
                }
                result => return result,
            }
        }
        Ok(())
    }

    /// Runs one transaction: `body`, the outbox and positions, the commit. A fault or panic rolls everything back.
    pub(super) fn attempt(&mut self, body: impl AsyncFnOnce(&mut Engine) -> Result<(), Fault>, names: &[String]) -> Result<(), Fault> {
        let now = self.clock.now();
        // Once true, the transaction may be durable even if the commit reports an error.
        let mut is_committing = false;
        let since_begin = Stopwatch::start();
        self.work.tx.limit_lock_waits(self.lock_budget.max_wait());
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
            futures::executor::block_on(async {
                if let Some(heads) = &mut self.work.heads {
                    heads.clone_from(&self.heads);
                }
                self.work.begin(now).await?;
                body(self).await?;
                self.persist_log().await?;
                for name in names {
                    crash_point(&format!("{name}.before_commit"));
                }
                is_committing = true;
                let since_commit = Stopwatch::start();
                self.work.tx.commit().await?;
                metrics::histogram!("onrush_batch_commit_seconds").record(since_commit.elapsed().as_secs_f64());
                for name in names {
                    crash_point(&format!("{name}.after_commit"));
                }
                Ok(())
            })
        }))
        .unwrap_or_else(|panic| Err(Fault::Panic(panic_text(panic.as_ref()))));
        match result {
            Ok(()) => self.on_committed(),
            Err(fault) => {
                if fault.is_locked() {
                    self.lock_budget.charge(since_begin.elapsed());
                }
                let is_known = !is_committing || fault.is_conflict();
                return Err(self.roll_back(fault, is_known));
            }
        }
        Ok(())
    }

    fn on_committed(&mut self) {
        if let Some(heads) = &mut self.work.heads {
            std::mem::swap(&mut self.heads, heads);
        }
        for index in 0..self.readers.len() {
            if let Some(position) = self.readers[index].pending.take() {
                self.readers[index].stored_position = position.seq;
                self.advance_to(index, position);
            }
        }
        self.run_hooks(true);
        self.notify_others();
        self.work.clear();
    }

    /// Advances a reader to this position.
    pub(super) fn advance_to(&mut self, index: usize, position: Position) {
        let reader = &mut self.readers[index];
        if reader.position == position {
            return;
        }
        (reader.position, reader.tries, reader.locked_since) = (position, 0, None);
        self.stalls.on_progress(reader.reader_position());
        if let Some(assignment) = &mut self.assignment {
            Self::advance_consumer(assignment, reader);
        }
    }

    fn run_hooks(&mut self, is_durable: bool) {
        for action in std::mem::take(&mut self.work.at_end) {
            // The transaction's outcome is final, and the writer must survive a panic of a hook.
            if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| action(is_durable))) {
                tracing::error!(panic = panic_text(panic.as_ref()), "commit hook panicked");
            }
        }
    }

    /// Sends the notifications of the committed transaction.
    fn notify_others(&mut self) {
        let Some(assignment) = &self.assignment else { return };
        for service in &self.work.emitting_services {
            assignment.notifications.notify_written(service);
        }
        for (service, text) in &self.work.notifications {
            assignment.notifications.notify(service, text);
        }
    }

    fn roll_back(&mut self, fault: Fault, is_known: bool) -> Fault {
        if let Err(error) = futures::executor::block_on(self.work.tx.rollback()) {
            tracing::error!(%error, "rollback failed");
        }
        for reader in &mut self.readers {
            reader.pending = None;
        }
        if is_known {
            self.run_hooks(false);
        }
        self.work.clear();
        fault
    }

    /// Dispatches messages to a service. Messages emitted for the same keys inherit the trace of their cause.
    pub(super) async fn dispatch(&mut self, service: &dyn Service, messages: &[&Envelope]) -> Result<(), Fault> {
        self.work.service = service.name();
        self.work.propagate_traces(messages);
        service.consume(&mut self.work, messages).await
    }

    /// Lets services write back the rows they kept in memory during the transaction.
    pub(super) async fn flush_services(&mut self) -> Result<(), Fault> {
        for service in &self.services {
            self.work.service = service.name();
            service.flush(&mut self.work).await?;
        }
        Ok(())
    }

    /// Writes the emitted messages and the readers' positions.
    async fn persist_log(&mut self) -> Result<(), Fault> {
        let mut emitted: Vec<Envelope> = std::mem::take(&mut self.work.dispatched);
        emitted.append(&mut self.work.emitted);
        for service in &self.services {
            let source = service.name();
            let own: Vec<&Envelope> = emitted.iter().filter(|envelope| envelope.source == source).collect();
            if own.is_empty() {
                continue;
            }
            let stream = self.streams[source];
            if self.assignment.is_some() {
                log::append_pending(&mut self.work.tx, source, stream, &own).await?;
                self.work.emitting_services.push(source);
            } else {
                log::append(&mut self.work.tx, source, stream.epoch, &own).await?;
            }
        }
        self.persist_positions().await
    }

    async fn persist_positions(&mut self) -> Result<(), Fault> {
        let now = self.work.now;
        for service in &self.services {
            let name = service.name();
            let own = self.readers.iter().filter(|reader| reader.service.name() == name);
            let updates: Vec<log::PositionUpdate> = own
                .filter_map(|reader| Some(log::PositionUpdate { stream: reader.stream, from: reader.stored_position, to: reader.pending? }))
                .collect();
            if !updates.is_empty() {
                log::advance(&mut self.work.tx, name, &updates, now).await?;
            }
        }
        Ok(())
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}
