//! Rate limits: so many events in a time window, counted over all processes.
//!
//! A window slides. It holds the instants of the permitted events, and permits the next event when the oldest is old enough. With Redis,
//! the instants are kept there, by its clock. Each process also records its own events, and decides by them while Redis is away. A limit
//! is then wider by the number of processes, but it still applies.

use super::{Redis, RedisError, Script, to_millis};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use contracts::Timestamp;
use moka::{policy::EvictionPolicy, sync::Cache};
use parking_lot::Mutex;
use runtime::ports::Clock;
use sha2::{Digest, Sha256};
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};

/// Maximum number of keys remembered in a process. The least recently used key goes first …
const MAX_KEYS: u64 = 50_000;
/// … and of their instants, of 8 bytes each: together 20 MB at most.
const MAX_INSTANTS: u64 = 1_000_000;

/// Permits one event and returns 0, or returns the microseconds to wait.
static TAKE_SCRIPT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local window = tonumber(ARGV[2])
local oldest = redis.call('LINDEX', KEYS[1], -1)
while oldest and tonumber(oldest) <= now - window do
  redis.call('RPOP', KEYS[1])
  oldest = redis.call('LINDEX', KEYS[1], -1)
end
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  return math.min(math.max(tonumber(oldest) + window - now, 1), window)
end
redis.call('LPUSH', KEYS[1], string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 0",
    )
});

/// The limit is reached. `wait` is the time until the next event is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rate limit reached; next in {} ms", wait.as_millis())]
pub struct RateLimited {
    pub wait: Duration,
}

/// Permits at most `limit` events for each key and window. Cheap to clone. Clones share their counts, and so do all processes with the
/// same Redis and name.
#[derive(Clone)]
pub struct RateLimit {
    redis: Option<Redis>,
    name: &'static str,
    limit: u32,
    window: Duration,
    local: Cache<String, Arc<Mutex<VecDeque<Timestamp>>>>,
    clock: Arc<dyn Clock>,
}

impl RateLimit {
    /// `name` separates this limit from others in Redis. A limit of 0 permits nothing.
    pub fn new(redis: Option<Redis>, name: &'static str, limit: u32, window: Duration, clock: Arc<dyn Clock>) -> RateLimit {
        let keys = (MAX_INSTANTS / u64::from(limit.max(1))).clamp(1, MAX_KEYS);
        let local = Cache::builder().max_capacity(keys).eviction_policy(EvictionPolicy::lru()).build();
        RateLimit { redis, name, limit, window, local, clock }
    }

    /// Counts one event if the limit permits it. It counts before the caller knows the outcome, so concurrent attempts cannot pass
    /// together.
    pub async fn take(&self, key: &str) -> Result<(), RateLimited> {
        if self.limit == 0 {
            return Err(RateLimited { wait: self.window });
        }
        let Some(redis) = &self.redis else { return self.take_local(key) };
        match self.take_in_redis(redis, key).await {
            Ok(0) => {
                self.record_local(key);
                Ok(())
            }
            Ok(wait) => Err(RateLimited { wait: Duration::from_micros(wait) }),
            Err(error) => {
                self.report_fallback(&error);
                self.take_local(key)
            }
        }
    }

    /// Removes the latest event, because it should not have counted.
    pub async fn give_back(&self, key: &str) {
        if let Some(instants) = self.local.get(key) {
            instants.lock().pop_back();
        }
        if let Some(redis) = &self.redis
            && let Err(error) = redis.call::<()>(super::cmd("LPOP").arg(self.redis_key(redis, key))).await
        {
            self.report_fallback(&error);
        }
    }

    /// Removes all events of this key.
    pub async fn reset(&self, key: &str) {
        self.local.invalidate(key);
        if let Some(redis) = &self.redis
            && let Err(error) = redis.call::<()>(super::cmd("DEL").arg(self.redis_key(redis, key))).await
        {
            self.report_fallback(&error);
        }
    }

    async fn take_in_redis(&self, redis: &Redis, key: &str) -> Result<u64, RedisError> {
        let micros = u64::try_from(self.window.as_micros()).unwrap_or(u64::MAX);
        redis.run(TAKE_SCRIPT.key(self.redis_key(redis, key)).arg(self.limit).arg(micros).arg(to_millis(self.window) + 1)).await
    }

    fn take_local(&self, key: &str) -> Result<(), RateLimited> {
        let now = self.clock.now();
        let instants = self.local.get_with_by_ref(key, Arc::default);
        let mut instants = instants.lock();
        while instants.front().is_some_and(|oldest| oldest.after(self.window) <= now) {
            instants.pop_front();
        }
        if let Some(oldest) = instants.front().filter(|_| instants.len() >= self.limit as usize) {
            return Err(RateLimited { wait: oldest.after(self.window).since(now).min(self.window) });
        }
        instants.push_back(now);
        Ok(())
    }

    /// Records an event that Redis permitted, for times when Redis is away.
    fn record_local(&self, key: &str) {
        let instants = self.local.get_with_by_ref(key, Arc::default);
        let mut instants = instants.lock();
        if instants.len() >= self.limit as usize {
            instants.pop_front();
        }
        instants.push_back(self.clock.now());
    }

    /// Keys are stored as digests, because they identify persons and callers choose their length.
    fn redis_key(&self, redis: &Redis, key: &str) -> String {
        redis.key("limit", &format!("{}:{}", self.name, BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(key)[..16])))
    }

    fn report_fallback(&self, error: &RedisError) {
        metrics::counter!("onrush_rate_limit_local_fallback_total", "name" => self.name).increment(1);
        tracing::debug!(%error, limit = self.name, "rate limit counted in this process alone");
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("name", &self.name)
            .field("limit", &self.limit)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
