//! Rate limits by token buckets, in this process or shared by all processes.
//!
//! With Redis, a bucket is one number there, by its clock. Each process also records its own events, and decides by them while Redis is
//! away. A limit is then wider by the number of processes, but it still applies.

use super::{Redis, RedisError, Script};
use crate::buckets::{Rate, TokenBuckets};
use runtime::ports::Clock;
use std::{
    fmt,
    hash::Hash,
    sync::{Arc, LazyLock},
    time::Duration,
};

/// Returns the microseconds to wait for a token, 0 if there is one. With 1 as the third argument, takes it.
///
/// ARGV: interval in microseconds, burst, 1 to take. A bucket that is full later than any debt allows was written before a step of the
/// server's clock, and counts as full.
static TAKE_SCRIPT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local full_at = tonumber(redis.call('GET', KEYS[1]) or '0')
if full_at < now or full_at > now + interval * burst + 1 then full_at = now end
local wait = full_at - interval * (burst - 1) - now
if wait > 0 then return math.ceil(wait) end
if ARGV[3] == '1' then
  full_at = full_at + interval
  redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000) + 1)
end
return 0",
    )
});

/// Returns a token. ARGV: interval in microseconds.
static GIVE_BACK_SCRIPT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local full_at = redis.call('GET', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if full_at and left > 0 then
  redis.call('SET', KEYS[1], string.format('%.0f', tonumber(full_at) - tonumber(ARGV[1])), 'PX', left)
end
return 0",
    )
});

/// The limit is reached. `wait` is the time until the next event is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rate limit {limit} reached; next in {} ms", wait.as_millis())]
pub struct RateLimited {
    /// Name of the limit.
    pub limit: &'static str,
    pub wait: Duration,
}

/// Permits events of each key at a rate. Cheap to clone. Clones share their counts, and so do all processes with the same Redis and name.
#[derive(Clone)]
pub struct RateLimit(Arc<RateLimitInner>);

struct RateLimitInner {
    name: &'static str,
    /// `None`: the limit is off.
    rate: Option<(Rate, TokenBuckets)>,
    redis: Option<Redis>,
    clock: Arc<dyn Clock>,
}

impl RateLimit {
    /// `name` separates this limit from others in Redis and in metrics. Without a rate the limit is off.
    pub fn new(redis: Option<Redis>, name: &'static str, rate: Option<Rate>, clock: Arc<dyn Clock>) -> RateLimit {
        let rate = rate.map(|rate| (rate, TokenBuckets::new(rate)));
        RateLimit(Arc::new(RateLimitInner { name, rate, redis, clock }))
    }

    /// Counts one event in this process alone, if the limit permits it. Costs no more than a look at memory.
    pub fn take_here(&self, key: &(impl Hash + ?Sized)) -> Result<(), RateLimited> {
        let Some((_, buckets)) = &self.0.rate else { return Ok(()) };
        buckets.take(key, self.0.clock.monotonic()).map_err(|wait| self.limited(wait))
    }

    /// Counts one event if the limit permits it. A caller that counts before it knows the outcome bounds concurrent attempts, too.
    pub async fn take(&self, key: &str) -> Result<(), RateLimited> {
        let Some((_, buckets)) = &self.0.rate else { return Ok(()) };
        let now = self.0.clock.monotonic();
        match self.ask_redis(key, true).await {
            Some(Ok(())) => {
                buckets.record(key, now);
                Ok(())
            }
            Some(Err(wait)) => Err(self.limited(wait)),
            None => buckets.take(key, now).map_err(|wait| self.limited(wait)),
        }
    }

    /// `Err`: the next event would not be permitted. Counts nothing.
    pub async fn check(&self, key: &str) -> Result<(), RateLimited> {
        let Some((_, buckets)) = &self.0.rate else { return Ok(()) };
        let found = match self.ask_redis(key, false).await {
            Some(found) => found,
            None => buckets.check(key, self.0.clock.monotonic()),
        };
        found.map_err(|wait| self.limited(wait))
    }

    /// Removes one event, because it should not have counted.
    pub async fn give_back(&self, key: &str) {
        let Some((rate, buckets)) = &self.0.rate else { return };
        buckets.put_back(key, self.0.clock.monotonic());
        if let Some(redis) = &self.0.redis {
            self.report(redis.run::<()>(GIVE_BACK_SCRIPT.key(self.redis_key(redis, key)).arg(micros(*rate))).await);
        }
    }

    /// Removes all events of this key.
    pub async fn reset(&self, key: &str) {
        let Some((_, buckets)) = &self.0.rate else { return };
        buckets.fill(key, self.0.clock.monotonic());
        if let Some(redis) = &self.0.redis {
            self.report(redis.call::<()>(super::cmd("DEL").arg(self.redis_key(redis, key))).await);
        }
    }

    /// Asks the shared bucket. `None`: there is no Redis, or it does not answer.
    async fn ask_redis(&self, key: &str, is_taken: bool) -> Option<Result<(), Duration>> {
        let (redis, (rate, _)) = (self.0.redis.as_ref()?, self.0.rate.as_ref()?);
        let mut call = TAKE_SCRIPT.key(self.redis_key(redis, key));
        call.arg(micros(*rate)).arg(rate.burst()).arg(u8::from(is_taken));
        Some(match self.report(redis.run::<u64>(&call).await)? {
            0 => Ok(()),
            wait => Err(Duration::from_micros(wait)),
        })
    }

    fn redis_key(&self, redis: &Redis, key: &str) -> String {
        redis.private_key("bucket", self.0.name, key)
    }

    fn limited(&self, wait: Duration) -> RateLimited {
        RateLimited { limit: self.0.name, wait }
    }

    fn report<T>(&self, result: Result<T, RedisError>) -> Option<T> {
        result
            .inspect_err(|error| {
                metrics::counter!("onrush_rate_limit_local_fallback_total", "name" => self.0.name).increment(1);
                tracing::debug!(%error, limit = self.0.name, "rate limit counted in this process alone");
            })
            .ok()
    }
}

/// Microseconds per token, with a fraction.
fn micros(rate: Rate) -> f64 {
    rate.interval().as_nanos() as f64 / 1_000.0
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.0.rate.as_ref().map(|(rate, _)| rate.to_string());
        f.debug_struct("RateLimit").field("name", &self.0.name).field("rate", &rate).finish_non_exhaustive()
    }
}
