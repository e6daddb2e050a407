//! A lock across all processes, with a wait time, a lease and a fencing number.
//!
//! Guarantee, while Redis keeps its data: there is at most one holder at a time. Each holder gets a higher number than the one before.
//! The lock does **not** guarantee exclusion. A holder may have paused for longer than its lease. Redis may have lost its data, or an old
//! replica may have answered. Then two holders both believe they hold the lock. So the lock only saves work and keeps order. A holder
//! that writes must call `engine::fence::check` with [`LockGuard::fence`] in the writing transaction; the late holder then rolls back.
//!
//! Numbers rise even if Redis loses them. A new number is above the last one in Redis and above the caller's floor, which is the last
//! number in the database (`engine::fence::last`). It is also at least the server's clock in microseconds. A later holder
//! gets a lower number only if three things meet: Redis lost its data, its clock was set back, and the earlier holder has not written
//! yet. Then the later holder is fenced, and still only one of them writes.

use super::{Redis, RedisError, Script, random_token, to_millis};
use runtime::{backoff::Backoff, ports::Stopwatch};
use std::{sync::LazyLock, time::Duration};

/// Pauses between two attempts of a waiting caller. Random jitter shortens each, so that waiting callers do not come at the same moment.
const WAIT_BACKOFF: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(160));
/// Time that Redis keeps the last number of a free lock. After that the clock alone is high enough.
const FENCE_TTL: Duration = Duration::from_secs(24 * 3600);

/// Takes the lock if it is free; otherwise returns the remaining lease. A repeat with the same token (the first answer was lost) returns
/// the same result. A double holds the numbers exactly up to 2^53, which in microseconds is the year 2255.
static TAKE_SCRIPT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {0, redis.call('PTTL', KEYS[1])} end
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local fence = last
if not holder or last == 0 then
  local time = redis.call('TIME')
  fence = math.max(last + 1, tonumber(ARGV[3]) + 1, tonumber(time[1]) * 1000000 + tonumber(time[2]))
end
local text = string.format('%.0f', fence)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], text, 'PX', ARGV[2] + ARGV[4])
return {1, text}",
    )
});

static EXTEND_SCRIPT: LazyLock<Script> = LazyLock::new(|| {
    Script::new("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0")
});

static RELEASE_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"));

/// A lock, by its name. Cheap to create. [`Lock::acquire`] takes it.
#[derive(Clone, Debug)]
pub struct Lock {
    redis: Redis,
    key: String,
    fence_key: String,
    floor: i64,
}

impl Lock {
    pub fn new(redis: &Redis, name: &str) -> Lock {
        Lock { redis: redis.clone(), key: redis.key("lock", name), fence_key: redis.key("fence", name), floor: 0 }
    }

    /// Numbers issued from now on are above `floor`, the last number in the database.
    pub fn above(mut self, floor: i64) -> Lock {
        self.floor = floor;
        self
    }

    /// Waits up to `wait` for the lock, and holds it for `lease` at most. `None`: other holders had it all the time. `Err`: Redis did not
    /// answer, so the lock may or may not be taken. It is then released as soon as Redis answers again, or by its lease.
    pub async fn acquire(&self, wait: Duration, lease: Duration) -> Result<Option<LockGuard>, RedisError> {
        let mut guard = LockGuard { lock: self.clone(), token: random_token(), fence: 0, may_hold: false };
        let waited = Stopwatch::start();
        let mut pauses = 0;
        loop {
            // From here on this caller may hold the lock, even if it gives up or loses the answer. Dropping the guard releases it.
            guard.may_hold = true;
            let (taken, number) = self.take(&guard.token, lease).await?;
            if taken {
                guard.fence = number;
                return Ok(Some(guard));
            }
            guard.may_hold = false;
            let left = wait.saturating_sub(waited.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            let lease_left = Duration::from_millis(u64::try_from(number).unwrap_or(0) + 1);
            tokio::time::sleep(WAIT_BACKOFF.equal_jitter(pauses).min(left).min(lease_left)).await;
            pauses += 1;
        }
    }

    /// `true` with this holder's number, or `false` with the milliseconds that remain of another holder's lease.
    async fn take(&self, token: &str, lease: Duration) -> Result<(bool, i64), RedisError> {
        let mut call = TAKE_SCRIPT.key(&self.key);
        call.key(&self.fence_key).arg(token).arg(to_millis(lease)).arg(self.floor).arg(to_millis(FENCE_TTL));
        self.redis.run(&call).await
    }
}

/// A taken lock. Dropping it releases the lock in the background; [`LockGuard::release`] waits for that.
#[derive(Debug)]
pub struct LockGuard {
    lock: Lock,
    token: String,
    fence: i64,
    may_hold: bool,
}

impl LockGuard {
    /// The number of this holder, above all earlier ones.
    pub fn fence(&self) -> i64 {
        self.fence
    }

    /// Extends the lease to `lease` from now. `false`: the lock was lost, and another caller may hold it.
    pub async fn extend(&self, lease: Duration) -> Result<bool, RedisError> {
        self.lock.redis.run(EXTEND_SCRIPT.key(&self.lock.key).arg(&self.token).arg(to_millis(lease))).await
    }

    /// Releases the lock. `false`: it was lost before.
    pub async fn release(mut self) -> Result<bool, RedisError> {
        let released = release(&self.lock, &self.token).await;
        // After an error, dropping the guard tries once more in the background.
        self.may_hold = released.is_err();
        released
    }
}

async fn release(lock: &Lock, token: &str) -> Result<bool, RedisError> {
    lock.redis.run(RELEASE_SCRIPT.key(&lock.key).arg(token)).await
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        // Outside the runtime, and while the process ends, only the lease releases the lock.
        if !self.may_hold || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (lock, token) = (self.lock.clone(), std::mem::take(&mut self.token));
        runtime::tasks::spawn("redis.lock.release", async move {
            if let Err(error) = release(&lock, &token).await {
                tracing::debug!(%error, "lock not released: its lease will end it");
            }
        });
    }
}
