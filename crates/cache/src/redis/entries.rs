//! Copies of database values in Redis, for all processes.
//!
//! An entry holds bytes under a name, for a limited time. Two rules keep an entry from being older than a change announced with
//! [`SharedEntries::invalidate`]. First, a copy is stored only under the generation seen *before* the database was read, and an
//! invalidation starts a new generation. Second, a process does not read a name in Redis while its own invalidation has not arrived
//! there. This module loads nothing and decides nothing.

use super::{Redis, RedisError, Script, random_token, to_millis};
use parking_lot::{Mutex, MutexGuard};
use runtime::ports::{Stopwatch, random_bytes};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Weak},
    time::Duration,
};
use tokio::sync::Notify;

/// The longest load whose result is stored.
const MAX_LOAD: Duration = Duration::from_secs(60);
/// Maximum number of names with a pending invalidation, which bounds memory. Beyond it all entries are invalidated.
const MAX_PENDING: usize = 10_000;
/// Pause between two attempts to send pending invalidations.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Returns the value, or the generation that a new value may be stored under. KEYS: the entry, and the era of all entries. Entries of
/// another era count as missing.
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

/// A missing entry has no generation, so a load in progress cannot store its value.
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

/// Result of a read.
#[derive(Debug)]
pub enum EntryLookup {
    Value(Vec<u8>),
    /// No value. The caller may store a value under this generation if it reads the database from now on.
    Missing(Generation),
    /// Redis gives no answer. The caller reads the database and stores nothing.
    Unknown,
}

/// Permits storing a value read later than this was issued. An invalidation of the name revokes it.
#[derive(Debug)]
pub struct Generation(String);

/// A named group of entries. Cheap to clone. Clones and all processes with the same Redis and name share the entries.
#[derive(Clone)]
pub struct SharedEntries(Arc<Inner>);

struct Inner {
    redis: Redis,
    name: String,
    era_key: String,
    ttl: Duration,
    pending: Mutex<PendingInvalidations>,
    wake: Arc<Notify>,
}

/// Invalidations that Redis has not confirmed.
#[derive(Default)]
struct PendingInvalidations {
    /// By name, the number and the age of the invalidation.
    names: HashMap<String, (u64, Stopwatch)>,
    all: Option<(u64, Stopwatch)>,
    last: u64,
}

impl SharedEntries {
    /// `name` separates these entries from others. An entry lives for `ttl` at most. Starts a task, so it must be called within the
    /// runtime.
    pub fn new(redis: Redis, name: &str, ttl: Duration) -> SharedEntries {
        let wake = Arc::new(Notify::new());
        let era_key = redis.key("era", name);
        let inner = Inner { redis, name: name.to_owned(), era_key, ttl, pending: Mutex::default(), wake: Arc::clone(&wake) };
        let inner = Arc::new(inner);
        runtime::tasks::spawn_vital("redis.entries.invalidate", flush_pending(Arc::downgrade(&inner), wake));
        SharedEntries(inner)
    }

    pub async fn get(&self, name: &str) -> EntryLookup {
        let inner = &*self.0;
        if inner.pending().covers(name) {
            return EntryLookup::Unknown;
        }
        let key = inner.key(name);
        let answer: Result<(bool, Vec<u8>), RedisError> =
            inner.redis.run(GET_SCRIPT.key(key).key(&inner.era_key).arg(random_token()).arg(to_millis(MAX_LOAD))).await;
        match answer {
            // This process may have announced a change while the answer was on its way.
            Ok(_) if inner.pending().covers(name) => EntryLookup::Unknown,
            Ok((true, value)) => EntryLookup::Value(value),
            Ok((false, generation)) => {
                String::from_utf8(generation).map_or(EntryLookup::Unknown, |text| EntryLookup::Missing(Generation(text)))
            }
            Err(error) => {
                tracing::debug!(%error, entries = inner.name, "read from Redis failed");
                EntryLookup::Unknown
            }
        }
    }

    /// Stores a copy unless its name was invalidated since `generation` was issued. Expiry times vary, so that entries loaded together do
    /// not expire together. Returns no error, because a lost copy costs only time.
    pub async fn put(&self, name: &str, generation: Generation, value: &[u8]) {
        let inner = &*self.0;
        if inner.pending().covers(name) {
            return;
        }
        let ttl = inner.ttl.mul_f64(0.8 + 0.2 * f64::from(random_bytes::<1>()[0]) / 256.0);
        let mut call = PUT_SCRIPT.key(inner.key(name));
        call.key(&inner.era_key).arg(generation.0).arg(value).arg(to_millis(ttl));
        if let Err(error) = inner.redis.run::<bool>(&call).await {
            tracing::debug!(%error, entries = inner.name, "copy not stored in Redis");
        }
    }

    /// Announces a change of the value behind this name. From now on reads of this process do not return the old copy. Other processes
    /// stop as soon as Redis knows, which is at once if it answers. Otherwise they may read the old copy until it expires. Commit hooks
    /// may call this.
    pub fn invalidate(&self, name: &str) {
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

    /// Announces a change and waits until Redis knows. After an error a background task continues.
    pub async fn invalidate_now(&self, name: &str) -> Result<(), RedisError> {
        self.invalidate(name);
        let number = self.0.pending().names.get(name).map(|(number, _)| *number);
        self.0.invalidate_in_redis(name).await?;
        if let Some(number) = number {
            self.0.pending().complete(name, number);
        }
        Ok(())
    }

    /// Announces a change of every name.
    pub fn invalidate_all(&self) {
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

    /// Removes the invalidation with this number. A later one for the same name stays.
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

    /// Drops invalidations older than any copy that they could affect, because those copies have expired.
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
        self.pending.lock()
    }

    fn key(&self, name: &str) -> String {
        self.redis.key("copy", &format!("{}:{name}", self.name))
    }

    async fn invalidate_in_redis(&self, name: &str) -> Result<(), RedisError> {
        self.redis.run::<i64>(INVALIDATE_SCRIPT.key(self.key(name)).arg(random_token()).arg(to_millis(MAX_LOAD))).await.map(drop)
    }

    /// Sends the pending invalidations to Redis, and stops at the first error.
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

/// Runs as long as the entries are in use.
async fn flush_pending(entries: Weak<Inner>, wake: Arc<Notify>) {
    loop {
        wake.notified().await;
        loop {
            let Some(inner) = entries.upgrade() else { return };
            match inner.flush().await {
                Ok(()) => break,
                Err(error) => tracing::debug!(%error, entries = inner.name, "invalidation not sent to Redis: retrying"),
            }
            inner.pending().drop_expired(inner.ttl);
            drop(inner);
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

impl fmt::Debug for SharedEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &self.0.name).finish_non_exhaustive()
    }
}
