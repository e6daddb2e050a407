//! Positions in streams.

pub use contracts::streams::{Stream, StreamPartition};

/// The only partition of a stream that a sole writer numbers.
pub(super) const SOLE_PARTITION: i64 = 0;

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

/// A reader's move over one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct PositionUpdate {
    pub stream: StreamPartition,
    pub from: i64,
    pub to: Position,
}
