//! Token buckets in process memory: so many events at once, and after that so many per unit of time.
//!
//! A bucket holds `burst` tokens and gains one after each interval. It is stored as one number, the time at which it will be full again.
//! A full bucket needs no entry, so the table holds only callers that took tokens lately. Its memory is bounded, and its time is
//! monotonic: a step of the wall clock neither locks a caller out nor lets one in.

use parking_lot::Mutex;
use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    str::FromStr,
    sync::OnceLock,
    time::Duration,
};

/// Sets of a table. With [`WAYS`] it holds 65,536 buckets that are not full, in 1.1 MB.
const SETS: usize = 8_192;
/// Buckets of a set. A new bucket replaces the fullest one, whose owner loses nothing or the least.
const WAYS: usize = 8;
/// Largest count and burst of a rate.
const MAX_COUNT: u32 = 1_000_000;
/// Longest time in which an empty bucket becomes full. A rate beyond it is a mistake.
const MAX_REFILL: Duration = Duration::from_secs(365 * 24 * 3600);

/// Unit of time of a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateUnit {
    Second,
    Minute,
    Hour,
    Day,
}

impl RateUnit {
    const ALL: [RateUnit; 4] = [RateUnit::Second, RateUnit::Minute, RateUnit::Hour, RateUnit::Day];

    fn as_str(self) -> &'static str {
        match self {
            RateUnit::Second => "second",
            RateUnit::Minute => "minute",
            RateUnit::Hour => "hour",
            RateUnit::Day => "day",
        }
    }

    const fn seconds(self) -> u64 {
        match self {
            RateUnit::Second => 1,
            RateUnit::Minute => 60,
            RateUnit::Hour => 3_600,
            RateUnit::Day => 86_400,
        }
    }
}

/// So many events per unit of time, and so many at once. As text: `60/hour burst 30`, or `60/hour` for a burst of 60.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    unit: RateUnit,
    burst: u32,
}

/// The text is not a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be “off”, or look like “60/hour burst 30”: two numbers from 1 to 1000000, and second, minute, hour or day")]
pub struct InvalidRate;

impl Rate {
    /// A rate known to be valid. At compile time, a count or burst of 0 is an error.
    pub const fn new(count: u32, unit: RateUnit, burst: u32) -> Rate {
        assert!(count > 0 && count <= MAX_COUNT && burst > 0 && burst <= MAX_COUNT, "a rate permits something");
        Rate { count, unit, burst }
    }

    /// Time in which a bucket gains one token.
    pub fn interval(self) -> Duration {
        Duration::from_nanos(self.unit.seconds() * 1_000_000_000 / u64::from(self.count))
    }

    /// Most events at once.
    pub fn burst(self) -> u32 {
        self.burst
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Rate, InvalidRate> {
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| (1..=MAX_COUNT).contains(number)).ok_or(InvalidRate);
        let mut words = text.split_whitespace();
        let (count, unit) = words.next().and_then(|rate| rate.split_once('/')).ok_or(InvalidRate)?;
        let count = number(count)?;
        let unit = RateUnit::ALL.into_iter().find(|known| known.as_str() == unit).ok_or(InvalidRate)?;
        let burst = match (words.next(), words.next(), words.next()) {
            (None, ..) => count,
            (Some("burst"), Some(burst), None) => number(burst)?,
            _ => return Err(InvalidRate),
        };
        let rate = Rate { count, unit, burst };
        if rate.interval() * burst > MAX_REFILL { Err(InvalidRate) } else { Ok(rate) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} burst {}", self.count, self.unit.as_str(), self.burst)
    }
}

/// Token buckets of one rate, one for each key. All keys together use bounded memory, taken at the first use.
pub struct TokenBuckets {
    /// Nanoseconds per token.
    interval: u64,
    /// Nanoseconds that a bucket with one token left needs to be full.
    slack: u64,
    sets: OnceLock<Box<[Mutex<BucketSet>]>>,
    /// Keyed, so that an attacker cannot choose keys that share a set.
    hasher: RandomState,
}

type BucketSet = [TokenBucket; WAYS];

#[derive(Clone, Copy, Default)]
struct TokenBucket {
    /// Hash of the bucket's key. Two keys with one hash of 64 bits would share their tokens.
    key: u64,
    /// Time at which the bucket is full, in nanoseconds. In the past: it is full.
    full_at: u64,
}

impl TokenBuckets {
    pub fn new(rate: Rate) -> TokenBuckets {
        let interval = nanos(rate.interval());
        TokenBuckets {
            interval,
            slack: interval.saturating_mul(u64::from(rate.burst - 1)),
            sets: OnceLock::new(),
            hasher: RandomState::new(),
        }
    }

    /// Takes a token at this monotonic time. `Err`: the bucket is empty, and gets its next token after this time.
    pub fn take(&self, key: &(impl Hash + ?Sized), now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        self.with_bucket(key, now, |full_at| {
            self.check_full_at(*full_at, now)?;
            *full_at = (*full_at).max(now).saturating_add(self.interval);
            Ok(())
        })
    }

    /// `Err`: the bucket is empty. Takes nothing.
    pub fn check(&self, key: &(impl Hash + ?Sized), now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        self.with_bucket(key, now, |full_at| self.check_full_at(*full_at, now))
    }

    /// Takes a token that another counter has permitted, or empties the bucket.
    pub fn record(&self, key: &(impl Hash + ?Sized), now: Duration) {
        let now = nanos(now);
        let most = now.saturating_add(self.slack).saturating_add(self.interval);
        self.with_bucket(key, now, |full_at| *full_at = (*full_at).max(now).saturating_add(self.interval).min(most));
    }

    /// Returns a token.
    pub fn put_back(&self, key: &(impl Hash + ?Sized), now: Duration) {
        self.with_bucket(key, nanos(now), |full_at| *full_at = full_at.saturating_sub(self.interval));
    }

    /// Fills the bucket.
    pub fn fill(&self, key: &(impl Hash + ?Sized), now: Duration) {
        self.with_bucket(key, nanos(now), |full_at| *full_at = 0);
    }

    fn check_full_at(&self, full_at: u64, now: u64) -> Result<(), Duration> {
        match full_at.saturating_sub(now).checked_sub(self.slack) {
            None | Some(0) => Ok(()),
            Some(wait) => Err(Duration::from_nanos(wait)),
        }
    }

    fn with_bucket<T>(&self, key: &(impl Hash + ?Sized), now: u64, change: impl FnOnce(&mut u64) -> T) -> T {
        let sets = self.sets.get_or_init(|| (0..SETS).map(|_| Mutex::default()).collect());
        let hash = self.hasher.hash_one(key);
        let mut set = sets[hash as usize % SETS].lock();
        if let Some(known) = set.iter_mut().find(|bucket| bucket.key == hash) {
            return change(&mut known.full_at);
        }
        let mut full_at = 0;
        let result = change(&mut full_at);
        if full_at > now
            && let Some(fullest) = set.iter_mut().min_by_key(|bucket| bucket.full_at)
        {
            *fullest = TokenBucket { key: hash, full_at };
        }
        result
    }
}

impl fmt::Debug for TokenBuckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenBuckets").field("interval", &self.interval).field("slack", &self.slack).finish_non_exhaustive()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::ports::{Clock, Stopwatch, SystemClock};

    fn buckets(rate: &str) -> TokenBuckets {
        TokenBuckets::new(rate.parse().expect("a rate"))
    }

    #[test]
    fn rates_survive_a_round_trip_as_text() {
        for text in ["60/hour burst 30", "1/second burst 1", "1000000/day burst 1000000"] {
            assert_eq!(text.parse::<Rate>().map(|rate| rate.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("5/minute".parse::<Rate>().map(|rate| rate.to_string()).as_deref(), Ok("5/minute burst 5"));
        let wrong = ["", "off", "5", "5/", "/hour", "0/hour", "5/hour burst 0", "5/hour burst", "5/hour 9", "5/hour burst 9 9", "5/week"];
        for text in wrong.into_iter().chain(["-5/hour", "5 /hour", "1000001/day", "1/day burst 366", "5/Hour"]) {
            assert_eq!(text.parse::<Rate>(), Err(InvalidRate), "{text}");
        }
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let buckets = buckets("60/minute burst 3");
        let at = |millis: u64| Duration::from_millis(millis);
        for _ in 0..3 {
            assert_eq!(buckets.take("a", at(500)), Ok(()));
        }
        assert_eq!(buckets.take("a", at(500)), Err(at(1_000)));
        assert_eq!(buckets.take("a", at(1_400)), Err(at(100)), "a refusal takes nothing");
        assert_eq!(buckets.take("b", at(1_400)), Ok(()), "another key has its own bucket");
        assert_eq!(buckets.take("a", at(1_500)), Ok(()));
        assert_eq!(buckets.take("a", at(1_500)), Err(at(1_000)));
        // Full again, and no fuller than that.
        let later = at(60_000);
        assert_eq!((0..9).filter(|_| buckets.take("a", later).is_ok()).count(), 3);
    }

    #[test]
    fn returned_and_recorded_tokens_count() {
        let (buckets, now) = (buckets("1/hour burst 2"), Duration::from_secs(9));
        for _ in 0..2 {
            assert_eq!(buckets.take("a", now), Ok(()));
        }
        assert_eq!(buckets.check("a", now), Err(Duration::from_secs(3_600)));
        buckets.put_back("a", now);
        assert_eq!((buckets.check("a", now), buckets.check("a", now)), (Ok(()), Ok(())), "a check takes nothing");
        for _ in 0..9 {
            buckets.record("a", now);
        }
        assert_eq!(buckets.take("a", now), Err(Duration::from_secs(3_600)), "recorded tokens do not go below an empty bucket");
        buckets.fill("a", now);
        assert_eq!(buckets.take("a", now), Ok(()));
    }

    #[test]
    fn many_other_keys_do_not_refill_an_empty_bucket() {
        let (buckets, now) = (buckets("1/hour burst 5"), Duration::from_secs(1));
        for _ in 0..5 {
            assert_eq!(buckets.take("guesser", now), Ok(()));
        }
        // Four times the room of the table. Each of these owes one token, and the emptiest buckets stay.
        for number in 0..4 * SETS * WAYS {
            assert_eq!(buckets.take(&number, now), Ok(()));
        }
        assert!(buckets.take("guesser", now).is_err());
        let sets = buckets.sets.get().expect("it was used");
        assert_eq!((sets.len(), size_of::<Mutex<BucketSet>>()), (SETS, 136), "its memory is bounded");
    }

    // Also when all takers come at once
    #[test]
    fn concurrent_takers_share_the_bucket() {
        let buckets = buckets("1/day burst 5");
        let passed: usize = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..32).map(|_| scope.spawn(|| usize::from(buckets.take("a", Duration::ZERO).is_ok()))).collect();
            takers.into_iter().map(|taker| taker.join().expect("no panic")).sum()
        });
        assert_eq!(passed, 5);
    }

    /// Guards a performance property: a claim costs some 20 µs in all.
    #[test]
    fn taking_a_token_costs_a_small_part_of_a_write() {
        let (buckets, clock) = (buckets("1000000/second burst 1000000"), SystemClock);
        let round = || {
            let watch = Stopwatch::start();
            for number in 0..10_000_u128 {
                let _ = buckets.take(&number, clock.monotonic());
            }
            watch.elapsed() / 10_000
        };
        let fastest = (0..5).map(|_| round()).min().expect("five rounds");
        assert!(fastest < Duration::from_micros(5), "{fastest:?} in a debug build");
    }
}
