//! A reader: one service's position in one partition of one stream.

use super::{StreamPartition, log};
use crate::{engine::Service, ports::Stopwatch};
use contracts::Message;
use std::{collections::HashSet, sync::Arc};
use uuid::Uuid;

/// One service's reader of one partition of one stream.
pub(super) struct StreamReader {
    pub service: Arc<dyn Service>,
    pub stream: StreamPartition,
    pub kinds: HashSet<&'static str>,
    /// SQL expression for the message data that this reader needs.
    pub data_sql: String,
    /// The stream is a log of client requests. Kafka numbers it, and leaves out numbers.
    pub is_request_log: bool,
    /// The last message behind the reader: delivered by a committed transaction, or skipped since.
    pub position: Position,
    /// Sequence number of the position in the service's tables. It does not include messages skipped since.
    pub stored_position: i64,
    /// The position to store when the running transaction commits.
    pub pending: Option<Position>,
    pub parked_keys: HashSet<Uuid>,
    /// Failed tries of the next message.
    pub tries: u32,
    /// Messages may be waiting.
    pub is_due: bool,
    /// Time since the next message was last found to need a locked row.
    pub locked_since: Option<Stopwatch>,
}

/// Position of a message in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub seq: i64,
    /// The message's offset. `None`: the message does not come from Kafka.
    pub offset: Option<i64>,
}

impl Position {
    pub const START: Position = Position { seq: 0, offset: None };
}

impl StreamReader {
    /// True when the reader has skipped messages and its new position is not stored yet.
    pub fn has_unflushed_position(&self) -> bool {
        self.position.seq != self.stored_position
    }

    /// True for kinds that the service acts on, and for unknown kinds, which must never be skipped.
    pub fn handles(&self, kind: &str) -> bool {
        handles(&self.kinds, kind)
    }
}

pub(super) fn handles(kinds: &HashSet<&'static str>, kind: &str) -> bool {
    kinds.contains(kind) || !Message::TABLE.iter().any(|(known, ..)| *known == kind)
}

/// SQL expression for the data column: empty for kinds that a reader of `kinds` skips.
pub(super) fn data_sql_for(kinds: &HashSet<&'static str>, source: &str) -> String {
    let skipped: Vec<String> = Message::TABLE
        .iter()
        .filter(|(kind, from, _)| *from == source && !kinds.contains(kind))
        .map(|(kind, ..)| format!("'{kind}'"))
        .collect();
    if skipped.is_empty() { log::FULL_DATA.to_owned() } else { format!("case when kind in ({}) then '' else data end", skipped.join(",")) }
}

/// The streams a service reads, with the kinds it acts on.
pub(crate) fn sources(service: &dyn Service) -> Vec<(&'static str, HashSet<&'static str>)> {
    let mut found: Vec<(&'static str, HashSet<&'static str>)> = Vec::new();
    for (kind, source, _) in Message::TABLE {
        if !service.acts_on(kind) {
            continue;
        }
        match found.iter_mut().find(|(name, _)| name == source) {
            Some((_, kinds)) => {
                kinds.insert(kind);
            }
            None => found.push((source, HashSet::from([*kind]))),
        }
    }
    found
}
