//! A bounded cache in process memory with single flight: concurrent readers of a missing key cause one load. The cache is never the
//! truth. Entries expire, and services invalidate them when they change the rows behind them.
//!
//! With a second level, other processes find a loaded value in Redis. The cache asks Redis only if memory has no entry, and asks the
//! database if Redis does not answer. This cache does not reach the memory of other processes. They invalidate their entries with
//! [`Cache::invalidate`] when they read the message about the change.
//!
//! [`Cache`] is a thin typed shell. The store and its single flight are in `memory.rs`. The module [`redis`] is for data that processes
//! share. The module [`buckets`] counts events in memory, for rate limits.

pub mod buckets;
mod memory;
pub mod redis;

use crate::redis::{
    Redis,
    entries::{EntryLookup, SharedEntries},
};
use memory::{Entry, Failure, Load, Memory};
use serde::{Serialize, de::DeserializeOwned};
use std::{convert::Infallible, future::Future, hash::Hash, marker::PhantomData, sync::Arc, time::Duration};

/// Values of one type by keys of one type. `E` is the error of its loads, one type as well, because concurrent callers share the outcome.
/// Clones share the entries.
pub struct Cache<K, V, E = Infallible> {
    memory: Arc<Memory>,
    second_level: Option<Arc<SecondLevel<K, V>>>,
    error: PhantomData<fn() -> E>,
}

/// Copies in Redis, and the encoding of keys and values there.
struct SecondLevel<K, V> {
    entries: SharedEntries,
    key_name: fn(&K) -> Option<String>,
    encode: fn(&V) -> Option<Vec<u8>>,
    decode: fn(&[u8]) -> Option<V>,
}

impl<K, V, E> Clone for Cache<K, V, E> {
    fn clone(&self) -> Self {
        Self { memory: Arc::clone(&self.memory), second_level: self.second_level.clone(), error: PhantomData }
    }
}

impl<K, V, E> Cache<K, V, E>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    pub fn new(capacity: u64, time_to_live: Duration) -> Self {
        Self { memory: Arc::new(Memory::new(capacity, time_to_live)), second_level: None, error: PhantomData }
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

    pub async fn get_or_load<F>(&self, key: K, load: F) -> Result<V, Arc<E>>
    where
        F: Future<Output = Result<V, E>> + Send,
    {
        let hash = self.memory.hash(&key);
        if let Some(entry) = self.memory.get(hash).await {
            return Ok(Self::value_of(&entry));
        }
        let load: Load<'_> = Box::pin(async move {
            match self.load_through(&key, load).await {
                Ok(value) => Ok(Arc::new(value) as Entry),
                Err(error) => Err(Arc::new(error) as Failure),
            }
        });
        match self.memory.load(hash, load).await {
            Ok(entry) => Ok(Self::value_of(&entry)),
            Err(failure) => Err(failure.downcast().expect("all loads of a cache have one error type")),
        }
    }

    fn value_of(entry: &Entry) -> V {
        entry.downcast_ref::<V>().expect("all entries of a cache have one type").clone()
    }

    /// Loads from the second level, or else from the source.
    async fn load_through(&self, key: &K, load: impl Future<Output = Result<V, E>>) -> Result<V, E> {
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
        self.memory.get(self.memory.hash(key)).await.map(|entry| Self::value_of(&entry))
    }

    /// Puts a value into memory.
    pub async fn insert(&self, key: K, value: V) {
        self.memory.insert(self.memory.hash(&key), Arc::new(value)).await;
    }

    /// Drops an entry at once and discards loads in progress. Commit hooks may call it, because it is not async. A background task tells
    /// Redis; until Redis knows, this process does not read this key there.
    pub fn invalidate(&self, key: &K) {
        let hash = self.memory.hash(key);
        self.memory.discard_loads(hash);
        if let Some(second_level) = &self.second_level
            && let Some(name) = (second_level.key_name)(key)
        {
            second_level.entries.invalidate(&name);
        }
        self.memory.remove(hash);
    }

    pub fn invalidate_all(&self) {
        self.memory.discard_all_loads();
        if let Some(second_level) = &self.second_level {
            second_level.entries.invalidate_all();
        }
        self.memory.remove_all();
    }
}
