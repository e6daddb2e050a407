//! Copies of what the database has, in Redis, for all processes.
//!
//! An entry is bytes under a name, for a limited time. Two things keep it from being older than a change that somebody has announced with
//! [`Shared::forget`]: a copy is kept only under the generation that was seen *before* the database was read, and forgetting starts a new
//! one; and a process whose forgetting has not reached Redis yet does not look there. It never loads anything and decides nothing.

use super::{Redis, RedisError, Script, random_token, to_millis};
use crate::ports::{Stopwatch, random_bytes};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::Notify;

/// The longest load whose result is kept.
const MAX_LOAD: Duration = Duration::from_secs(60);
/// Names that may wait to be forgotten; with more, everything is.
const MAX_PENDING: usize = 10_000;
/// Between two tries to reach Redis with what is to be forgotten.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The value, or the generation in which one may be kept. KEYS: the entry, the era of all entries. Entries of another era are nothing.
static GET_SCRIPT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local era = redis.call('GET', KEYS[2])
if not era then
  era = ARGV[1]
  redis.call('SET', KEYS[2], era)
end
local found = redis.call('HMGET', KEYS[1], 'era', 'generation', 'value')
if found[1] == era and found[3] then return {1, found[3]} end
if found[1] == era and found[2] then return {0, found[2]} end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'era', era, 'generation', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {0, ARGV[1]}",
    )
});

static PUT_SCRIPT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local found = redis.call('HMGET', KEYS[1], 'era', 'generation')
if found[2] ~= ARGV[1] or found[1] ~= redis.call('GET', KEYS[2]) then return 0 end
redis.call('HSET', KEYS[1], 'value', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1",
    )
});

/// An entry that is not there has no generation in which anything could be kept.
static INVALIDATE_SCRIPT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HDEL', KEYS[1], 'value')
redis.call('HSET', KEYS[1], 'generation', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1",
    )
});

/// What a look has found.
#[derive(Debug)]
pub enum Found {
    Value(Vec<u8>),
    /// Nothing. What is read from the database from now on may be kept with this.
    Nothing(Generation),
    /// Redis cannot say. Read the database, keep nothing.
    Unknown,
}

/// What is read after it was given may be kept under its name, unless the name is forgotten meanwhile.
#[derive(Debug)]
pub struct Generation(String);

/// A shelf of copies. Cheap to clone; clones and all processes with the same Redis and name share it.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    redis: Redis,
    name: String,
    era_key: String,
    ttl: Duration,
    pending: Mutex<PendingInvalidations>,
    wake: Arc<Notify>,
}

/// What is to be forgotten and still is in Redis as far as we know.
#[derive(Default)]
struct PendingInvalidations {
    /// By name, the number and the age of the wish.
    names: HashMap<String, (u64, Stopwatch)>,
    all: Option<(u64, Stopwatch)>,
    last: u64,
}

impl Shared {
    /// `name` tells this shelf from others. Nothing is kept longer than `ttl`. Starts a task; must be called within the runtime.
    pub fn new(redis: Redis, name: &str, ttl: Duration) -> Shared {
        let wake = Arc::new(Notify::new());
        let era_key = redis.key("era", name);
        let inner = Inner { redis, name: name.to_owned(), era_key, ttl, pending: Mutex::default(), wake: Arc::clone(&wake) };
        let inner = Arc::new(inner);
        crate::tasks::spawn("redis.shared.forget", flush_pending(Arc::downgrade(&inner), wake));
        Shared(inner)
    }

    pub async fn look(&self, name: &str) -> Found {
        let inner = &*self.0;
        if inner.pending().covers(name) {
            return Found::Unknown;
        }
        let key = inner.key(name);
        let answer: Result<(bool, Vec<u8>), RedisError> =
            inner.redis.run(GET_SCRIPT.key(key).key(&inner.era_key).arg(random_token()).arg(to_millis(MAX_LOAD))).await;
        match answer {
            // Somebody here may have announced a change while the answer was on its way.
            Ok(_) if inner.pending().covers(name) => Found::Unknown,
            Ok((true, value)) => Found::Value(value),
            Ok((false, generation)) => String::from_utf8(generation).map_or(Found::Unknown, |text| Found::Nothing(Generation(text))),
            Err(error) => {
                tracing::debug!(%error, entries = inner.name, "no look into Redis");
                Found::Unknown
            }
        }
    }

    /// Keeps a copy, if its name was not forgotten since the generation was given. Entries end at different times, so that what was
    /// loaded together is not loaded again together. Lost copies cost nothing but time, so there is no error.
    pub async fn keep(&self, name: &str, generation: Generation, value: &[u8]) {
        let inner = &*self.0;
        if inner.pending().covers(name) {
            return;
        }
        let ttl = inner.ttl.mul_f64(0.8 + 0.2 * f64::from(random_bytes::<1>()[0]) / 256.0);
        let mut call = PUT_SCRIPT.key(inner.key(name));
        call.key(&inner.era_key).arg(generation.0).arg(value).arg(to_millis(ttl));
        if let Err(error) = inner.redis.run::<bool>(&call).await {
            tracing::debug!(%error, entries = inner.name, "a copy was not kept in Redis");
        }
    }

    /// What is behind this name has changed: no look here finds the old copy from now on, and none elsewhere once Redis is told, which is
    /// at once if it answers. If it does not, others may find the old copy until its time is over. Usable from a commit hook.
    pub fn forget(&self, name: &str) {
        let mut pending = self.0.pending();
        if pending.names.len() >= MAX_PENDING {
            pending.add_all();
        } else {
            let number = pending.next_number();
            pending.names.insert(name.to_owned(), (number, Stopwatch::start()));
        }
        drop(pending);
        self.0.wake.notify_one();
    }

    /// The same, and waits until Redis is told. After an error it is tried on in the background.
    pub async fn forget_now(&self, name: &str) -> Result<(), RedisError> {
        self.forget(name);
        let number = self.0.pending().names.get(name).map(|(number, _)| *number);
        self.0.invalidate_in_redis(name).await?;
        if let Some(number) = number {
            self.0.pending().complete(name, number);
        }
        Ok(())
    }

    /// The same for every name.
    pub fn forget_all(&self) {
        self.0.pending().add_all();
        self.0.wake.notify_one();
    }
}

impl PendingInvalidations {
    fn covers(&self, name: &str) -> bool {
        self.all.is_some() || self.names.contains_key(name)
    }

    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn add_all(&mut self) {
        self.all = Some((self.next_number(), Stopwatch::start()));
        self.names.clear();
    }

    /// The wish of this number was granted; a later one for the same name stays.
    fn complete(&mut self, name: &str, number: u64) {
        if self.names.get(name).is_some_and(|(last, _)| *last == number) {
            self.names.remove(name);
        }
    }

    fn complete_all(&mut self, number: u64) {
        if self.all.is_some_and(|(last, _)| last == number) {
            self.all = None;
        }
    }

    /// A wish that is older than any copy it could concern has come true by itself.
    fn drop_expired(&mut self, ttl: Duration) {
        let life = ttl.max(MAX_LOAD);
        self.names.retain(|_, (_, since)| since.elapsed() < life);
        if self.all.is_some_and(|(_, since)| since.elapsed() >= life) {
            self.all = None;
        }
    }
}

impl Inner {
    fn pending(&self) -> MutexGuard<'_, PendingInvalidations> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, name: &str) -> String {
        self.redis.key("copy", &format!("{}:{name}", self.name))
    }

    async fn invalidate_in_redis(&self, name: &str) -> Result<(), RedisError> {
        self.redis.run::<i64>(INVALIDATE_SCRIPT.key(self.key(name)).arg(random_token()).arg(to_millis(MAX_LOAD))).await.map(drop)
    }

    /// Tells Redis what is to be forgotten, as far as it answers.
    async fn flush(&self) -> Result<(), RedisError> {
        let all = self.pending().all.map(|(number, _)| number);
        if let Some(number) = all {
            self.redis.call::<()>(super::cmd("SET").arg(&self.era_key).arg(random_token())).await?;
            self.pending().complete_all(number);
        }
        let names: Vec<(String, u64)> = self.pending().names.iter().map(|(name, (number, _))| (name.clone(), *number)).collect();
        for (name, number) in names {
            self.invalidate_in_redis(&name).await?;
            self.pending().complete(&name, number);
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// Runs as long as the shelf is used.
async fn flush_pending(entries: Weak<Inner>, wake: Arc<Notify>) {
    loop {
        wake.notified().await;
        loop {
            let Some(inner) = entries.upgrade() else { return };
            match inner.flush().await {
                Ok(()) => break,
                Err(error) => tracing::debug!(%error, entries = inner.name, "Redis was not told what changed, trying again"),
            }
            inner.pending().drop_expired(inner.ttl);
            drop(inner);
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &self.0.name).finish_non_exhaustive()
    }
}
