//! One transaction: what happens in it, before it is committed, and after.

use super::{Engine, Envelope, Fault, log};
use crate::{ports::Stopwatch, service::Service, testing::crash_point};
use std::panic::AssertUnwindSafe;

impl Engine {
    /// One transaction: `body`, the log, the commit. On a fault, or a panic, everything is as before.
    pub(super) fn attempt(&mut self, body: impl AsyncFnOnce(&mut Engine) -> Result<(), Fault>, names: &[String]) -> Result<(), Fault> {
        let now = self.clock.now();
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
            futures::executor::block_on(async {
                self.work.heads.clone_from(&self.heads);
                self.work.begin(now).await?;
                body(self).await?;
                self.persist_log().await?;
                for name in names {
                    crash_point(&format!("{name}.before_commit"));
                }
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
            Err(fault) => return Err(self.rolled_back(fault)),
        }
        Ok(())
    }

    fn committed(&mut self) {
        std::mem::swap(&mut self.heads, &mut self.work.heads);
        for reader in &mut self.readers {
            if reader.position != reader.pending {
                reader.position = reader.pending;
                reader.tries = 0;
            }
        }
        for action in std::mem::take(&mut self.work.after_commit) {
            // The commit stands, whatever a hook does; and the writer must live on.
            if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(action)) {
                tracing::error!(panic = panic_text(panic.as_ref()), "a commit hook panicked");
            }
        }
        self.work.clear();
    }

    fn rolled_back(&mut self, fault: Fault) -> Fault {
        if let Err(error) = futures::executor::block_on(self.work.tx.rollback()) {
            tracing::error!(%error, "rollback failed");
        }
        for reader in &mut self.readers {
            reader.pending = reader.position;
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
            if !own.is_empty() {
                log::append(&mut self.work.tx, source, self.epochs[source], &own).await?;
            }
        }
        let now = self.work.now;
        for reader in self.readers.iter().filter(|reader| reader.pending != reader.position) {
            let epoch = self.epochs[reader.source];
            log::advance(&mut self.work.tx, reader.service.name(), reader.source, epoch, reader.position, reader.pending, now).await?;
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
