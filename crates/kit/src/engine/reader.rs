//! One reader.

use super::{StreamPartition, log};
use crate::{ports::Stopwatch, service::Service};
use contracts::Message;
use std::{collections::HashSet, sync::Arc};
use uuid::Uuid;

/// One service's reading of one partition of one stream.
pub(super) struct StreamReader {
    pub service: Arc<dyn Service>,
    pub stream: StreamPartition,
    pub kinds: HashSet<&'static str>,
    /// What of the messages it reads, in SQL.
    pub data_sql: String,
    /// Callers' requests: numbered by Kafka, which leaves numbers out when it likes.
    pub is_request_log: bool,
    /// The last message that is behind it: settled by a committed transaction, or passed over since.
    pub position: Position,
    /// The same as its service's tables have it: they do not know yet what was passed over since.
    pub stored_position: i64,
    /// Where the running transaction takes it, if it does.
    pub pending: Option<Position>,
    pub parked_keys: HashSet<Uuid>,
    /// Failed tries of the message right behind `position`.
    pub tries: u32,
    /// Something may wait.
    pub is_due: bool,
    /// When the message right behind `position` was last found to want what somebody else has locked.
    pub locked_since: Option<Stopwatch>,
}

/// A message in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub seq: i64,
    /// Where on Kafka it is.
    pub offset: Option<i64>,
}

impl Position {
    pub const START: Position = Position { seq: 0, offset: None };
}

impl StreamReader {
    /// Whether it passed over messages that its service's tables do not know of.
    pub fn has_unflushed_position(&self) -> bool {
        self.position.seq != self.stored_position
    }

    /// True for what its service acts on, and for what nobody here knows: that must not be passed over as if it were of no interest.
    pub fn handles(&self, kind: &str) -> bool {
        handles(&self.kinds, kind)
    }
}

pub(super) fn handles(kinds: &HashSet<&'static str>, kind: &str) -> bool {
    kinds.contains(kind) || !Message::TABLE.iter().any(|(known, ..)| *known == kind)
}

/// What of its messages a reader that acts on these kinds wants to see, in SQL: nothing of those it passes over.
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
        if !service.reads().contains(kind) {
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
