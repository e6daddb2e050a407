//! Passing over: what a reader does not act on costs it no transaction (docs/decisions/0016).

use super::{Engine, Fault, assignment::PartitionAssignment, log, reader::StreamReader, stalls::StallReason};
use crate::ports::Stopwatch;
use std::time::Duration;

/// How long it is_resting when positions could not be written down.
const FLUSH_RETRY_DELAY: Duration = Duration::from_secs(1);

impl Engine {
    /// Much of a stream may be nothing to a reader. Over what it need not act on it moves without a transaction: its service's tables learn of
    /// it with its next delivery, or when things are quiet. Until then, whoever reads in its place passes over it once more.
    pub(super) fn skip(&mut self, index: usize, stored: &[log::StoredMessage]) -> bool {
        let reader = &self.readers[index];
        let Some(last) = stored.last().filter(|_| !stored.iter().any(|message| reader.handles(&message.kind))) else { return false };
        self.advance_to(index, last.position());
        true
    }

    /// Writes down where the readers are that passed over messages. Nobody waits for it: a lock is only looked at, and what fails is tried again
    /// after a rest.
    pub(super) fn flush_positions(&mut self) {
        if !self.has_positions_to_flush() {
            return;
        }
        let unflushed: Vec<usize> = (0..self.readers.len()).filter(|index| self.readers[*index].has_unflushed_position()).collect();
        self.lock_budget.probe_only();
        let Err(fault) = self.store_positions(&unflushed) else {
            self.last_flush_failure = None;
            return;
        };
        self.last_flush_failure = Some(Stopwatch::start());
        if !fault.is_outage() {
            self.flush_each_position(&unflushed);
        }
    }

    /// One of them is at fault; that must not hold up the others.
    fn flush_each_position(&mut self, unflushed: &[usize]) {
        for index in unflushed {
            match self.store_positions(&[*index]) {
                Ok(()) => {}
                Err(fault @ Fault::Fenced(_)) if self.assignment.is_some() => return self.reload_readers(&fault),
                Err(fault) if fault.is_locked() => {
                    self.stalls.report(self.readers[*index].reader_position(), StallReason::Lock, &fault.to_string())
                }
                Err(fault) => {
                    let StreamReader { service, stream, .. } = &self.readers[*index];
                    tracing::warn!(reader = service.name(), ?stream, error = %fault, "position flush failed, retrying");
                }
            }
        }
    }

    fn store_positions(&mut self, unflushed: &[usize]) -> Result<(), Fault> {
        self.retry_on_conflict(|engine| {
            engine.attempt(
                async |engine: &mut Engine| {
                    for index in unflushed {
                        let reader = &mut engine.readers[*index];
                        reader.pending = Some(reader.position);
                    }
                    Ok(())
                },
                &[],
            )
        })?;
        for index in unflushed {
            // On Kafka, what comes next may have waited for this.
            self.readers[*index].is_due = true;
        }
        Ok(())
    }

    pub(super) fn has_positions_to_flush(&self) -> bool {
        let is_resting = self.last_flush_failure.is_some_and(|since| since.elapsed() < FLUSH_RETRY_DELAY);
        !is_resting && self.readers.iter().any(StreamReader::has_unflushed_position)
    }

    /// Nothing else is to be done: time for what there is only to pass over.
    pub(super) fn mark_deferred_due(&mut self) {
        let deferred = self.assignment.as_ref().map(PartitionAssignment::take_deferred).unwrap_or_default();
        for reader in &mut self.readers {
            reader.is_due |= deferred.contains(&reader.stream.source);
        }
    }
}
