//! Skipping: a reader skips message kinds it does not handle without opening a transaction (docs/decisions/0016).

use super::{Engine, Fault, assignment::PartitionAssignment, log, reader::StreamReader, stalls::StallReason};
use crate::ports::Stopwatch;
use std::time::Duration;

/// Delay before a failed flush of positions is retried.
const FLUSH_RETRY_DELAY: Duration = Duration::from_secs(1);

impl Engine {
    /// Skips the messages if the reader handles none of them. Returns true when it did.
    ///
    /// The new position is stored with the next delivery or at the next flush. Until then, an instance that takes this reader over skips
    /// the messages again.
    pub(super) fn skip(&mut self, index: usize, stored: &[log::StoredMessage]) -> bool {
        let reader = &self.readers[index];
        let Some(last) = stored.last().filter(|_| !stored.iter().any(|message| reader.handles(&message.kind))) else { return false };
        self.advance_to(index, last.position());
        true
    }

    /// Stores the positions of readers that skipped messages. Not urgent: locks are only probed, and a failure is retried after a delay.
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

    /// Stores each position alone, so that one failing reader does not block the others.
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
            // On Kafka, the first message of a new epoch may have waited for this.
            self.readers[*index].is_due = true;
        }
        Ok(())
    }

    pub(super) fn has_positions_to_flush(&self) -> bool {
        let is_resting = self.last_flush_failure.is_some_and(|since| since.elapsed() < FLUSH_RETRY_DELAY);
        !is_resting && self.readers.iter().any(StreamReader::has_unflushed_position)
    }

    /// Marks the readers that only have messages to skip. Called when no other work is left.
    pub(super) fn mark_deferred_due(&mut self) {
        let deferred = self.assignment.as_ref().map(PartitionAssignment::take_deferred).unwrap_or_default();
        for reader in &mut self.readers {
            reader.is_due |= deferred.contains(&reader.stream.source);
        }
    }
}
