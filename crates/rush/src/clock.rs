//! Time for measuring. The only place of the load generator that asks the system.

use contracts::Timestamp;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The zero of a run's monotonic clock; every begin and end is in nanoseconds since.
#[derive(Clone, Copy, Debug)]
pub struct Epoch(Instant);

impl Epoch {
    #[expect(clippy::disallowed_methods, reason = "measuring is what a load generator is for")]
    pub fn start() -> Self {
        Self(Instant::now())
    }
    pub fn nanos(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The wall clock, for the windows of what the set-up creates and for naming the run.
#[expect(clippy::disallowed_methods, reason = "the server compares these instants with its own wall clock")]
pub fn wall_clock() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}
