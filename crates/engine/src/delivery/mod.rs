//! Delivery: readers catch up with their streams from their positions.
//!
//! All messages that wait for one service are delivered in one transaction, from any number of streams and partitions. If that fails, the
//! engine delivers reader by reader, then message by message.

mod batch;

use super::{
    fault::Fault, log::StoredMessage, readers::Readers, setup::EngineSetup, stalls::StallReason, transaction::Transaction, work::Work,
};
use crate::Service;
use batch::{DeliveryBatch, attempt_delivery, dead_letter_store};
use db::DbError;
use std::time::Duration;

/// Messages a reader takes in one transaction.
const FETCH_LIMIT: i64 = 500;
/// Rounds over all readers before commands run again, because readers far behind must not keep callers waiting.
const MAX_ROUNDS: u32 = 8;
/// Tries of a message that fails alone, one directly after the other, before it is set aside.
const MAX_TRIES: u32 = 3;
/// The same for a message whose statement takes longer than the server allows. Few, because each try takes that time.
const MAX_SLOW_TRIES: u32 = 2;
/// The same where each try met a conflict with another transaction. Such a failure is seldom the message's fault, so the limit is higher.
const MAX_CONFLICT_TRIES: u32 = 20;

/// State of the readers after a delivery pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryState {
    /// Nothing can be delivered now.
    CaughtUp,
    /// Messages are left after the last round.
    Behind,
    /// A delivery failed, and is to be retried shortly.
    Failed,
}

/// Result of one delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DeliveryOutcome {
    /// Nothing to do now: no messages, a gap, an outage, a locked row, or a message that a test holds back.
    Idle,
    Advanced,
    /// Failed; to be retried shortly.
    Retry,
}

/// The messages fetched for one reader.
struct Fetched {
    index: usize,
    stored: Vec<StoredMessage>,
    /// All waiting messages were fetched, and later ones cause a wake-up.
    is_drained: bool,
}

/// Delivers the messages that wait for the readers of an engine.
pub(super) struct Delivery<'e> {
    pub setup: &'e EngineSetup,
    pub readers: &'e mut Readers,
    pub transaction: &'e mut Transaction,
}

impl Delivery<'_> {
    /// Lets every reader catch up with its streams, within bounded rounds.
    pub fn deliver_all(&mut self) -> DeliveryState {
        for _ in 0..MAX_ROUNDS {
            self.readers.mark_due(self.transaction.heads());
            let (mut has_advanced, mut must_retry) = (false, false);
            for service in self.setup.services.iter() {
                match self.deliver_to(service.as_ref()) {
                    DeliveryOutcome::Advanced => has_advanced = true,
                    DeliveryOutcome::Retry => must_retry = true,
                    DeliveryOutcome::Idle => {}
                }
            }
            if must_retry {
                return DeliveryState::Failed;
            }
            if !has_advanced {
                return DeliveryState::CaughtUp;
            }
        }
        DeliveryState::Behind
    }

    /// Delivers everything that waits for a service in one transaction.
    fn deliver_to(&mut self, service: &dyn Service) -> DeliveryOutcome {
        let fetches = self.fetch_all(service.name()).into_iter();
        let (skipped, fetches): (Vec<Fetched>, Vec<Fetched>) =
            fetches.partition(|fetched| self.readers.skip(fetched.index, &fetched.stored));
        self.transaction.lock_budget().refill();
        let outcome = match fetches.as_slice() {
            [] if skipped.is_empty() => return DeliveryOutcome::Idle,
            [] => DeliveryOutcome::Advanced,
            [fetched] => self.deliver(fetched.index, &fetched.stored),
            many => match self.deliver_together(many) {
                Ok(()) => DeliveryOutcome::Advanced,
                Err(fault) => {
                    log_split(service.name(), &fault);
                    // Deliveries of single readers show which of them fails.
                    self.deliver_each(many)
                }
            },
        };
        if outcome == DeliveryOutcome::Advanced {
            for fetched in skipped.iter().chain(&fetches).filter(|fetched| fetched.is_drained) {
                self.readers.mark_drained(fetched.index, fetched.stored.last());
            }
        }
        outcome
    }

    /// Fetches the messages that each due reader of the service can deliver next.
    fn fetch_all(&mut self, service: &str) -> Vec<Fetched> {
        let readers = &mut *self.readers;
        let can_read = |index: &usize| {
            let reader = readers.get(*index);
            reader.is_due() && !reader.is_pausing() && reader.name() == service
        };
        let mut indices: Vec<usize> = (0..readers.count()).filter(can_read).collect();
        indices.sort_by_key(|index| readers.get(*index).stream().source);
        let mut fetches = Vec::with_capacity(indices.len());
        for (index, fetched) in futures::executor::block_on(readers.fetch(self.transaction.tx(), &indices, FETCH_LIMIT)) {
            match fetched {
                Ok(stored) => fetches.extend(self.limit_to_deliverable(index, stored)),
                Err(fault) => self.readers.mark_unreadable(index, &fault),
            }
        }
        fetches
    }

    /// Cuts the fetched messages down to those that can be delivered next. `None`: there are none.
    fn limit_to_deliverable(&mut self, index: usize, stored: Vec<StoredMessage>) -> Option<Fetched> {
        let count = stored.len();
        let mut stored = self.readers.cut_at_gap(index, stored);
        if self.readers.get(index).is_postponed() {
            // One message is enough to show whether the row is still locked, or the database still in trouble.
            stored.truncate(1);
        }
        self.cut_at_held(index, &mut stored);
        if stored.is_empty() {
            self.readers.mark_idle(index, self.setup.faults.has_held_messages());
            return None;
        }
        let is_all = stored.len() == count && count < usize::try_from(FETCH_LIMIT).unwrap_or(0);
        Some(Fetched { index, stored, is_drained: is_all && self.readers.wake_reliably() })
    }

    /// Cuts the messages before the first one that a test holds back.
    fn cut_at_held(&self, index: usize, stored: &mut Vec<StoredMessage>) {
        let reader = self.readers.get(index);
        let is_held = |message: &StoredMessage| reader.handles(&message.kind) && self.setup.faults.is_held(reader.name(), &message.kind);
        if let Some(at) = stored.iter().position(is_held) {
            stored.truncate(at);
        }
    }

    fn deliver_each(&mut self, fetches: &[Fetched]) -> DeliveryOutcome {
        let mut outcome = DeliveryOutcome::Idle;
        for fetched in fetches {
            match self.deliver(fetched.index, &fetched.stored) {
                // Positions may have been reloaded, so the remaining fetched messages may be outdated.
                DeliveryOutcome::Retry => return DeliveryOutcome::Retry,
                DeliveryOutcome::Advanced => outcome = DeliveryOutcome::Advanced,
                DeliveryOutcome::Idle => {}
            }
        }
        outcome
    }

    fn deliver(&mut self, index: usize, stored: &[StoredMessage]) -> DeliveryOutcome {
        if !self.readers.get(index).is_next(&stored[0]) {
            // Another try of this round moved the reader, or its reloaded position is a different one.
            return DeliveryOutcome::Retry;
        }
        if self.readers.skip(index, stored) {
            return DeliveryOutcome::Advanced;
        }
        match self.deliver_alone(index, stored) {
            Ok(()) => DeliveryOutcome::Advanced,
            Err(fault) => self.recover(index, stored, fault),
        }
    }

    /// Acts on a failed delivery of one reader: reloads positions, postpones, bisects, or counts a try.
    fn recover(&mut self, index: usize, stored: &[StoredMessage], fault: Fault) -> DeliveryOutcome {
        let reader = self.readers.get(index);
        let (name, stream, position) = (reader.name(), reader.stream(), reader.position().seq);
        match fault {
            fault @ (Fault::Fenced(_) | Fault::Db(DbError::Unknown)) if self.readers.are_shared() => {
                self.readers.reload(self.transaction.tx(), &fault);
                DeliveryOutcome::Retry
            }
            fault if fault.is_outage() || matches!(fault, Fault::Fenced(_)) => {
                // Not the message's fault: the failure does not count as a try.
                tracing::debug!(reader = name, ?stream, position, error = %fault, "delivery postponed");
                self.readers.postpone(index, StallReason::Outage, &fault);
                DeliveryOutcome::Idle
            }
            fault if fault.is_locked() && (stored.len() == 1 || self.transaction.lock_budget().is_exhausted()) => {
                self.readers.postpone(index, StallReason::Lock, &fault);
                DeliveryOutcome::Idle
            }
            fault if stored.len() > 1 => {
                log_split(name, &fault);
                self.deliver(index, &stored[..stored.len() / 2])
            }
            fault => self.retry_or_set_aside(index, &stored[0], &fault),
        }
    }

    fn deliver_together(&mut self, fetches: &[Fetched]) -> Result<(), Fault> {
        let batches: Vec<DeliveryBatch<'_>> =
            fetches.iter().map(|fetched| self.build_batch(fetched.index, &fetched.stored)).collect::<Result<_, _>>()?;
        self.deliver_batches(&batches)
    }

    fn deliver_alone(&mut self, index: usize, stored: &[StoredMessage]) -> Result<(), Fault> {
        let (batch, fold) = ([self.build_batch(index, stored)?], self.setup.settings.fold);
        match self.deliver_batches(&batch) {
            // A reader further down may have failed. Deliver the message without folding, and leave the messages it emits to the outbox.
            Err(fault) if stored.len() == 1 && fold && !fault.is_outage() => {
                attempt_delivery(self.setup, self.transaction, self.readers, &batch, false)
            }
            result => result,
        }
    }

    fn build_batch<'s>(&self, index: usize, stored: &'s [StoredMessage]) -> Result<DeliveryBatch<'s>, Fault> {
        DeliveryBatch::build(&self.setup.faults, self.readers, index, stored)
    }

    fn deliver_batches(&mut self, batches: &[DeliveryBatch<'_>]) -> Result<(), Fault> {
        let setup = self.setup;
        self.transaction.retry_on_conflict(self.readers, |transaction, readers| {
            attempt_delivery(setup, transaction, readers, batches, setup.settings.fold)
        })
    }

    /// Retries a message that fails alone. After the last try, sets it aside and parks its key, so that the stream continues.
    fn retry_or_set_aside(&mut self, index: usize, message: &StoredMessage, fault: &Fault) -> DeliveryOutcome {
        let (name, source) = (self.readers.get(index).name(), self.readers.get(index).stream().source);
        if self.readers.count_failure(index) < self.max_tries(fault) {
            tracing::warn!(reader = name, source, seq = message.seq, kind = message.kind, error = %fault, "delivery failed, retrying");
            return DeliveryOutcome::Retry;
        }
        if self.readers.retries().is_burst(name) {
            self.readers.postpone(index, StallReason::Burst, fault);
            return DeliveryOutcome::Idle;
        }
        match self.set_aside(index, message, fault) {
            Ok(()) => DeliveryOutcome::Advanced,
            Err(fault) if fault.is_locked() => {
                self.readers.postpone(index, StallReason::Lock, &fault);
                DeliveryOutcome::Idle
            }
            Err(fault) if fault.is_outage() || fault.is_slow() => {
                self.readers.postpone(index, StallReason::Outage, &fault);
                DeliveryOutcome::Idle
            }
            Err(error) => {
                tracing::error!(reader = name, source, seq = message.seq, %error, "failed message not set aside, retrying");
                DeliveryOutcome::Retry
            }
        }
    }

    /// Tries of a message that fails with this fault, before it is set aside.
    fn max_tries(&self, fault: &Fault) -> u32 {
        match fault {
            fault if self.readers.are_shared() && fault.is_conflict() => MAX_CONFLICT_TRIES,
            fault if fault.is_slow() => MAX_SLOW_TRIES,
            _ => MAX_TRIES,
        }
    }

    /// Stores a message among the dead letters, marked to be retried, and moves the reader past it.
    fn set_aside(&mut self, index: usize, message: &StoredMessage, fault: &Fault) -> Result<(), Fault> {
        let is_retried = self.readers.retries().are_enabled();
        let (name, source, error) = (self.readers.get(index).name(), self.readers.get(index).stream().source, fault.to_string());
        self.transaction.attempt(self.readers, &[], async |work: &mut Work, readers: &mut Readers| {
            let store = dead_letter_store(readers, index, work.now);
            match is_retried {
                true => store.set_aside(&mut work.tx, message, &error).await?,
                false => store.dead_letter(&mut work.tx, message, &error).await?,
            }
            readers.stage(index, message.position());
            Ok(())
        })?;
        self.readers.park(index, message.key);
        if is_retried {
            tracing::error!(reader = name, source, seq = message.seq, kind = message.kind, error, "message set aside, retrying later");
            metrics::counter!("onrush_messages_set_aside_total", "reader" => name).increment(1);
            self.readers.retries().count_failure((name, source.to_owned(), message.key), Duration::ZERO);
        } else {
            report_dead_letter(name, source, message.seq, &message.kind, &error);
        }
        Ok(())
    }
}

/// Logs and counts a new dead letter.
pub(super) fn report_dead_letter(reader: &'static str, source: &str, seq: i64, kind: &str, error: &str) {
    tracing::error!(reader, source, seq, kind, error, "message dead-lettered");
    metrics::counter!("onrush_dead_letters_total", "reader" => reader).increment(1);
}

/// Logs and counts a split, because splitting costs time and would hide its reason.
fn log_split(reader: &'static str, fault: &Fault) {
    tracing::debug!(reader, error = %fault, "delivery split");
    metrics::counter!("onrush_deliveries_split_total", "reader" => reader).increment(1);
}
