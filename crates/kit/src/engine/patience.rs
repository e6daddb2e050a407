//! How long a writer waits for locks that somebody else holds, such as an operator's session. What it spends comes out of one purse that
//! fills slowly, whoever it waits for: a row that is locked for minutes must not stand between the writer and all that wants other rows.

use crate::ports::Stopwatch;
use std::time::Duration;

/// What may be spent in one go: two long waits. Whoever asked is still there.
const FULL: Duration = Duration::from_secs(3);
/// Of the time that passes, this part may be spent.
const PART: u32 = 10;
/// Longest wait for one lock: longer than the second after which PostgreSQL ends a deadlock, and shorter than leases last, so that they can
/// be renewed in between.
const LONGEST: Duration = Duration::from_millis(1_500);
/// Shortest one, with an empty purse: what other instances do to the same rows takes less.
const SHORTEST: Duration = Duration::from_millis(200);
/// The same for pieces of what met a lock: those that want other rows need not wait, and for those that want the same it is just a look.
const GLANCE: Duration = Duration::from_millis(20);
/// Pieces that may meet a lock, which is a second in all, so that a batch of which many want the same row comes to an end.
const GLANCES: u32 = 50;

pub(super) struct Patience {
    left: Duration,
    filled: Stopwatch,
    /// How many pieces met a lock, once there is nothing left for the whole.
    pieces: Option<u32>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { left: FULL, filled: Stopwatch::start(), pieces: None }
    }
}

impl Patience {
    /// Something else is to be settled.
    pub fn begin(&mut self) {
        self.begin_after(self.filled.elapsed());
        self.filled = Stopwatch::start();
    }

    /// Something is to be settled that can wait, and is worth no waiting.
    pub fn glance(&mut self) {
        self.begin();
        self.pieces = Some(0);
    }

    fn begin_after(&mut self, passed: Duration) {
        self.left = FULL.min(self.left + passed / PART);
        self.pieces = None;
    }

    /// How long the next transaction may wait for a lock.
    pub fn wait(&self) -> Duration {
        match self.pieces {
            None => self.left.clamp(SHORTEST, LONGEST),
            Some(_) => GLANCE,
        }
    }

    /// A transaction that met a lock has taken so long.
    pub fn waited(&mut self, time: Duration) {
        match &mut self.pieces {
            Some(met) => *met += 1,
            None => {
                self.left = self.left.saturating_sub(time);
                self.pieces = self.left.is_zero().then_some(0);
            }
        }
    }

    /// Whether one that met a lock may be tried again.
    pub fn is_left(&self) -> bool {
        self.pieces.is_none()
    }

    /// Whether even a look is too much by now.
    pub fn is_over(&self) -> bool {
        self.pieces.is_some_and(|met| met >= GLANCES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a time without, waits as long as it may until it may not any more; how long that was.
    fn wait_in_vain(patience: &mut Patience, passed: Duration) -> Duration {
        let mut waited = Duration::ZERO;
        patience.begin_after(passed);
        while patience.is_left() {
            waited += patience.wait();
            patience.waited(patience.wait());
        }
        waited
    }

    // F12
    #[test]
    fn a_lock_is_waited_for_twice_and_then_only_looked_at() {
        let mut patience = Patience::default();
        assert_eq!(wait_in_vain(&mut patience, Duration::ZERO), FULL);
        let mut looks = 0;
        while !patience.is_over() {
            assert_eq!(patience.wait(), GLANCE);
            patience.waited(patience.wait());
            looks += 1;
        }
        assert!(GLANCE * looks <= Duration::from_secs(1), "{looks}");
    }

    // F12: however much wants the locked row, most of the time is for what does not.
    #[test]
    fn what_is_spent_comes_back_slowly() {
        let mut patience = Patience::default();
        wait_in_vain(&mut patience, Duration::ZERO);
        assert_eq!(wait_in_vain(&mut patience, Duration::ZERO), SHORTEST);
        assert_eq!(wait_in_vain(&mut patience, Duration::from_secs(10)), Duration::from_secs(1));
        let waited: Duration = (0..100).map(|_| wait_in_vain(&mut patience, Duration::from_secs(2))).sum();
        assert!(waited <= Duration::from_secs(200) / 5, "{waited:?}");
        assert_eq!(wait_in_vain(&mut patience, Duration::from_secs(1_000)), FULL);
    }
}
