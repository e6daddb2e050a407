//! The shared Redis of the tests, and separate servers for tests that break theirs.

use contracts::Timestamp;
use kit::{
    Db, Tx,
    breaker::BreakerSettings,
    db::Synchronous,
    ports::{Clock, ManualClock, SystemClock, new_id},
    redis::{Redis, RedisSettings, cmd},
};
use std::{
    future::Future,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};
use testkit::{TempFolder, TestRedis};

/// Long enough for any answer on a busy machine, so that only outage tests time out.
const LONG_TIMEOUT: Duration = Duration::from_secs(10);

/// Address of the Redis that all tests share.
pub fn address() -> String {
    std::env::var("ONRUSH_TEST_REDIS").expect("ONRUSH_TEST_REDIS is not set: start the test services with ./scripts/services up")
}

/// A unique key prefix.
pub fn prefix() -> String {
    format!("test-{}:", new_id())
}

pub fn settings(prefix: &str) -> RedisSettings {
    RedisSettings { call_timeout: LONG_TIMEOUT, prefix: prefix.to_owned(), breaker: BreakerSettings::default() }
}

/// One of several instances with the same keys, on its own connection.
pub fn instance(prefix: &str) -> Redis {
    Redis::connect(&address(), settings(prefix), Arc::new(SystemClock)).unwrap()
}

pub fn redis() -> Redis {
    instance(&prefix())
}

/// A breaker that never opens, for tests of single calls.
pub fn never_open() -> BreakerSettings {
    BreakerSettings { min_calls: usize::MAX, window: usize::MAX, ..BreakerSettings::default() }
}

pub fn manual_clock() -> (ManualClock, Arc<dyn Clock>) {
    let clock = ManualClock::at(Timestamp(1_795_132_800_000_000));
    (clock.clone(), Arc::new(clock))
}

/// A separate server, and instances that use it.
pub struct Server(TestRedis);

impl Server {
    pub async fn start() -> Server {
        Server(TestRedis::start().await)
    }

    /// An instance with a short time limit.
    pub fn connect(&self, breaker: BreakerSettings, clock: Arc<dyn Clock>) -> Redis {
        let settings = RedisSettings { call_timeout: Duration::from_millis(250), prefix: "onrush:".into(), breaker };
        Redis::connect(&self.url(), settings, clock).unwrap()
    }
}

impl Deref for Server {
    type Target = TestRedis;
    fn deref(&self) -> &TestRedis {
        &self.0
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut TestRedis {
        &mut self.0
    }
}

pub async fn flush(redis: &Redis) {
    redis.call::<()>(&cmd("FLUSHALL")).await.unwrap();
}

/// Waits until the condition holds. Fails after half a minute.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..1_500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("condition never held: {what}");
}

/// A database of a service `kit`, with the fences table of every service, and a table that only a lock holder may write.
pub async fn database(folder: &TempFolder) -> Tx {
    let db = Db::sqlite(folder.path().join("kit.db"), Synchronous::Normal);
    let mut tx = db.open_writer().await.unwrap();
    tx.execute("create table kit_fences (name TEXT primary key, fence BIGINT not null) without rowid", &[]).await.unwrap();
    tx.execute("create table kit_writes (id BIGINT primary key, fence BIGINT not null)", &[]).await.unwrap();
    tx
}
