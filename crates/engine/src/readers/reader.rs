//! One service's reader of one partition of one stream.
//!
//! Its fields change only by the methods of this file, which keep them consistent.

use super::super::{
    log::StoredMessage,
    position::{Position, PositionUpdate, StreamPartition},
    stalls::ReaderPosition,
    subscriptions::{data_sql_for, handles},
};
use crate::Service;
use contracts::messages;
use runtime::{backoff::Backoff, ports::Stopwatch};
use std::{collections::HashSet, sync::Arc, time::Duration};
use uuid::Uuid;

/// Delay before a message that needs a locked row is tried again. Longer than after other failures, because callers wait during each try.
const LOCK_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Pauses between tries while the database is in trouble. Short, because orders wait; growing, because each try adds to the trouble.
const OUTAGE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));

/// The pause before the next message is tried again.
#[derive(Clone, Copy)]
struct Postponement {
    since: Stopwatch,
    pause: Duration,
    /// Postponements of the same message.
    times: u32,
}

/// One service's reader of one partition of one stream.
pub(crate) struct StreamReader {
    service: Arc<dyn Service>,
    stream: StreamPartition,
    kinds: HashSet<&'static str>,
    /// SQL expression for the message data that this reader needs.
    data_sql: String,
    /// The stream is a log of client requests. Kafka numbers it, and leaves out numbers.
    is_request_log: bool,
    /// The last message behind the reader: delivered by a committed transaction, or skipped since.
    position: Position,
    /// Sequence number of the position in the service's tables. It does not include messages skipped since.
    stored_position: i64,
    /// The position to store when the running transaction commits.
    pending: Option<Position>,
    parked_keys: HashSet<Uuid>,
    /// Failed tries of the next message.
    tries: u32,
    /// Messages may be waiting.
    is_due: bool,
    /// The next message could not be acted on, through no fault of its own.
    postponement: Option<Postponement>,
}

impl StreamReader {
    /// A reader at the start of a partition. Its stored position is not loaded yet.
    pub(super) fn new(service: Arc<dyn Service>, stream: StreamPartition, kinds: HashSet<&'static str>) -> StreamReader {
        StreamReader {
            service,
            stream,
            data_sql: data_sql_for(&kinds, stream.source),
            kinds,
            is_request_log: messages::REQUEST_LOGS.contains(&stream.source),
            position: Position::START,
            stored_position: 0,
            pending: None,
            parked_keys: HashSet::new(),
            tries: 0,
            is_due: true,
            postponement: None,
        }
    }

    pub fn service(&self) -> &Arc<dyn Service> {
        &self.service
    }

    /// Name of the reading service.
    pub fn name(&self) -> &'static str {
        self.service.name()
    }

    pub fn stream(&self) -> StreamPartition {
        self.stream
    }

    pub fn position(&self) -> Position {
        self.position
    }

    pub fn stored_position(&self) -> i64 {
        self.stored_position
    }

    /// The reader and its position, for reports.
    pub fn reader_position(&self) -> ReaderPosition {
        ReaderPosition { reader: self.name(), stream: self.stream, position: self.position.seq }
    }

    /// The staged position, or the current one when none is staged.
    pub fn reached(&self) -> Position {
        self.pending.unwrap_or(self.position)
    }

    /// The staged move to store with the running transaction. `None`: the transaction does not move this reader.
    pub fn staged_update(&self) -> Option<PositionUpdate> {
        Some(PositionUpdate { stream: self.stream, from: self.stored_position, to: self.pending? })
    }

    /// True when the reader has skipped messages and its new position is not stored yet.
    pub fn has_unflushed_position(&self) -> bool {
        self.position.seq != self.stored_position
    }

    pub fn is_due(&self) -> bool {
        self.is_due
    }

    /// True when the next message was postponed, and the reader has not advanced since.
    pub fn is_postponed(&self) -> bool {
        self.postponement.is_some()
    }

    /// True until the next message may be tried again.
    pub fn is_pausing(&self) -> bool {
        self.postponement.is_some_and(|postponed| postponed.since.elapsed() < postponed.pause)
    }

    pub fn is_request_log(&self) -> bool {
        self.is_request_log
    }

    pub fn data_sql(&self) -> &str {
        &self.data_sql
    }

    /// True for kinds that the service acts on, and for unknown kinds, which must never be skipped.
    pub fn handles(&self, kind: &str) -> bool {
        handles(&self.kinds, kind)
    }

    /// True for kinds that the service acts on.
    pub fn subscribes_to(&self, kind: &str) -> bool {
        self.kinds.contains(kind)
    }

    /// True when messages of this key wait behind a dead letter.
    pub fn is_parked(&self, key: Uuid) -> bool {
        self.parked_keys.contains(&key)
    }

    /// True when this message can be delivered next.
    pub fn is_next(&self, message: &StoredMessage) -> bool {
        self.position.seq + 1 == message.seq || self.is_request_log && message.seq > self.position.seq
    }

    /// Takes over the state from the service's tables, and forgets everything since.
    pub(super) fn load(&mut self, position: Position, parked_keys: HashSet<Uuid>) {
        (self.position, self.stored_position, self.pending) = (position, position.seq, None);
        self.parked_keys = parked_keys;
        (self.tries, self.is_due, self.postponement) = (0, true, None);
    }

    /// Sets the epoch in which the reader was last, before its position is loaded.
    pub(super) fn set_epoch(&mut self, epoch: i64) {
        self.stream.epoch = epoch;
    }

    /// Begins a new epoch of the stream, whose database was moved or restored.
    pub(super) fn begin_epoch(&mut self, epoch: i64) {
        let StreamPartition { source, epoch: before, partition } = self.stream;
        // Only the sender's tables show whether this was the last message of the old epoch. The audit compares them.
        tracing::warn!(reader = self.name(), source, partition, epoch, before, read_to = self.position.seq, "new epoch begun");
        self.stream.epoch = epoch;
        self.position = Position { seq: 0, ..self.position };
        self.stored_position = 0;
    }

    pub(super) fn stage(&mut self, position: Position) {
        self.pending = Some(position);
    }

    pub(super) fn rollback(&mut self) {
        self.pending = None;
    }

    /// Takes the staged position, which is stored now. `None`: the transaction did not move this reader.
    pub(super) fn take_stored(&mut self) -> Option<Position> {
        let position = self.pending.take()?;
        self.stored_position = position.seq;
        Some(position)
    }

    /// Moves the reader, and forgets tries and postponements of the message behind it. Returns false when the reader is already there.
    pub(super) fn advance(&mut self, position: Position) -> bool {
        if self.position == position {
            return false;
        }
        (self.position, self.tries, self.postponement) = (position, 0, None);
        true
    }

    pub(super) fn set_due(&mut self, is_due: bool) {
        self.is_due = is_due;
    }

    pub(super) fn park(&mut self, key: Uuid) {
        self.parked_keys.insert(key);
    }

    pub(super) fn set_parked_keys(&mut self, keys: HashSet<Uuid>) {
        self.parked_keys = keys;
    }

    /// Counts a failed try of the next message. Returns the number of tries.
    pub(super) fn count_failure(&mut self) -> u32 {
        self.tries += 1;
        self.tries
    }

    /// Postpones the next message. A lock is looked at once a second; after other trouble the pauses grow.
    pub(super) fn postpone(&mut self, is_locked: bool) {
        let times = self.postponement.map_or(0, |before| before.times);
        let pause = if is_locked { LOCK_RETRY_DELAY } else { OUTAGE_BACKOFF.equal_jitter(times) };
        self.postponement = Some(Postponement { since: Stopwatch::start(), pause, times: times.saturating_add(1) });
    }
}
