//! Retries of messages that were set aside: with growing pauses, until one succeeds or has failed for long enough to be a dead letter.
//!
//! A message that fails alone is set aside, and later messages of its key wait behind it. All other keys continue. The decision to give it
//! up needs failures spread over time, because trouble that passes must not cost an order (docs/decisions/0022).

use runtime::{backoff::Backoff, ports::Stopwatch};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use uuid::Uuid;

/// Time over which a message must fail before it becomes a dead letter. Longer than a failover, a restart or a short lack of memory.
pub const DEAD_LETTER_AFTER: Duration = Duration::from_secs(30);
/// Factor on that time while many keys fail. Ten minutes by default: enough for an operator to see the alarm and act.
const BURST_FACTOR: u32 = 20;
/// Keys of one service that may be set aside at a time. More failing keys at once are trouble of the system, not of single messages: the
/// readers wait as in an outage.
pub(super) const MAX_SET_ASIDE: usize = 16;
/// Pauses between two tries of a message that was set aside.
const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
/// Part of the writer's time for the tries of a message: one in this many, so that slow tries do not keep callers waiting.
const SHARE_OF_TIME: u32 = 10;

/// Reader, source and key of a message that was set aside.
pub(super) type RetryKey = (&'static str, String, Uuid);

/// The failures of one key.
struct RetryState {
    since_first: Stopwatch,
    since_last: Stopwatch,
    failures: u32,
    pause: Duration,
}

/// Next step for a message that failed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryDecision {
    TryLater,
    GiveUp,
}

/// Failures of the messages that were set aside, by key. Kept in memory: after a restart, each message gets its time again.
pub(super) struct Retries {
    states: HashMap<RetryKey, RetryState>,
    dead_letter_after: Duration,
}

impl Retries {
    pub fn new(dead_letter_after: Duration) -> Retries {
        Retries { states: HashMap::new(), dead_letter_after }
    }

    /// True if a message that fails is set aside first. Otherwise it becomes a dead letter at once.
    pub fn are_enabled(&self) -> bool {
        !self.dead_letter_after.is_zero()
    }

    /// True when as many keys of this reader fail as may be set aside.
    pub fn is_burst(&self, reader: &str) -> bool {
        self.states.keys().filter(|(name, _, _)| *name == reader).count() >= MAX_SET_ASIDE
    }

    /// True if the oldest message of this key may be tried now.
    pub fn is_due(&self, key: &RetryKey) -> bool {
        self.states.get(key).is_none_or(|state| state.since_last.elapsed() >= state.pause)
    }

    /// Counts a failure that took this time, and plans the next try.
    pub fn count_failure(&mut self, key: RetryKey, took: Duration) -> RetryDecision {
        let needed = if self.is_burst(key.0) { self.dead_letter_after * BURST_FACTOR } else { self.dead_letter_after };
        let now = Stopwatch::start();
        let state =
            self.states.entry(key.clone()).or_insert(RetryState { since_first: now, since_last: now, failures: 0, pause: Duration::ZERO });
        if state.since_first.elapsed() >= needed {
            self.states.remove(&key);
            return RetryDecision::GiveUp;
        }
        state.pause = RETRY_BACKOFF.equal_jitter(state.failures).max(took * SHARE_OF_TIME);
        (state.since_last, state.failures) = (now, state.failures + 1);
        RetryDecision::TryLater
    }

    /// Forgets the failures of a key, because its message has succeeded.
    pub fn forget(&mut self, key: &RetryKey) {
        self.states.remove(key);
    }

    /// Forgets the keys of this reader that have no message to retry any more.
    pub fn retain(&mut self, reader: &str, retried: &[(String, Uuid)]) {
        if self.states.is_empty() {
            return;
        }
        let retried: HashSet<(&str, Uuid)> = retried.iter().map(|(source, key)| (source.as_str(), *key)).collect();
        self.states.retain(|(name, source, key), _| *name != reader || retried.contains(&(source.as_str(), *key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> RetryKey {
        ("stock", "orders".to_owned(), Uuid::from_u128(number as u128))
    }

    // finding 3: three failures within 100 ms are no dead letter.
    #[test]
    fn a_message_is_given_up_after_its_time_only() {
        let mut retries = Retries::new(Duration::from_millis(60));
        for _ in 0..100 {
            assert_eq!(retries.count_failure(key(1), Duration::ZERO), RetryDecision::TryLater);
        }
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(retries.count_failure(key(2), Duration::ZERO), RetryDecision::TryLater, "another key has its own time");
        assert_eq!(retries.count_failure(key(1), Duration::ZERO), RetryDecision::GiveUp);
        assert_eq!(retries.count_failure(key(1), Duration::ZERO), RetryDecision::TryLater, "a redrive begins anew");
    }

    #[test]
    fn a_failed_message_pauses_and_a_slow_one_longer() {
        let mut retries = Retries::new(DEAD_LETTER_AFTER);
        assert!(retries.is_due(&key(1)));
        retries.count_failure(key(1), Duration::ZERO);
        retries.count_failure(key(2), Duration::from_secs(10));
        assert!(!retries.is_due(&key(1)) && retries.is_due(&key(3)));
        assert!((250..=500).contains(&retries.states[&key(1)].pause.as_millis()));
        assert_eq!(retries.states[&key(2)].pause, Duration::from_secs(100));
        retries.forget(&key(1));
        assert!(retries.is_due(&key(1)));
    }

    // finding 3: a burst of failing keys is an outage.
    #[test]
    fn a_burst_of_failing_keys_is_given_up_much_later() {
        let mut retries = Retries::new(Duration::from_millis(20));
        for number in 0..MAX_SET_ASIDE {
            assert!(!retries.is_burst("stock"));
            retries.count_failure(key(number), Duration::ZERO);
        }
        assert!(retries.is_burst("stock") && !retries.is_burst("coupons"));
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(retries.count_failure(key(0), Duration::ZERO), RetryDecision::TryLater);
        retries.retain("stock", &[("orders".to_owned(), key(0).2)]);
        assert!(!retries.is_burst("stock"), "the others were resolved elsewhere");
        assert_eq!(retries.count_failure(key(0), Duration::ZERO), RetryDecision::GiveUp);
    }
}
