//! The second cache level: one load for all instances, and no entry older than an announced change.

use crate::redis::support::{Server, eventually, flush, instance, never_open, prefix, redis};
use futures::future::join_all;
use kit::{
    cache::Cache,
    ports::SystemClock,
    redis::{
        Redis, cmd,
        entries::{EntryLookup, SharedEntries},
    },
};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

const LONG: Duration = Duration::from_secs(600);

fn cache(redis: &Redis) -> Cache<String, u32> {
    Cache::with_redis(100, LONG, Some(redis.clone()), "things", LONG)
}

/// The source of values, with a counter of loads.
#[derive(Default)]
struct Source {
    value: AtomicU32,
    loads: AtomicU32,
}

impl Source {
    async fn load(&self) -> Result<u32, Infallible> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        Ok(self.value.load(Ordering::SeqCst))
    }

    fn set(&self, value: u32) {
        self.value.store(value, Ordering::SeqCst);
    }

    fn loads(&self) -> u32 {
        self.loads.load(Ordering::SeqCst)
    }
}

async fn get(cache: &Cache<String, u32>, source: &Source) -> u32 {
    cache.get_or_load("a".to_owned(), source.load()).await.unwrap()
}

// H1
#[tokio::test]
async fn one_instance_loads_for_all() {
    let prefix = prefix();
    let (one, two, source) = (cache(&instance(&prefix)), cache(&instance(&prefix)), Source::default());
    source.set(7);
    let found = join_all((0..50).map(|_| get(&one, &source))).await;
    assert!(found.into_iter().all(|value| value == 7));
    assert_eq!(source.loads(), 1, "a single flight");
    assert_eq!(get(&two, &source).await, 7);
    assert_eq!(source.loads(), 1, "from Redis");
    let other: Cache<String, u32> = Cache::with_redis(100, LONG, Some(instance(&prefix)), "other things", LONG);
    get(&other, &source).await;
    assert_eq!(source.loads(), 2, "another cache has entries of its own");
}

#[tokio::test]
async fn an_invalidated_entry_is_reloaded_by_all() {
    let prefix = prefix();
    let (one, two, source) = (cache(&instance(&prefix)), cache(&instance(&prefix)), Source::default());
    get(&one, &source).await;
    source.set(8);
    one.invalidate(&"a".to_owned());
    assert_eq!(get(&one, &source).await, 8, "at once, regardless of Redis");
    eventually("Redis has the change", || async { get(&two, &source).await == 8 }).await;
}

/// Entries of other caches, and the source, are not affected.
#[tokio::test]
async fn a_whole_cache_can_be_invalidated() {
    let prefix = prefix();
    let (redis, source) = (instance(&prefix), Source::default());
    let one = cache(&redis);
    get(&one, &source).await;
    source.set(9);
    one.invalidate_all();
    assert_eq!(get(&one, &source).await, 9);
    // A new instance with an empty memory.
    eventually("no instance finds the old entry", || async { get(&cache(&redis), &source).await == 9 }).await;
}

// H1: the load began before the change and ends after it
#[tokio::test]
async fn a_stale_load_is_not_cached_in_redis() {
    let prefix = prefix();
    let (one, two, source) = (cache(&instance(&prefix)), cache(&instance(&prefix)), Source::default());
    let (read, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (one, read, go) = (one.clone(), Arc::clone(&read), Arc::clone(&go));
        async move {
            let load = async {
                read.notify_one();
                go.notified().await;
                Ok::<u32, Infallible>(1)
            };
            one.get_or_load("a".to_owned(), load).await.unwrap()
        }
    };
    let change = async {
        read.notified().await;
        source.set(2);
        // One instance announces the change, another runs the load.
        two.invalidate(&"a".to_owned());
        assert_eq!(get(&two, &source).await, 2);
        go.notify_one();
    };
    let (old, ()) = futures::join!(slow, change);
    assert_eq!(old, 1, "the load began before the change");
    // The announcement may still be in flight, so each attempt uses a new instance with an empty memory.
    let redis = instance(&prefix);
    eventually("Redis has the new entry or none", || async { get(&cache(&redis), &source).await == 2 }).await;
    one.invalidate(&"a".to_owned());
    assert_eq!(get(&one, &source).await, 2);
}

#[tokio::test]
async fn a_stale_load_is_not_cached_in_memory() {
    let source = Source::default();
    let cache: Cache<String, u32> = Cache::new(100, LONG);
    source.set(2);
    let load = async {
        cache.invalidate(&"a".to_owned());
        Ok::<u32, Infallible>(1)
    };
    assert_eq!(cache.get_or_load("a".to_owned(), load).await.unwrap(), 1);
    assert_eq!(get(&cache, &source).await, 2);
}

#[tokio::test]
async fn a_generation_is_valid_once_and_until_a_change() {
    let server = Server::start().await;
    let redis = server.patient_client();
    let entries = SharedEntries::new(redis.clone(), "shelf", LONG);
    let generation = |found| match found {
        EntryLookup::Missing(generation) => generation,
        other => panic!("{other:?}"),
    };
    let before_change = generation(entries.get("a").await);
    let with_it = generation(entries.get("a").await);
    entries.invalidate_now("a").await.unwrap();
    entries.put("a", before_change, b"old").await;
    assert!(matches!(entries.get("a").await, EntryLookup::Missing(_)));
    flush(&redis).await;
    entries.put("a", with_it, b"old").await;
    let new = generation(entries.get("a").await);
    entries.put("a", new, b"new").await;
    assert!(matches!(entries.get("a").await, EntryLookup::Value(value) if value == b"new"));
    let left: i64 = redis.call(cmd("PTTL").arg(redis.key("copy", "shelf:a"))).await.unwrap();
    assert!((400_000..=600_000).contains(&left), "{left}");
    // The era was evicted, so its entries are invalid.
    redis.call::<()>(cmd("DEL").arg(redis.key("era", "shelf"))).await.unwrap();
    assert!(matches!(entries.get("a").await, EntryLookup::Missing(_)));
}

// F15: the change is announced during the outage, and Redis returns with the old entry
#[tokio::test]
async fn changes_during_a_redis_outage_are_not_lost() {
    let server = Server::start().await;
    let new = || server.connect(never_open(), Arc::new(SystemClock));
    let (one, two, source) = (cache(&new()), cache(&new()), Source::default());
    source.set(1);
    assert_eq!(get(&one, &source).await, 1);
    server.freeze();
    source.set(2);
    one.invalidate(&"a".to_owned());
    assert_eq!(get(&one, &source).await, 2, "without Redis");
    one.invalidate(&"a".to_owned());
    server.thaw();
    assert_eq!(get(&one, &source).await, 2, "the entry in Redis may still be the old one");
    eventually("other instances find the new entry, too", || async {
        two.invalidate_all();
        get(&two, &source).await == 2
    })
    .await;
    let third = cache(&server.patient_client());
    eventually("Redis has the change", || async {
        let value = get(&third, &source).await;
        third.invalidate_all();
        value == 2
    })
    .await;
}

#[tokio::test]
async fn an_entry_of_another_type_is_reloaded() {
    let redis = redis();
    let texts: Cache<String, String> = Cache::with_redis(100, LONG, Some(redis.clone()), "things", LONG);
    texts.get_or_load("a".to_owned(), async { Ok::<_, Infallible>("text".to_owned()) }).await.unwrap();
    let source = Source::default();
    source.set(5);
    assert_eq!(get(&cache(&redis), &source).await, 5);
}

#[tokio::test]
async fn a_failed_load_is_not_cached() {
    let redis = redis();
    let source = Source::default();
    let one: Cache<String, u32, &str> = Cache::with_redis(100, LONG, Some(redis.clone()), "things", LONG);
    assert_eq!(*one.get_or_load("a".to_owned(), async { Err("down") }).await.unwrap_err(), "down");
    source.set(3);
    assert_eq!(get(&cache(&redis), &source).await, 3);
}
