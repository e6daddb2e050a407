//! Exponential backoff: delays that grow between the tries of one task.

use crate::ports::random_bytes;
use std::time::Duration;

/// Delays that double from the first to the longest.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    pub const fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest }
    }

    /// The delay after this number of earlier delays.
    pub fn delay(self, earlier: u32) -> Duration {
        self.first.saturating_mul(2_u32.saturating_pow(earlier)).min(self.longest)
    }

    /// A random part of the delay, so that tries that failed together are not repeated together.
    pub fn full_jitter(self, earlier: u32) -> Duration {
        random_part(self.delay(earlier))
    }

    /// A random duration between half of the delay and all of it, for a caller that must not come back too soon.
    pub fn equal_jitter(self, earlier: u32) -> Duration {
        let half = self.delay(earlier) / 2;
        half + random_part(half)
    }
}

fn random_part(of: Duration) -> Duration {
    of.mul_f64(f64::from(u16::from_be_bytes(random_bytes())) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(700));

    #[test]
    fn a_delay_doubles_up_to_the_longest() {
        assert_eq!([0, 1, 2, 3, 31, u32::MAX].map(|earlier| BACKOFF.delay(earlier).as_millis()), [100, 200, 400, 700, 700, 700]);
    }

    #[test]
    fn jitter_is_random_within_its_bounds() {
        let full: Vec<Duration> = (0..100).map(|_| BACKOFF.full_jitter(1)).collect();
        let equal: Vec<Duration> = (0..100).map(|_| BACKOFF.equal_jitter(1)).collect();
        assert!(full.iter().all(|delay| *delay <= BACKOFF.delay(1)), "{full:?}");
        assert!(equal.iter().all(|delay| (BACKOFF.delay(0)..=BACKOFF.delay(1)).contains(delay)), "{equal:?}");
        assert!(full.iter().any(|delay| *delay < BACKOFF.delay(0)), "{full:?}");
        assert!([full, equal].iter().all(|delays| delays.iter().any(|delay| *delay != delays[0])));
    }
}
