//! Time, ids and randomness come through here, so that a test can control them. All other code must not ask the system for them.

use contracts::Timestamp;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicI64, AtomicU64, Ordering},
};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time in UTC.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary start of this process. Steps of the wall clock do not change it, so limits and pauses use it.
    fn monotonic(&self) -> Duration;
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system for the time")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }

    #[inline]
    fn monotonic(&self) -> Duration {
        static START: OnceLock<Stopwatch> = OnceLock::new();
        START.get_or_init(Stopwatch::start).elapsed()
    }
}

/// A clock that moves only when a test advances it.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<ManualTime>);

#[derive(Debug)]
struct ManualTime {
    wall: AtomicI64,
    /// Microseconds since the clock was made.
    monotonic: AtomicU64,
}

impl ManualClock {
    pub fn at(start: Timestamp) -> Self {
        Self(Arc::new(ManualTime { wall: AtomicI64::new(start.0), monotonic: AtomicU64::new(0) }))
    }
    pub fn advance(&self, by: Duration) {
        self.0.wall.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
        self.0.monotonic.fetch_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
    /// Sets the wall clock without a passage of time, as an operator or NTP does.
    pub fn set(&self, wall: Timestamp) {
        self.0.wall.store(wall.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.wall.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.monotonic.load(Ordering::SeqCst))
    }
}

/// A stopwatch for durations in metrics. Business rules must not use it.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "the one place that measures elapsed time")]
    #[inline]
    pub fn start() -> Self {
        Self(Instant::now())
    }
    #[inline]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A new time-ordered id.
#[expect(clippy::disallowed_methods, reason = "the one place that makes ids; they are unique, not secret")]
#[inline]
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// Secret random bytes from the operating system.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).expect("the operating system always has random bytes once it has booted");
    bytes
}
