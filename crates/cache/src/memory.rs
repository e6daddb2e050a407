//! The store in process memory behind every [`super::Cache`].
//!
//! It knows neither keys nor types, so the compiler instantiates the library's cache once, in this crate. It identifies an entry by 128
//! bits: two hashes of the key under independent random secrets. A collision of two keys is therefore not to be expected, even if a
//! client chooses the keys.

use std::{
    any::Any,
    array,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Number of change counters that keys share. The cache drops a load if an invalidation raised the key's counter meanwhile.
const STRIPES: usize = 64;

/// Identifies a key within one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyHash(u128);

/// A value of the typed cache.
pub(super) type Entry = Arc<dyn Any + Send + Sync>;
/// An error of the typed cache.
pub(super) type Failure = Arc<dyn Any + Send + Sync>;
pub(super) type Load<'l> = Pin<Box<dyn Future<Output = Result<Entry, Failure>> + Send + 'l>>;

pub(super) struct Memory {
    entries: moka::future::Cache<KeyHash, Entry, BuildHasherDefault<PassThrough>>,
    change_counters: [AtomicU64; STRIPES],
    hashers: [RandomState; 2],
}

impl Memory {
    pub fn new(capacity: u64, time_to_live: Duration) -> Memory {
        Memory {
            entries: moka::future::Cache::builder()
                .max_capacity(capacity)
                .time_to_live(time_to_live)
                .build_with_hasher(BuildHasherDefault::default()),
            change_counters: array::from_fn(|_| AtomicU64::new(0)),
            hashers: array::from_fn(|_| RandomState::new()),
        }
    }

    pub fn hash<K: Hash>(&self, key: &K) -> KeyHash {
        let [high, low] = [&self.hashers[0], &self.hashers[1]].map(|hasher| u128::from(hasher.hash_one(key)));
        KeyHash(high << 64 | low)
    }

    pub async fn get(&self, hash: KeyHash) -> Option<Entry> {
        self.entries.get(&hash).await
    }

    pub async fn insert(&self, hash: KeyHash, entry: Entry) {
        self.entries.insert(hash, entry).await;
    }

    /// Runs the load, or joins one that runs for the same key. Callers box the load, so that this code exists once.
    pub async fn load(&self, hash: KeyHash, load: Load<'_>) -> Result<Entry, Failure> {
        let count_before = self.change_counter(hash).load(Ordering::Acquire);
        let entry = self.entries.try_get_with(hash, load).await.map_err(|failure| Failure::clone(&failure))?;
        if self.change_counter(hash).load(Ordering::Acquire) != count_before {
            // An invalidation came during the load. This caller asked before the change, but the next caller must not get the old value.
            self.entries.invalidate(&hash).await;
        }
        Ok(entry)
    }

    /// Discards loads of this key that run now.
    pub fn discard_loads(&self, hash: KeyHash) {
        self.change_counter(hash).fetch_add(1, Ordering::AcqRel);
    }

    pub fn discard_all_loads(&self) {
        for counter in &self.change_counters {
            counter.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub fn remove(&self, hash: KeyHash) {
        // `invalidate` of the async cache awaits only listeners, and this cache has none.
        futures::executor::block_on(self.entries.invalidate(&hash));
    }

    pub fn remove_all(&self) {
        self.entries.invalidate_all();
    }

    fn change_counter(&self, hash: KeyHash) -> &AtomicU64 {
        &self.change_counters[usize::try_from(hash.0 % STRIPES as u128).unwrap_or(0)]
    }
}

/// Returns one half of a [`KeyHash`], because hashing a hash again would only cost time.
#[derive(Default)]
struct PassThrough(u64);

impl Hasher for PassThrough {
    fn write_u128(&mut self, hash: u128) {
        self.0 = (hash >> 64) as u64;
    }

    /// Not used by keys of this store.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn memory() -> Memory {
        Memory::new(100, Duration::from_secs(60))
    }

    #[test]
    fn keys_are_told_apart_by_two_independent_hashes() {
        let memory = memory();
        assert_eq!(memory.hash(&"a"), memory.hash(&"a"));
        let hashes: Vec<u128> = (0..10_000_u32).map(|key| memory.hash(&key).0).collect();
        let (high, low): (HashSet<u128>, HashSet<u128>) = hashes.iter().map(|hash| (hash >> 64, hash & u128::from(u64::MAX))).unzip();
        assert_eq!((high.len(), low.len()), (hashes.len(), hashes.len()));
        assert!(hashes.iter().all(|hash| hash >> 64 != hash & u128::from(u64::MAX)));
        assert_ne!(memory.hash(&1), Memory::new(1, Duration::from_secs(1)).hash(&1), "another store has other secrets");
    }

    #[test]
    fn the_store_uses_a_hash_as_it_is() {
        let hash = KeyHash(7 << 64 | 9);
        assert_eq!(BuildHasherDefault::<PassThrough>::default().hash_one(hash), 7);
    }

    #[tokio::test]
    async fn a_load_runs_only_for_a_missing_entry() {
        let memory = memory();
        let hash = memory.hash(&"a");
        let loaded = |value: u32| -> Load<'static> { Box::pin(async move { Ok(Arc::new(value) as Entry) }) };
        let number = |entry: Entry| *entry.downcast::<u32>().expect("a number");
        assert_eq!(memory.load(hash, loaded(1)).await.map(number).ok(), Some(1));
        assert_eq!(memory.load(hash, loaded(2)).await.map(number).ok(), Some(1));
        memory.remove(hash);
        assert_eq!(memory.load(hash, loaded(3)).await.map(number).ok(), Some(3));
        let other = memory.hash(&"b");
        let failure = memory.load(other, Box::pin(async { Err(Arc::new("down") as Failure) })).await.expect_err("it fails");
        assert_eq!(failure.downcast::<&str>().ok().as_deref(), Some(&"down"));
        assert!(memory.get(other).await.is_none(), "an error is not stored");
    }
}
