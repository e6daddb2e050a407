//! A bounded cache in process memory with single flight: many readers of a missing key cause one load. It is never the truth; entries
//! live for a limited time and services drop them when they change what is behind.

use std::{future::Future, hash::Hash, sync::Arc, time::Duration};

#[derive(Clone)]
pub struct Cache<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static>(moka::future::Cache<K, V>);

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub fn new(capacity: u64, time_to_live: Duration) -> Self {
        Self(moka::future::Cache::builder().max_capacity(capacity).time_to_live(time_to_live).build())
    }

    pub async fn get_or_load<E, F>(&self, key: K, load: F) -> Result<V, Arc<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>>,
    {
        self.0.try_get_with(key, load).await
    }

    pub async fn get(&self, key: &K) -> Option<V> {
        self.0.get(key).await
    }

    pub async fn insert(&self, key: K, value: V) {
        self.0.insert(key, value).await;
    }

    /// Drops an entry at once; usable from a commit hook, which is not async.
    pub fn forget(&self, key: &K) {
        // `invalidate` of the async cache only awaits listeners, and there are none.
        futures::executor::block_on(self.0.invalidate(key));
    }

    pub fn forget_all(&self) {
        self.0.invalidate_all();
    }
}
