//! Delivery: readers catch up with their streams from their positions.
//!
//! All messages that wait for one service are delivered in one transaction, from any number of streams and partitions. If that fails, the
//! engine delivers reader by reader, then message by message.

use super::{
    Engine, Envelope, Fault,
    assignment::PartitionAssignment,
    dead_letters, log,
    reader::{Position, StreamReader},
    stalls::{StallReason, Stalls},
    writer::TICK,
};
use crate::{failpoints::FaultAction, ports::Stopwatch, service::Service};
use std::{sync::Arc, time::Duration};

/// Messages a reader takes in one transaction.
const FETCH_LIMIT: i64 = 500;
/// Rounds over all readers before commands run again, because readers far behind must not keep callers waiting.
const MAX_ROUNDS: u32 = 8;
/// Tries of a message that fails alone, before it becomes a dead letter.
const MAX_TRIES: u32 = 3;
/// The same where each try met a conflict with another transaction. Such a failure is seldom the message's fault, so the limit is higher.
const MAX_CONFLICT_TRIES: u32 = 20;
/// Delay before a failed delivery is retried.
const RETRY_DELAY: Duration = Duration::from_millis(50);
/// The same where another transaction holds a lock. It is longer because callers wait during each try.
const LOCK_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Idle time after which readers catch up with messages they only skip, and positions are flushed.
const QUIET_PERIOD: Duration = Duration::from_millis(20);

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
    stored: Vec<log::StoredMessage>,
    /// All waiting messages were fetched, and later ones cause a wake-up.
    is_drained: bool,
}

/// The messages that one reader delivers in a transaction, up to `last`. The parked ones wait behind a dead letter.
struct DeliveryBatch<'s> {
    index: usize,
    last: Position,
    messages: Vec<Envelope>,
    parked: Vec<&'s log::StoredMessage>,
    names: Vec<String>,
}

impl Engine {
    /// Lets every reader catch up with its streams. Returns the time the writer may wait for commands before it calls this again.
    pub(super) fn deliver_all(&mut self) -> Duration {
        for _ in 0..MAX_ROUNDS {
            self.mark_due();
            let (mut has_advanced, mut must_retry) = (false, false);
            for service in self.services.clone() {
                match self.deliver_to(&service) {
                    DeliveryOutcome::Advanced => has_advanced = true,
                    DeliveryOutcome::Retry => must_retry = true,
                    DeliveryOutcome::Idle => {}
                }
            }
            if must_retry {
                return RETRY_DELAY;
            }
            if !has_advanced {
                return if self.faults.has_held_messages() {
                    RETRY_DELAY
                } else if self.has_positions_to_flush() || self.assignment.as_ref().is_some_and(PartitionAssignment::has_deferred) {
                    QUIET_PERIOD
                } else {
                    TICK
                };
            }
        }
        Duration::ZERO
    }

    /// Marks the readers that may have messages. A sole writer knows from its heads; other engines know from wake-ups.
    fn mark_due(&mut self) {
        let pending = self.assignment.as_ref().map(|assignment| assignment.take_pending());
        for reader in &mut self.readers {
            match &pending {
                Some(pending) => reader.is_due |= pending.contains(&reader.stream.source),
                None => reader.is_due = reader.position.seq < self.heads.get(reader.stream.source).copied().unwrap_or(0),
            }
        }
    }

    /// Marks every reader, even without a wake-up.
    pub(super) fn mark_all_due(&mut self) {
        for reader in &mut self.readers {
            reader.is_due = true;
        }
    }

    /// Delivers everything that waits for a service in one transaction.
    fn deliver_to(&mut self, service: &Arc<dyn Service>) -> DeliveryOutcome {
        let fetches = self.fetch_all(service).into_iter();
        let (skipped, fetches): (Vec<Fetched>, Vec<Fetched>) = fetches.partition(|fetched| self.skip(fetched.index, &fetched.stored));
        self.lock_budget.refill();
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
            skipped.iter().chain(&fetches).for_each(|fetched| self.mark_drained(fetched));
        }
        outcome
    }

    /// Clears the due flag of a reader that has delivered all that waited. Messages written since then cause a new wake-up.
    fn mark_drained(&mut self, fetched: &Fetched) {
        let reader = &mut self.readers[fetched.index];
        if fetched.is_drained {
            reader.is_due = fetched.stored.last().is_some_and(|message| message.seq > reader.position.seq);
        }
    }

    /// Reloads the readers' positions from the database, because another instance moved them.
    pub(super) fn reload_readers(&mut self, fault: &Fault) {
        let name = self.services[0].name();
        tracing::warn!(reader = name, error = %fault, "positions outdated, reloading");
        if let Err(fault) = futures::executor::block_on(self.reopen_readers()) {
            tracing::error!(reader = name, error = %fault, "position reload failed");
        }
    }

    /// Fetches the messages that each due reader of the service can deliver next.
    fn fetch_all(&mut self, service: &Arc<dyn Service>) -> Vec<Fetched> {
        let is_resting = |reader: &StreamReader| reader.locked_since.is_some_and(|since| since.elapsed() < LOCK_RETRY_DELAY);
        let is_due = |reader: &StreamReader| reader.is_due && !is_resting(reader) && reader.service.name() == service.name();
        let mut indices: Vec<usize> = (0..self.readers.len()).filter(|index| is_due(&self.readers[*index])).collect();
        indices.sort_by_key(|index| self.readers[*index].stream.source);
        let mut fetches = Vec::with_capacity(indices.len());
        for (index, fetched) in futures::executor::block_on(self.fetch(&indices, FETCH_LIMIT)) {
            match fetched {
                Ok(fetched) => {
                    let count = fetched.len();
                    let stored = self.limit_to_deliverable(index, fetched);
                    match stored.is_empty() {
                        // A message that a test holds back is looked at again shortly.
                        true => self.readers[index].is_due = self.faults.has_held_messages(),
                        false => {
                            let is_drained =
                                self.wakes_reliably() && stored.len() == count && count < usize::try_from(FETCH_LIMIT).unwrap_or(0);
                            fetches.push(Fetched { index, stored, is_drained });
                        }
                    }
                }
                Err(fault) => {
                    let reader = &mut self.readers[index];
                    // Retried at the next tick. Wake-ups in between do not mean that the source answers again.
                    reader.is_due = false;
                    self.stalls.report(reader.reader_position(), StallReason::Source, &fault.to_string());
                }
            }
        }
        fetches
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

    /// True when every later message causes a wake-up. Kafka wakes only for the first message of an empty buffer.
    fn wakes_reliably(&self) -> bool {
        self.assignment.as_ref().is_some_and(|assignment| assignment.consumer.is_none())
    }

    /// Cuts the fetched messages down to those that can be delivered next.
    fn limit_to_deliverable(&mut self, index: usize, stored: Vec<log::StoredMessage>) -> Vec<log::StoredMessage> {
        let has_later = !stored.is_empty() || self.assignment.is_none();
        let mut stored = cut_at_gap(&self.readers[index], stored, has_later, &mut self.stalls);
        if self.readers[index].locked_since.is_some() {
            // One message is enough to show whether the row is still locked.
            stored.truncate(1);
        }
        self.cut_at_held(index, stored)
    }

    fn deliver(&mut self, index: usize, stored: &[log::StoredMessage]) -> DeliveryOutcome {
        let reader = &self.readers[index];
        if reader.position.seq + 1 != stored[0].seq && !(reader.is_request_log && stored[0].seq > reader.position.seq) {
            // Another try of this round moved the reader, or its reloaded position is a different one.
            return DeliveryOutcome::Retry;
        }
        if self.skip(index, stored) {
            return DeliveryOutcome::Advanced;
        }
        let reader = &self.readers[index];
        let (name, stream, position) = (reader.service.name(), reader.stream, reader.position.seq);
        match self.deliver_alone(index, stored) {
            Ok(()) => DeliveryOutcome::Advanced,
            Err(fault @ (Fault::Fenced(_) | Fault::Db(crate::DbError::Unknown))) if self.assignment.is_some() => {
                self.reload_readers(&fault);
                DeliveryOutcome::Retry
            }
            Err(fault) if fault.is_outage() || matches!(fault, Fault::Fenced(_)) => {
                // Not the message's fault: the failure does not count as a try.
                tracing::error!(reader = name, ?stream, position, error = %fault, "delivery postponed");
                DeliveryOutcome::Idle
            }
            Err(fault) if fault.is_locked() && (stored.len() == 1 || self.lock_budget.is_exhausted()) => self.mark_locked(index, &fault),
            Err(fault) if stored.len() > 1 => {
                log_split(name, &fault);
                self.deliver(index, &stored[..stored.len() / 2])
            }
            Err(fault) => self.retry_or_dead_letter(index, &stored[0], &fault),
        }
    }

    /// Postpones a reader whose next message meets a locked row.
    ///
    /// This is not the message's fault, so it does not count as a try. The messages behind it wait, too: those of its key must not
    /// overtake it, and a position has no holes.
    fn mark_locked(&mut self, index: usize, fault: &Fault) -> DeliveryOutcome {
        let reader = &mut self.readers[index];
        reader.locked_since = Some(Stopwatch::start());
        self.stalls.report(reader.reader_position(), StallReason::Lock, &fault.to_string());
        DeliveryOutcome::Idle
    }

    /// Cuts the messages before the first one that a test holds back.
    fn cut_at_held(&self, index: usize, mut stored: Vec<log::StoredMessage>) -> Vec<log::StoredMessage> {
        let reader = &self.readers[index];
        let name = reader.service.name();
        if let Some(at) = stored.iter().position(|message| reader.handles(&message.kind) && self.faults.is_held(name, &message.kind)) {
            stored.truncate(at);
        }
        stored
    }

    fn deliver_together(&mut self, fetches: &[Fetched]) -> Result<(), Fault> {
        let batches: Vec<DeliveryBatch<'_>> =
            fetches.iter().map(|fetched| self.build_batch(fetched.index, &fetched.stored)).collect::<Result<_, _>>()?;
        self.retry_on_conflict(|engine| engine.attempt_delivery(&batches, engine.settings.fold))
    }

    fn deliver_alone(&mut self, index: usize, stored: &[log::StoredMessage]) -> Result<(), Fault> {
        let batch = [self.build_batch(index, stored)?];
        let result = self.retry_on_conflict(|engine| engine.attempt_delivery(&batch, engine.settings.fold));
        match result {
            // A reader further down may have failed. Deliver the message without folding, and leave the messages it emits to the outbox.
            Err(fault) if stored.len() == 1 && self.settings.fold && !fault.is_outage() => self.attempt_delivery(&batch, false),
            result => result,
        }
    }

    fn build_batch<'s>(&self, index: usize, stored: &'s [log::StoredMessage]) -> Result<DeliveryBatch<'s>, Fault> {
        let reader = &self.readers[index];
        let name = reader.service.name();
        let last = stored.last().map_or(reader.position, log::StoredMessage::position);
        let mut batch = DeliveryBatch { index, last, messages: Vec::with_capacity(stored.len()), parked: Vec::new(), names: Vec::new() };
        for message in stored.iter().filter(|message| reader.handles(&message.kind)) {
            if reader.parked_keys.contains(&message.key) {
                batch.parked.push(message);
                continue;
            }
            if cfg!(feature = "testing") {
                batch.names.push(format!("{name}.{}", message.kind));
            }
            let envelope = message.decode(reader.stream.source)?;
            match self.faults.next_action(name, &message.kind) {
                FaultAction::Pass => batch.messages.push(envelope),
                FaultAction::Repeat => batch.messages.extend([envelope.clone(), envelope]),
                FaultAction::Fail => return Err(Fault::Injected(format!("{name} fails {}", message.kind))),
            }
        }
        Ok(batch)
    }

    /// Delivers the batches of one service in one transaction.
    fn attempt_delivery(&mut self, batches: &[DeliveryBatch<'_>], fold: bool) -> Result<(), Fault> {
        let Some(first) = batches.first() else { return Ok(()) };
        let service = Arc::clone(&self.readers[first.index].service);
        let names: Vec<String> = batches.iter().flat_map(|batch| batch.names.iter().cloned()).collect();
        self.attempt(
            async |engine: &mut Engine| {
                for batch in batches {
                    let store = engine.dead_letter_store(batch.index);
                    for message in &batch.parked {
                        store.park(&mut engine.work.tx, message).await?;
                    }
                    engine.readers[batch.index].pending = Some(batch.last);
                }
                let messages: Vec<&Envelope> = batches.iter().flat_map(|batch| &batch.messages).collect();
                if !messages.is_empty() {
                    engine.dispatch(service.as_ref(), &messages).await?;
                }
                if fold {
                    engine.fold().await?;
                }
                engine.flush_services().await
            },
            &names,
        )
    }

    fn dead_letter_store(&self, index: usize) -> dead_letters::DeadLetterStore {
        let reader = &self.readers[index];
        dead_letters::DeadLetterStore { reader: reader.service.name(), stream: reader.stream, now: self.work.now }
    }

    /// Retries a message that fails alone. After the last try, stores it as a dead letter and parks its key, so that the stream
    /// continues.
    fn retry_or_dead_letter(&mut self, index: usize, message: &log::StoredMessage, fault: &Fault) -> DeliveryOutcome {
        let is_conflict = self.assignment.is_some() && fault.is_conflict();
        let reader = &mut self.readers[index];
        let (name, source) = (reader.service.name(), reader.stream.source);
        reader.tries += 1;
        let tries = if is_conflict { MAX_CONFLICT_TRIES } else { MAX_TRIES };
        if reader.tries < tries {
            tracing::warn!(reader = name, source, seq = message.seq, kind = message.kind, error = %fault, "delivery failed, retrying");
            return DeliveryOutcome::Retry;
        }
        let error = fault.to_string();
        let dead_lettered = self.attempt(
            async |engine: &mut Engine| {
                engine.dead_letter_store(index).dead_letter(&mut engine.work.tx, message, &error).await?;
                engine.readers[index].pending = Some(message.position());
                Ok(())
            },
            &[],
        );
        match dead_lettered {
            Ok(()) => {
                tracing::error!(reader = name, source, seq = message.seq, kind = message.kind, error, "message dead-lettered");
                metrics::counter!("onrush_dead_letters_total", "reader" => name).increment(1);
                self.readers[index].parked_keys.insert(message.key);
                DeliveryOutcome::Advanced
            }
            Err(fault) if fault.is_locked() => self.mark_locked(index, &fault),
            Err(error) => {
                tracing::error!(reader = name, source, seq = message.seq, %error, "dead letter not stored, retrying");
                DeliveryOutcome::Retry
            }
        }
    }
}

/// Logs and counts a split, because splitting costs time and would hide its reason.
fn log_split(reader: &'static str, fault: &Fault) {
    tracing::debug!(reader, error = %fault, "delivery split");
    metrics::counter!("onrush_deliveries_split_total", "reader" => reader).increment(1);
}

/// Cuts the messages before the first missing sequence number. A gap stops the reader and is reported as a stall; it is never skipped.
fn cut_at_gap(reader: &StreamReader, mut stored: Vec<log::StoredMessage>, has_later: bool, stalls: &mut Stalls) -> Vec<log::StoredMessage> {
    if reader.is_request_log {
        // Request logs have no gaps to find: Kafka reports messages it lost, and offsets it leaves out belong to no message.
        stalls.clear_if_recovered(reader.reader_position(), !stored.is_empty());
        return stored;
    }
    let dense = stored.iter().zip(reader.position.seq + 1..).take_while(|(message, seq)| message.seq == *seq).count();
    if dense > 0 || !has_later {
        stalls.clear_if_recovered(reader.reader_position(), dense > 0);
    } else {
        let next = reader.position.seq + 1;
        let found = stored.first().map_or_else(|| "nothing".to_owned(), |message| format!("number {}", message.seq));
        let reason = match reader.position.seq {
            0 => format!("nothing is read yet and {found} is the oldest message kept; a new reader can be told to begin there"),
            _ => format!("number {next} is missing; {found} comes next"),
        };
        stalls.report(reader.reader_position(), StallReason::Gap, &reason);
    }
    stored.truncate(dense);
    stored
}
