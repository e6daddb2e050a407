//! Lock wait budget: limits the time a writer waits for locks that other sessions hold, such as an operator's.
//!
//! One budget, refilled slowly and shared by all rows, so that one long-held lock cannot stall the writer.

use runtime::ports::Stopwatch;
use std::time::Duration;

/// The full budget: two long waits. Callers still wait for their answers after this time.
const CAPACITY: Duration = Duration::from_secs(3);
/// The budget gains a tenth of the time that passes.
const REFILL_DIVISOR: u32 = 10;
/// Longest wait for one lock. Longer than PostgreSQL's deadlock timeout of one second, and shorter than a lease, which is renewed in
/// between.
const MAX_WAIT: Duration = Duration::from_millis(1_500);
/// Shortest wait, with an empty budget. Other instances hold row locks for less than this.
const MIN_WAIT: Duration = Duration::from_millis(200);
/// Wait for a lock once the budget is spent. Pieces that want other rows do not wait, and the others only probe the lock.
const PROBE_WAIT: Duration = Duration::from_millis(20);
/// Most probes that may meet a lock: one second in all, so that a batch of many commands for the same row ends.
const MAX_PROBES: u32 = 50;

pub(super) struct LockBudget {
    remaining: Duration,
    since_refill: Stopwatch,
    /// Probes that met a lock. `None`: budget is left.
    probes: Option<u32>,
}

impl Default for LockBudget {
    fn default() -> Self {
        Self { remaining: CAPACITY, since_refill: Stopwatch::start(), probes: None }
    }
}

impl LockBudget {
    /// Refills the budget by the time passed. Called before each new piece of work.
    pub fn refill(&mut self) {
        self.refill_after(self.since_refill.elapsed());
        self.since_refill = Stopwatch::start();
    }

    /// Limits the next work to probes, because it is not urgent and not worth waiting.
    pub fn probe_only(&mut self) {
        self.refill();
        self.probes = Some(0);
    }

    fn refill_after(&mut self, passed: Duration) {
        self.remaining = CAPACITY.min(self.remaining + passed / REFILL_DIVISOR);
        self.probes = None;
    }

    /// Longest time that the next transaction may wait for a lock.
    pub fn max_wait(&self) -> Duration {
        match self.probes {
            None => self.remaining.clamp(MIN_WAIT, MAX_WAIT),
            Some(_) => PROBE_WAIT,
        }
    }

    /// Charges the time of a transaction that met a lock.
    pub fn charge(&mut self, time: Duration) {
        match &mut self.probes {
            Some(met) => *met += 1,
            None => {
                self.remaining = self.remaining.saturating_sub(time);
                self.probes = self.remaining.is_zero().then_some(0);
            }
        }
    }

    /// True while a transaction that met a lock may be retried.
    pub fn has_budget(&self) -> bool {
        self.probes.is_none()
    }

    /// True when even probes are used up.
    pub fn is_exhausted(&self) -> bool {
        self.probes.is_some_and(|met| met >= MAX_PROBES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits after an idle time until the budget is spent, and returns the time waited.
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

    // F12: most of the time goes to work on other rows, however many commands want the locked one.
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
