//! One transaction: what happens in it, before it is committed, and after.

use super::{Engine, Envelope, Fault, log, streams::Mark};
use crate::{
    ports::{Stopwatch, random_bytes},
    service::Service,
    testing::crash_point,
};
use std::{panic::AssertUnwindSafe, time::Duration};

/// Tries of a transaction that others were in the way of, before it is treated like any that failed.
const TRIES: u32 = 6;

impl Engine {
    /// Repeats a whole transaction that lost against another one, a few times, after a short pause of random length. Where several
    /// instances write, a unique constraint may say no because another one was faster: at the next try its row is seen. A lock that
    /// somebody holds is waited for as long as there is patience.
    pub(super) fn despite_conflicts(&mut self, mut attempt: impl FnMut(&mut Engine) -> Result<(), Fault>) -> Result<(), Fault> {
        for tries in 1.. {
            // Tries may take longer than a lease lasts.
            self.renew_lanes();
            match attempt(self) {
                Err(fault) if fault.is_locked() && !self.patience.is_left() => return Err(fault),
                Err(fault) if tries < TRIES && self.lanes.is_some() && fault.is_conflict() => {
                    tracing::debug!(error = %fault, tries, "a transaction is tried again");
                    metrics::counter!("onrush_transaction_conflicts_total").increment(1);
                    let [jitter] = random_bytes::<1>();
                    std::thread::sleep(Duration::from_micros(u64::from(jitter) * 50 * u64::from(tries)));
                }
                result => return result,
            }
        }
        Ok(())
    }

    /// One transaction: `body`, the log, the commit. On a fault, or a panic, everything is as before.
    pub(super) fn attempt(&mut self, body: impl AsyncFnOnce(&mut Engine) -> Result<(), Fault>, names: &[String]) -> Result<(), Fault> {
        let now = self.clock.now();
        // From there on it may stand, whatever is heard of it.
        let mut is_committing = false;
        let trying = Stopwatch::start();
        self.work.tx.limit_lock_waits(self.patience.wait());
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
                let commit = Stopwatch::start();
                self.work.tx.commit().await?;
                metrics::histogram!("onrush_batch_commit_seconds").record(commit.elapsed().as_secs_f64());
                for name in names {
                    crash_point(&format!("{name}.after_commit"));
                }
                Ok(())
            })
        }))
        .unwrap_or_else(|panic| Err(Fault::Panic(panic_text(panic.as_ref()))));
        match result {
            Ok(()) => self.committed(),
            Err(fault) => {
                if fault.is_locked() {
                    self.patience.waited(trying.elapsed());
                }
                let is_known = !is_committing || fault.is_conflict();
                return Err(self.rolled_back(fault, is_known));
            }
        }
        Ok(())
    }

    fn committed(&mut self) {
        if let Some(heads) = &mut self.work.heads {
            std::mem::swap(&mut self.heads, heads);
        }
        for index in 0..self.readers.len() {
            if let Some(mark) = self.readers[index].pending.take() {
                self.readers[index].kept = mark.seq;
                self.moved_to(index, mark);
            }
        }
        self.run_hooks(true);
        self.tell();
        self.work.clear();
    }

    /// What is up to there is behind the reader.
    pub(super) fn moved_to(&mut self, index: usize, mark: Mark) {
        let reader = &mut self.readers[index];
        if reader.position == mark {
            return;
        }
        (reader.position, reader.tries, reader.locked) = (mark, 0, None);
        self.troubles.moved(reader.spot());
        if let Some(lanes) = &mut self.lanes {
            Self::settled(lanes, reader);
        }
    }

    fn run_hooks(&mut self, durable: bool) {
        for action in std::mem::take(&mut self.work.at_end) {
            // What became of the transaction stands, whatever a hook does; and the writer must live on.
            if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| action(durable))) {
                tracing::error!(panic = panic_text(panic.as_ref()), "a commit hook panicked");
            }
        }
    }

    /// Lets others know what is there now.
    fn tell(&mut self) {
        let Some(lanes) = &self.lanes else { return };
        for service in &self.work.emitted {
            lanes.wires.written(service);
        }
        for (service, text) in &self.work.notices {
            lanes.wires.notice(service, text);
        }
    }

    fn rolled_back(&mut self, fault: Fault, is_known: bool) -> Fault {
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

    /// Gives messages to a service. What it says about their keys belongs to the requests that caused them.
    pub(super) async fn hand_over(&mut self, service: &dyn Service, messages: &[&Envelope]) -> Result<(), Fault> {
        self.work.service = service.name();
        self.work.follow(messages);
        service.consume(&mut self.work, messages).await
    }

    /// Lets services write back what they kept for the length of the transaction.
    pub(super) async fn flush(&mut self) -> Result<(), Fault> {
        for service in &self.services {
            self.work.service = service.name();
            service.flush(&mut self.work).await?;
        }
        Ok(())
    }

    /// Writes what was emitted, and how far readers came.
    async fn persist_log(&mut self) -> Result<(), Fault> {
        let mut emitted: Vec<Envelope> = std::mem::take(&mut self.work.offered);
        emitted.append(&mut self.work.fresh);
        for service in &self.services {
            let source = service.name();
            let own: Vec<&Envelope> = emitted.iter().filter(|envelope| envelope.source == source).collect();
            if own.is_empty() {
                continue;
            }
            let stream = self.streams[source];
            if self.lanes.is_some() {
                log::append_pending(&mut self.work.tx, source, stream, &own).await?;
                self.work.emitted.push(source);
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
            let moves: Vec<log::Move> =
                own.filter_map(|reader| Some(log::Move { place: reader.place, from: reader.kept, to: reader.pending? })).collect();
            if !moves.is_empty() {
                log::advance(&mut self.work.tx, name, &moves, now).await?;
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
