//! Clocks of the load generator. Only this module reads the system clocks.

use contracts::Timestamp;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Monotonic clock of a run. Every begin and end is in nanoseconds since [`RunClock::start`].
#[derive(Clone, Copy, Debug)]
pub struct RunClock(Instant);

impl RunClock {
    #[expect(clippy::disallowed_methods, reason = "a load generator measures time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }
    pub fn nanos(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The wall clock: for the issue window of a created coupon and for the name of the run.
#[expect(clippy::disallowed_methods, reason = "the server compares these instants with its own wall clock")]
pub fn wall_clock() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}
