//! Heartbeat of a writer: the time since it last finished or began a piece of work. Readiness asks for it.

use runtime::ports::Stopwatch;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// The last sign of life of one writer. Clones share it.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<HeartbeatState>);

#[derive(Debug)]
struct HeartbeatState {
    origin: Stopwatch,
    /// Milliseconds from the origin to the last beat.
    last: AtomicU64,
    has_ended: AtomicBool,
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        Heartbeat(Arc::new(HeartbeatState { origin: Stopwatch::start(), last: AtomicU64::new(0), has_ended: AtomicBool::new(false) }))
    }
}

impl Heartbeat {
    pub(super) fn beat(&self) {
        self.0.last.store(self.since_origin(), Ordering::Relaxed);
    }

    /// The writer's thread has ended.
    pub(super) fn end(&self) {
        self.0.has_ended.store(true, Ordering::Release);
    }

    /// Time since the last beat. Without limit after the end of the writer.
    pub fn age(&self) -> Duration {
        if self.0.has_ended.load(Ordering::Acquire) {
            return Duration::MAX;
        }
        Duration::from_millis(self.since_origin().saturating_sub(self.0.last.load(Ordering::Relaxed)))
    }

    fn since_origin(&self) -> u64 {
        u64::try_from(self.0.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
