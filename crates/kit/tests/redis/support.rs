//! The Redis of the tests, and servers of their own for tests that hurt theirs.

use contracts::Timestamp;
use kit::{
    Db, Tx,
    breaker::BreakerSettings,
    db::Synchronous,
    ports::{Clock, ManualClock, SystemClock, new_id},
    redis::{Redis, RedisSettings, cmd},
    testing::TempFolder,
};
use std::{
    future::Future,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

/// Long enough for any answer on a busy machine: only tests of outages are to meet a time-out.
const PATIENT: Duration = Duration::from_secs(10);

/// The address of the Redis that all tests share.
pub fn address() -> String {
    std::env::var("ONRUSH_TEST_REDIS").expect("ONRUSH_TEST_REDIS is not set: start the test services with ./scripts/services up")
}

/// A prefix of keys that no other test has.
pub fn prefix() -> String {
    format!("test-{}:", new_id())
}

pub fn settings(prefix: &str) -> RedisSettings {
    RedisSettings { call_timeout: PATIENT, prefix: prefix.to_owned(), breaker: BreakerSettings::default() }
}

/// One of several instances that use the same keys: a connection of its own.
pub fn instance(prefix: &str) -> Redis {
    Redis::connect(&address(), settings(prefix), Arc::new(SystemClock)).unwrap()
}

pub fn redis() -> Redis {
    instance(&prefix())
}

/// A breaker that never opens, for tests that look at single calls.
pub fn fearless() -> BreakerSettings {
    BreakerSettings { min_calls: usize::MAX, window: usize::MAX, ..BreakerSettings::default() }
}

pub fn manual_clock() -> (ManualClock, Arc<dyn Clock>) {
    let clock = ManualClock::at(Timestamp(1_795_132_800_000_000));
    (clock.clone(), Arc::new(clock))
}

/// A server that ends with the test.
pub struct Server {
    child: Child,
    port: u16,
    folder: TempFolder,
}

impl Server {
    pub async fn start() -> Server {
        // The port is free when it is chosen; whoever takes it meanwhile makes the start fail, and another one is tried.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let folder = TempFolder::new();
            let child = launch(port, &folder);
            let mut server = Server { child, port, folder };
            if server.is_up().await {
                return server;
            }
        }
        panic!("redis-server does not start: install it (Debian: apt-get install redis-server)");
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// An instance whose calls fail soon.
    pub fn connect(&self, breaker: BreakerSettings, clock: Arc<dyn Clock>) -> Redis {
        let settings = RedisSettings { call_timeout: Duration::from_millis(250), prefix: "onrush:".into(), breaker };
        Redis::connect(&self.url(), settings, clock).unwrap()
    }

    /// An instance that waits for answers.
    pub fn patient(&self) -> Redis {
        let settings = RedisSettings { breaker: fearless(), ..settings("onrush:") };
        Redis::connect(&self.url(), settings, Arc::new(SystemClock)).unwrap()
    }

    /// It takes connections and bytes, and answers nothing.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success(), "kill {signal}");
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port, with nothing in it.
    pub async fn restart(&mut self) {
        self.kill();
        self.child = launch(self.port, &self.folder);
        assert!(self.is_up().await, "redis-server does not start again");
    }

    async fn is_up(&mut self) -> bool {
        let probe = self.patient();
        for _ in 0..600 {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if probe.call::<String>(&cmd("PING")).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(port: u16, folder: &TempFolder) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server cannot be started: install it (Debian: apt-get install redis-server)")
}

pub async fn flush(redis: &Redis) {
    redis.call::<()>(&cmd("FLUSHALL")).await.unwrap();
}

/// Waits for what must come about, and fails when it has not after a long time.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..1_500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("this never came about: {what}");
}

/// A database of a service `kit` with the fences every service has, and a row that only the holder of a lock may write.
pub async fn database(folder: &TempFolder) -> Tx {
    let db = Db::sqlite(folder.path().join("kit.db"), Synchronous::Normal);
    let mut tx = db.open_writer().await.unwrap();
    tx.execute("create table kit_fences (name TEXT primary key, fence BIGINT not null) without rowid", &[]).await.unwrap();
    tx.execute("create table kit_writes (id BIGINT primary key, fence BIGINT not null)", &[]).await.unwrap();
    tx
}
