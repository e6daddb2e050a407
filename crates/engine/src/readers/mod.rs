//! The readers of an engine: their positions, wake-ups and stalls, and the partitions assigned to this instance.
//!
//! A position moves in two steps. A transaction *stages* it, and the end of the transaction *commits* or *rolls back* everything staged.
//! Skipped messages move it in memory only.

mod fetching;
mod lag;
mod opening;
mod partitions;
mod reader;

pub(super) use reader::StreamReader;

use super::{
    assignment::PartitionAssignment,
    fault::Fault,
    log::StoredMessage,
    notify::Notifications,
    position::{Position, PositionUpdate},
    retries::Retries,
    setup::Services,
    stalls::{StallReason, Stalls},
};
use std::{collections::HashMap, time::Duration};
use uuid::Uuid;

/// All readers of an engine. Only the methods of this module move them.
pub(super) struct Readers {
    services: Services,
    list: Vec<StreamReader>,
    stalls: Stalls,
    retries: Retries,
    /// `None`: this engine is the only one.
    assignment: Option<PartitionAssignment>,
}

impl Readers {
    /// Readers of no partition yet. Without `assignment` the engine is the only one.
    pub fn new(services: Services, assignment: Option<PartitionAssignment>, dead_letter_after: Duration) -> Readers {
        Readers { services, list: Vec::new(), stalls: Stalls::default(), retries: Retries::new(dead_letter_after), assignment }
    }

    pub fn count(&self) -> usize {
        self.list.len()
    }

    pub fn get(&self, index: usize) -> &StreamReader {
        &self.list[index]
    }

    pub fn iter(&self) -> impl Iterator<Item = &StreamReader> {
        self.list.iter()
    }

    /// The readers of one service.
    pub fn of<'r>(&'r self, service: &'r str) -> impl Iterator<Item = &'r StreamReader> {
        self.list.iter().filter(move |reader| reader.name() == service)
    }

    /// True when other instances may read the same streams and write the same tables.
    pub fn are_shared(&self) -> bool {
        self.assignment.is_some()
    }

    /// Channels to other instances. `None`: this engine is the only one.
    pub fn notifications(&self) -> Option<&Notifications> {
        self.assignment.as_ref().map(|assignment| &assignment.notifications)
    }
}

/// Positions.
impl Readers {
    /// Stages a position: it takes effect if the running transaction commits.
    pub fn stage(&mut self, index: usize, position: Position) {
        self.list[index].stage(position);
    }

    /// Stages the current position, to store messages skipped since the last commit.
    pub fn stage_current(&mut self, index: usize) {
        let position = self.list[index].position();
        self.stage(index, position);
    }

    /// The staged moves of one service's readers.
    pub fn staged_updates(&self, service: &str) -> Vec<PositionUpdate> {
        self.of(service).filter_map(StreamReader::staged_update).collect()
    }

    /// Moves the readers to their staged positions, because the transaction has committed.
    pub fn commit(&mut self) {
        for index in 0..self.list.len() {
            if let Some(position) = self.list[index].take_stored() {
                self.advance(index, position);
            }
        }
    }

    /// Drops all staged positions, because the transaction has rolled back.
    pub fn rollback(&mut self) {
        self.list.iter_mut().for_each(StreamReader::rollback);
    }

    /// Skips the messages if the reader handles none of them. Returns true when it did.
    ///
    /// The new position is stored with the next delivery or at the next flush. Until then, an instance that takes this reader over skips
    /// the messages again.
    pub fn skip(&mut self, index: usize, stored: &[StoredMessage]) -> bool {
        let reader = &self.list[index];
        let Some(last) = stored.last().filter(|_| !stored.iter().any(|message| reader.handles(&message.kind))) else { return false };
        self.advance(index, last.position());
        true
    }

    /// Moves a reader in memory, ends a stall that needed this progress, and releases the messages behind it from the consumer's buffer.
    fn advance(&mut self, index: usize, position: Position) {
        let reader = &mut self.list[index];
        if !reader.advance(position) {
            return;
        }
        self.stalls.on_progress(reader.reader_position());
        if let (Some(assignment), Some(offset)) = (&mut self.assignment, position.offset) {
            assignment.advance_past(reader.stream(), offset);
        }
    }
}

/// Due flags.
impl Readers {
    /// Marks the readers that may have messages. A sole writer knows from its heads; other engines know from wake-ups.
    pub fn mark_due(&mut self, heads: &HashMap<&'static str, i64>) {
        let woken = self.assignment.as_ref().map(PartitionAssignment::take_pending);
        for reader in &mut self.list {
            let source = reader.stream().source;
            match &woken {
                Some(woken) => reader.set_due(reader.is_due() || woken.contains(&source)),
                None => reader.set_due(reader.position().seq < heads.get(source).copied().unwrap_or(0)),
            }
        }
    }

    /// Marks every reader, even without a wake-up.
    pub fn mark_all_due(&mut self) {
        self.list.iter_mut().for_each(|reader| reader.set_due(true));
    }

    /// Marks the readers that only have messages to skip. Called when no other work is left.
    pub fn mark_deferred_due(&mut self) {
        let deferred = self.assignment.as_ref().map(PartitionAssignment::take_deferred).unwrap_or_default();
        for reader in &mut self.list {
            reader.set_due(reader.is_due() || deferred.contains(&reader.stream().source));
        }
    }

    /// True when a stream has new messages that its reader only skips.
    pub fn has_deferred(&self) -> bool {
        self.assignment.as_ref().is_some_and(PartitionAssignment::has_deferred)
    }

    /// Marks one reader, because its next message waited for a flush.
    pub fn wake(&mut self, index: usize) {
        self.list[index].set_due(true);
    }

    /// Clears the due flag of a reader without a message to deliver. A message that a test holds back is looked at again shortly.
    pub fn mark_idle(&mut self, index: usize, is_held_back: bool) {
        self.list[index].set_due(is_held_back);
    }

    /// Clears the due flag of a reader that has delivered all that waited. Messages written since then cause a new wake-up.
    pub fn mark_drained(&mut self, index: usize, last_fetched: Option<&StoredMessage>) {
        let reader = &mut self.list[index];
        reader.set_due(last_fetched.is_some_and(|message| message.seq > reader.position().seq));
    }

    /// True when every later message causes a wake-up. Kafka wakes only for the first message of an empty buffer.
    pub fn wake_reliably(&self) -> bool {
        self.assignment.as_ref().is_some_and(|assignment| !assignment.reads_kafka())
    }
}

/// Failures.
impl Readers {
    /// Counts a failed try of a reader's next message. Returns the number of tries.
    pub fn count_failure(&mut self, index: usize) -> u32 {
        self.list[index].count_failure()
    }

    /// Parks a key behind a dead letter that has just been stored.
    pub fn park(&mut self, index: usize, key: Uuid) {
        self.list[index].park(key);
    }

    /// The failures of messages that were set aside.
    pub fn retries(&mut self) -> &mut Retries {
        &mut self.retries
    }

    /// Postpones a reader whose next message cannot be acted on now: it meets a locked row, the database is in trouble, or too many
    /// messages fail.
    ///
    /// This is not the message's fault, so it does not count as a try. The messages behind it wait, too: those of its key must not
    /// overtake it, and a position has no holes.
    pub fn postpone(&mut self, index: usize, reason: StallReason, fault: &Fault) {
        self.list[index].postpone(reason == StallReason::Lock);
        self.report_stall(index, reason, &fault.to_string());
    }

    /// Postpones a reader whose source does not answer to the next tick. Wake-ups in between do not mean that it answers again.
    pub fn mark_unreadable(&mut self, index: usize, fault: &Fault) {
        self.list[index].set_due(false);
        self.report_stall(index, StallReason::Source, &fault.to_string());
    }

    pub fn report_stall(&mut self, index: usize, reason: StallReason, details: &str) {
        self.stalls.report(self.list[index].reader_position(), reason, details);
    }

    /// Cuts the messages before the first missing sequence number. A gap stops the reader and is reported as a stall; it is never skipped.
    pub fn cut_at_gap(&mut self, index: usize, mut stored: Vec<StoredMessage>) -> Vec<StoredMessage> {
        let has_later = !stored.is_empty() || !self.are_shared();
        let reader = &self.list[index];
        let (at, position) = (reader.reader_position(), reader.position().seq);
        if reader.is_request_log() {
            // Request logs have no gaps to find: Kafka reports messages it lost, and offsets it leaves out belong to no message.
            self.stalls.clear_if_recovered(at, !stored.is_empty());
            return stored;
        }
        let dense = stored.iter().zip(position + 1..).take_while(|(message, seq)| message.seq == *seq).count();
        if dense > 0 || !has_later {
            self.stalls.clear_if_recovered(at, dense > 0);
        } else {
            let next = position + 1;
            let found = stored.first().map_or_else(|| "nothing".to_owned(), |message| format!("number {}", message.seq));
            let reason = match position {
                0 => format!("nothing is read yet and {found} is the oldest message kept; a new reader can be told to begin there"),
                _ => format!("number {next} is missing; {found} comes next"),
            };
            self.stalls.report(at, StallReason::Gap, &reason);
        }
        stored.truncate(dense);
        stored
    }
}
