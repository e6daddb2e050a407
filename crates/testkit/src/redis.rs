//! A separate Redis server for tests that stop or freeze it.

use super::TempFolder;
use kit::{
    breaker::BreakerSettings,
    ports::SystemClock,
    redis::{Redis, RedisSettings, cmd},
};
use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

/// A running server. It ends with this value.
pub struct TestRedis {
    child: Child,
    port: u16,
    folder: TempFolder,
    options: Vec<&'static str>,
}

impl TestRedis {
    /// A server that stores nothing on disk.
    pub async fn start() -> TestRedis {
        Self::start_with(&["--appendonly", "no"]).await
    }

    /// A server with these command-line options.
    pub async fn start_with(options: &[&'static str]) -> TestRedis {
        // The port is free when it is chosen. If another process takes it meanwhile, the start fails, and the loop tries another port.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
            let (folder, options) = (TempFolder::new(), options.to_vec());
            let child = launch(port, folder.path(), &options);
            let mut server = TestRedis { child, port, folder, options };
            if server.is_up().await {
                return server;
            }
        }
        panic!("redis-server does not start: install it (Debian: apt-get install redis-server)");
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The folder of the server's files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client with a long timeout, whose breaker never opens.
    pub fn patient_client(&self) -> Redis {
        let breaker = BreakerSettings { min_calls: usize::MAX, window: usize::MAX, ..BreakerSettings::default() };
        let settings = RedisSettings { call_timeout: Duration::from_secs(10), prefix: "onrush:".into(), breaker };
        Redis::connect(&self.url(), settings, Arc::new(SystemClock)).expect("the address is valid")
    }

    /// Suspends the server: it accepts connections and bytes, and answers nothing.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("the program kill exists");
        assert!(done.success(), "kill {signal}");
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("it was started here");
        self.child.wait().expect("it was started here");
    }

    /// Starts the server again on the same port, with the data in its folder.
    pub async fn restart(&mut self) {
        self.kill();
        self.child = launch(self.port, self.folder.path(), &self.options);
        assert!(self.is_up().await, "redis-server does not start again");
    }

    async fn is_up(&mut self) -> bool {
        let probe = self.patient_client();
        for _ in 0..600 {
            if self.child.try_wait().expect("it was started here").is_some() {
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

impl Drop for TestRedis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(port: u16, folder: &Path, options: &[&str]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .arg("--dir")
        .arg(folder)
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server cannot be started: install it (Debian: apt-get install redis-server)")
}
