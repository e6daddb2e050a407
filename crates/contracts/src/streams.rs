//! Streams of messages and their partitions.

use uuid::Uuid;

/// A service's stream: its current epoch, and the number of partitions that its keys are spread over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    pub epoch: i64,
    pub partitions: i64,
}

impl Stream {
    /// The partition for messages of this key. Ids are time-ordered, so only their random tail is used.
    pub fn partition_of(&self, key: Uuid) -> i64 {
        let tail = key.as_u64_pair().1;
        i64::try_from(tail % self.partitions.unsigned_abs().max(1)).unwrap_or(0)
    }
}

/// One partition of one stream in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamPartition {
    pub source: &'static str,
    pub epoch: i64,
    pub partition: i64,
}
