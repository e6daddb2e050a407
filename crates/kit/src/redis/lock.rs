//! A lock over all processes, with a wait, a lease and a fencing number.
//!
//! What it gives: while Redis keeps what it was told, at most one holder at a time, and a number that rises with every holder. What it
//! does **not** give: exclusion. A holder that was stopped for longer than its lease, or a Redis that was emptied or answered by an old
//! replica, makes two who both believe to hold it. So the lock only saves work and keeps order; whoever writes under it calls
//! [`fence::check`](super::fence::check) with [`Guard::fence`] in the transaction that writes, and the late one rolls back.
//!
//! Numbers rise also over a Redis that lost them: a new one is above the last in Redis, above the caller's floor (the last number the
//! database has seen, [`fence::last`](super::fence::last)) and not below the server's clock in microseconds. Only a loss *and* a clock
//! set back *and* a holder that has not written yet can give a later holder the lower number; then the later one is the fenced one, and
//! still not both write.

use super::{Redis, RedisError, Script, random_token, to_millis};
use crate::ports::{Stopwatch, random_bytes};
use std::{sync::LazyLock, time::Duration};

/// The pauses between two tries of somebody who waits: doubled from the first to the last, each shortened by chance so that those who
/// wait do not come all at once.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_millis(160);
/// How long the last number of a free lock is kept. After that the clock alone is high enough.
const FENCE_TTL: Duration = Duration::from_secs(24 * 3600);

/// Takes the lock if it is free, or says how long it is still held. Asked again with the same token (the first answer was lost), it
/// answers the same. A double holds the numbers exactly up to 2^53, which in microseconds is the year 2255.
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

/// A lock by its name. Cheap to make; it is taken by [`Lock::acquire`].
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

    /// Numbers given from here on are above this one: the last that the database has seen.
    pub fn above(mut self, floor: i64) -> Lock {
        self.floor = floor;
        self
    }

    /// Tries for `wait` to get the lock, and holds it for `lease` at most. `None`: others had it all the time. An error means that Redis
    /// knows nothing; whether the lock was taken is then unknown, and it is given back as soon as Redis answers again, or by its lease.
    pub async fn acquire(&self, wait: Duration, lease: Duration) -> Result<Option<Guard>, RedisError> {
        let mut guard = Guard { lock: self.clone(), token: random_token(), fence: 0, may_hold: false };
        let waited = Stopwatch::start();
        let mut pause = FIRST_PAUSE;
        loop {
            // From here on it may be ours, even if this call is given up or its answer is lost: dropping the guard gives it back.
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
            tokio::time::sleep(jittered(pause).min(left).min(lease_left)).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Whether it is ours, and our number; or the milliseconds that somebody else still has.
    async fn take(&self, token: &str, lease: Duration) -> Result<(bool, i64), RedisError> {
        let mut call = TAKE_SCRIPT.key(&self.key);
        call.key(&self.fence_key).arg(token).arg(to_millis(lease)).arg(self.floor).arg(to_millis(FENCE_TTL));
        self.redis.run(&call).await
    }
}

/// Between a half and the whole of it.
fn jittered(pause: Duration) -> Duration {
    let chance = u32::from(random_bytes::<1>()[0]);
    pause / 2 + pause * chance / 512
}

/// A lock that was taken. Dropped, it is given back in the background; [`Guard::release`] waits for that.
#[derive(Debug)]
pub struct Guard {
    lock: Lock,
    token: String,
    fence: i64,
    may_hold: bool,
}

impl Guard {
    /// The number of this holder: above those of all before.
    pub fn fence(&self) -> i64 {
        self.fence
    }

    /// Holds it for `lease` from now. False: it was lost meanwhile, and somebody else may have it.
    pub async fn extend(&self, lease: Duration) -> Result<bool, RedisError> {
        self.lock.redis.run(EXTEND_SCRIPT.key(&self.lock.key).arg(&self.token).arg(to_millis(lease))).await
    }

    /// Gives it back. False: it was lost before.
    pub async fn release(mut self) -> Result<bool, RedisError> {
        let released = release(&self.lock, &self.token).await;
        // After an error it is tried once more in the background.
        self.may_hold = released.is_err();
        released
    }
}

async fn release(lock: &Lock, token: &str) -> Result<bool, RedisError> {
    lock.redis.run(RELEASE_SCRIPT.key(&lock.key).arg(token)).await
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Outside the runtime, and while the process ends, the lease does it.
        if !self.may_hold || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (lock, token) = (self.lock.clone(), std::mem::take(&mut self.token));
        crate::tasks::spawn("redis.lock.release", async move {
            if let Err(error) = release(&lock, &token).await {
                tracing::debug!(%error, "a lock was not given back, its lease will end it");
            }
        });
    }
}
