//! The signs of life of a process's writers. Readiness asks them, because without its writer a process only answers 503.

use engine::Heartbeat;
use std::time::Duration;

/// Longest silence of a healthy writer. A statement and a wait for a lock are shorter, and an idle writer gives a sign twice a second.
const MAX_SILENCE: Duration = Duration::from_secs(12);

/// Heartbeats of all writers of a process.
#[derive(Clone, Debug)]
pub struct WriterHealth(pub(super) Vec<Heartbeat>);

impl WriterHealth {
    /// False when a writer has ended, or has given no sign of life for several seconds.
    pub fn is_good(&self) -> bool {
        self.silence() <= MAX_SILENCE
    }

    /// Time since the last sign of life of the writer that is silent longest. Without limit when a writer has ended.
    pub fn silence(&self) -> Duration {
        self.0.iter().map(Heartbeat::age).max().unwrap_or_default()
    }
}
