//! A message in its stream, as services see it.

use contracts::{Message, Timestamp};
use uuid::Uuid;

pub use runtime::trace::TraceId;

/// A message in its stream.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub source: &'static str,
    /// Sequence number, dense within source and partition, starting at 1. 0: the sequencer numbers the message after its commit.
    pub seq: i64,
    /// The entity that the message is about. Order is kept within a key.
    pub key: Uuid,
    pub message: Message,
    pub at: Timestamp,
    /// The request that caused the message, if known.
    pub trace: Option<TraceId>,
}
