//! How long a writer waits for locks that somebody else holds, such as an operator's session. What it spends comes out of one purse that
//! fills slowly, whoever it waits for: a row that is locked for minutes must not stand between the writer and all that wants other rows.

use crate::ports::Stopwatch;
use std::time::Duration;

/// What may be spent in one go: two long waits. Whoever asked is still there.
const CAPACITY: Duration = Duration::from_secs(3);
/// Of the time that passes, this part may be spent.
const REFILL_DIVISOR: u32 = 10;
/// Longest wait for one lock: longer than the second after which PostgreSQL ends a deadlock, and shorter than leases last, so that they can
/// be renewed in between.
const MAX_WAIT: Duration = Duration::from_millis(1_500);
/// Shortest one, with an empty purse: what other instances do to the same rows takes less.
const MIN_WAIT: Duration = Duration::from_millis(200);
/// The same for probes of what met a lock: those that want other rows need not wait, and for those that want the same it is just a look.
const PROBE_WAIT: Duration = Duration::from_millis(20);
/// Pieces that may meet a lock, which is a second in all, so that a batch of which many want the same row comes to an end.
const MAX_PROBES: u32 = 50;

pub(super) struct LockBudget {
    remaining: Duration,
    since_refill: Stopwatch,
    /// How many probes met a lock, once there is nothing remaining for the whole.
    probes: Option<u32>,
}

impl Default for LockBudget {
    fn default() -> Self {
        Self { remaining: CAPACITY, since_refill: Stopwatch::start(), probes: None }
    }
}

impl LockBudget {
    /// Something else is to be settled.
    pub fn refill(&mut self) {
        self.refill_after(self.since_refill.elapsed());
        self.since_refill = Stopwatch::start();
    }

    /// Something is to be settled that can wait, and is worth no waiting.
    pub fn probe_only(&mut self) {
        self.refill();
        self.probes = Some(0);
    }

    fn refill_after(&mut self, passed: Duration) {
        self.remaining = CAPACITY.min(self.remaining + passed / REFILL_DIVISOR);
        self.probes = None;
    }

    /// How long the next transaction may wait for a lock.
    pub fn max_wait(&self) -> Duration {
        match self.probes {
            None => self.remaining.clamp(MIN_WAIT, MAX_WAIT),
            Some(_) => PROBE_WAIT,
        }
    }

    /// A transaction that met a lock has taken so long.
    pub fn charge(&mut self, time: Duration) {
        match &mut self.probes {
            Some(met) => *met += 1,
            None => {
                self.remaining = self.remaining.saturating_sub(time);
                self.probes = self.remaining.is_zero().then_some(0);
            }
        }
    }

    /// Whether one that met a lock may be tried again.
    pub fn has_budget(&self) -> bool {
        self.probes.is_none()
    }

    /// Whether even a look is too much by now.
    pub fn is_exhausted(&self) -> bool {
        self.probes.is_some_and(|met| met >= MAX_PROBES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a time without, waits as long as it may until it may not any more; how long that was.
    fn spend_all(budget: &mut LockBudget, passed: Duration) -> Duration {
        let mut waited = Duration::ZERO;
        budget.refill_after(passed);
        while budget.has_budget() {
            waited += budget.max_wait();
            budget.charge(budget.max_wait());
        }
        waited
    }

    // F12
    #[test]
    fn a_long_lock_is_waited_for_twice_and_then_only_probed() {
        let mut budget = LockBudget::default();
        assert_eq!(spend_all(&mut budget, Duration::ZERO), CAPACITY);
        let mut probes = 0;
        while !budget.is_exhausted() {
            assert_eq!(budget.max_wait(), PROBE_WAIT);
            budget.charge(budget.max_wait());
            probes += 1;
        }
        assert!(PROBE_WAIT * probes <= Duration::from_secs(1), "{probes}");
    }

    // F12: however much wants the locked row, most of the time is for what does not.
    #[test]
    fn the_budget_refills_slowly() {
        let mut budget = LockBudget::default();
        spend_all(&mut budget, Duration::ZERO);
        assert_eq!(spend_all(&mut budget, Duration::ZERO), MIN_WAIT);
        assert_eq!(spend_all(&mut budget, Duration::from_secs(10)), Duration::from_secs(1));
        let waited: Duration = (0..100).map(|_| spend_all(&mut budget, Duration::from_secs(2))).sum();
        assert!(waited <= Duration::from_secs(200) / 5, "{waited:?}");
        assert_eq!(spend_all(&mut budget, Duration::from_secs(1_000)), CAPACITY);
    }
}
