//! Flushing: stores the positions of readers that skipped messages. Skipping opens no transaction (docs/decisions/0016).

use super::{fault::Fault, readers::Readers, stalls::StallReason, transaction::Transaction, work::Work};
use runtime::ports::Stopwatch;
use std::time::Duration;

/// Delay before a failed flush of positions is retried.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Stores positions behind skipped messages. Not urgent: locks are only probed, and a failure is retried after a delay.
#[derive(Default)]
pub(super) struct PositionFlush {
    /// Time since the last failed flush.
    last_failure: Option<Stopwatch>,
}

impl PositionFlush {
    /// True when a reader has skipped messages, and no flush has failed a moment ago.
    pub fn is_due(&self, readers: &Readers) -> bool {
        let is_resting = self.last_failure.is_some_and(|since| since.elapsed() < RETRY_DELAY);
        !is_resting && readers.iter().any(|reader| reader.has_unflushed_position())
    }

    /// Stores the positions in one transaction, or after a failure each alone.
    pub fn flush(&mut self, readers: &mut Readers, transaction: &mut Transaction) {
        if !self.is_due(readers) {
            return;
        }
        let unflushed: Vec<usize> = (0..readers.count()).filter(|index| readers.get(*index).has_unflushed_position()).collect();
        transaction.lock_budget().probe_only();
        let Err(fault) = store_positions(readers, transaction, &unflushed) else {
            self.last_failure = None;
            return;
        };
        self.last_failure = Some(Stopwatch::start());
        if !fault.is_outage() {
            flush_each(readers, transaction, &unflushed);
        }
    }
}

/// Stores each position alone, so that one failing reader does not block the others.
fn flush_each(readers: &mut Readers, transaction: &mut Transaction, unflushed: &[usize]) {
    for index in unflushed {
        match store_positions(readers, transaction, &[*index]) {
            Ok(()) => {}
            Err(fault @ Fault::Fenced(_)) if readers.are_shared() => return readers.reload(transaction.tx(), &fault),
            Err(fault) if fault.is_locked() => readers.report_stall(*index, StallReason::Lock, &fault.to_string()),
            Err(fault) => {
                let reader = readers.get(*index);
                tracing::warn!(reader = reader.name(), stream = ?reader.stream(), error = %fault, "position flush failed, retrying");
            }
        }
    }
}

fn store_positions(readers: &mut Readers, transaction: &mut Transaction, unflushed: &[usize]) -> Result<(), Fault> {
    transaction.retry_on_conflict(readers, |transaction, readers| {
        transaction.attempt(readers, &[], async |_: &mut Work, readers: &mut Readers| {
            unflushed.iter().for_each(|index| readers.stage_current(*index));
            Ok(())
        })
    })?;
    // On Kafka, the first message of a new epoch may have waited for this.
    unflushed.iter().for_each(|index| readers.wake(*index));
    Ok(())
}
