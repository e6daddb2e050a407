//! A bounded cache in process memory with single flight: concurrent readers of a missing key cause one load. The cache is never the
//! truth. Entries expire, and services invalidate them when they change the rows behind them.
//!
//! With a second level, other processes find a loaded value in Redis. The cache asks Redis only if memory has no entry, and asks the
//! database if Redis does not answer. This cache does not reach the memory of other processes. They invalidate their entries with
//! [`Cache::invalidate`] when they read the message about the change.

use crate::redis::{
    Redis,
    entries::{EntryLookup, SharedEntries},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    future::Future,
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Number of change counters that keys share. The cache drops a load if an invalidation raised the key's counter meanwhile.
const STRIPES: usize = 64;

#[derive(Clone)]
pub struct Cache<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static> {
    memory: moka::future::Cache<K, V>,
    counters: Arc<ChangeCounters>,
    second_level: Option<Arc<SecondLevel<K, V>>>,
}

/// Copies in Redis, and the encoding of keys and values there.
struct SecondLevel<K, V> {
    entries: SharedEntries,
    key_name: fn(&K) -> Option<String>,
    encode: fn(&V) -> Option<Vec<u8>>,
    decode: fn(&[u8]) -> Option<V>,
}

/// Counts invalidations.
struct ChangeCounters {
    stripes: [AtomicU64; STRIPES],
    hasher: RandomState,
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub fn new(capacity: u64, time_to_live: Duration) -> Self {
        let memory = moka::future::Cache::builder().max_capacity(capacity).time_to_live(time_to_live).build();
        let counters = ChangeCounters { stripes: [const { AtomicU64::new(0) }; STRIPES], hasher: RandomState::new() };
        Self { memory, counters: Arc::new(counters), second_level: None }
    }

    /// A cache with Redis behind the memory, if there is a Redis. `name` separates this cache from others in Redis; change it when the
    /// encoding of the values changes. A value is at most as old as `time_to_live` and `redis_ttl` together. Must be called within the
    /// runtime.
    pub fn with_redis(capacity: u64, time_to_live: Duration, redis: Option<Redis>, name: &str, redis_ttl: Duration) -> Self
    where
        K: Serialize,
        V: Serialize + DeserializeOwned,
    {
        let mut cache = Self::new(capacity, time_to_live);
        cache.second_level = redis.map(|redis| {
            Arc::new(SecondLevel {
                entries: SharedEntries::new(redis, name, redis_ttl),
                key_name: |key| serde_json::to_string(key).ok(),
                encode: |value| serde_json::to_vec(value).ok(),
                decode: |bytes| serde_json::from_slice(bytes).ok(),
            })
        });
        cache
    }

    pub async fn get_or_load<E, F>(&self, key: K, load: F) -> Result<V, Arc<E>>
    where
        K: Clone,
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>>,
    {
        let count_before = self.counters.of(&key).load(Ordering::Acquire);
        let value = self.memory.try_get_with_by_ref(&key, self.load_through(&key, load)).await?;
        if self.counters.of(&key).load(Ordering::Acquire) != count_before {
            // An invalidation came during the load. This caller asked before the change, but the next caller must not get the old value.
            self.memory.invalidate(&key).await;
        }
        Ok(value)
    }

    /// Loads from the second level, or else from the source.
    async fn load_through<E>(&self, key: &K, load: impl Future<Output = Result<V, E>>) -> Result<V, E> {
        let Some((second_level, name)) =
            self.second_level.as_ref().and_then(|second_level| Some((second_level, (second_level.key_name)(key)?)))
        else {
            return load.await;
        };
        let generation = match second_level.entries.get(&name).await {
            EntryLookup::Value(bytes) => match (second_level.decode)(&bytes) {
                Some(value) => return Ok(value),
                // Another version of this program wrote the copy.
                None => None,
            },
            EntryLookup::Missing(generation) => Some(generation),
            EntryLookup::Unknown => None,
        };
        let value = load.await?;
        if let Some(generation) = generation
            && let Some(bytes) = (second_level.encode)(&value)
        {
            second_level.entries.put(&name, generation, &bytes).await;
        }
        Ok(value)
    }

    /// The value in memory.
    pub async fn get(&self, key: &K) -> Option<V> {
        self.memory.get(key).await
    }

    /// Puts a value into memory.
    pub async fn insert(&self, key: K, value: V) {
        self.memory.insert(key, value).await;
    }

    /// Drops an entry at once and discards loads in progress. Commit hooks may call it, because it is not async. A background task tells
    /// Redis; until Redis knows, this process does not read this key there.
    pub fn invalidate(&self, key: &K) {
        self.counters.of(key).fetch_add(1, Ordering::AcqRel);
        if let Some(second_level) = &self.second_level
            && let Some(name) = (second_level.key_name)(key)
        {
            second_level.entries.invalidate(&name);
        }
        // `invalidate` of the async cache awaits only listeners, and this cache has none.
        futures::executor::block_on(self.memory.invalidate(key));
    }

    pub fn invalidate_all(&self) {
        for stripe in &self.counters.stripes {
            stripe.fetch_add(1, Ordering::AcqRel);
        }
        if let Some(second_level) = &self.second_level {
            second_level.entries.invalidate_all();
        }
        self.memory.invalidate_all();
    }
}

impl ChangeCounters {
    fn of<K: Hash>(&self, key: &K) -> &AtomicU64 {
        let at = usize::try_from(self.hasher.hash_one(key) % STRIPES as u64).unwrap_or(0);
        &self.stripes[at]
    }
}
