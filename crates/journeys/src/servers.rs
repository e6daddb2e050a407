//! The servers that malls run on. Tests stop, kill and restart them.

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::process::Command;

/// Tests that stop a server take this lock exclusively, so that all other tests of this program wait.
static SERVERS: RwLock<()> = RwLock::new(());

/// For tests that need running servers.
pub fn shared() -> RwLockReadGuard<'static, ()> {
    SERVERS.read()
}

/// For tests that stop a server.
pub fn exclusive() -> RwLockWriteGuard<'static, ()> {
    SERVERS.write()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendServer {
    Postgres,
    Redis,
    Kafka,
}

/// Way to stop a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    Graceful,
    /// Without a checkpoint; PostgreSQL only.
    Immediate,
    /// SIGKILL.
    Kill,
}

impl BackendServer {
    /// Address of the server, from its environment variable.
    pub fn address(self) -> String {
        let variable = match self {
            BackendServer::Postgres => "ONRUSH_TEST_POSTGRES",
            BackendServer::Redis => "ONRUSH_TEST_REDIS",
            BackendServer::Kafka => "ONRUSH_TEST_KAFKA",
        };
        std::env::var(variable).unwrap_or_else(|_| panic!("set {variable}, or run ./scripts/services run -- cargo test …"))
    }

    pub fn stop(self, mode: StopMode) {
        self.control("stop", mode);
    }

    /// Returns when the server answers.
    pub fn start(self) {
        self.control("start", StopMode::Graceful);
    }

    pub fn restart(self, mode: StopMode) {
        self.control("restart", mode);
    }

    fn control(self, verb: &str, mode: StopMode) {
        let name = match self {
            BackendServer::Postgres => "postgres",
            BackendServer::Redis => "redis",
            BackendServer::Kafka => "kafka",
        };
        let mut command = Command::new(script());
        command.args([verb, name]);
        match mode {
            StopMode::Graceful => {}
            StopMode::Immediate => drop(command.arg("--immediate")),
            StopMode::Kill => drop(command.arg("--kill")),
        }
        let output = command.output().expect("the script runs");
        assert!(output.status.success(), "cannot {verb} {name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The script that started the servers.
fn script() -> String {
    let state = std::env::var("ONRUSH_SERVICES_STATE").unwrap_or_else(|_| {
        panic!("this test stops servers: run ./scripts/services run -- cargo test …, which sets ONRUSH_SERVICES_STATE")
    });
    let text = std::fs::read_to_string(&state).unwrap_or_else(|error| panic!("{state}: {error}"));
    let path = text.lines().find_map(|line| line.strip_prefix("services="));
    path.unwrap_or_else(|| panic!("{state} does not name the script")).to_owned()
}
