//! Settings of a test's mall.

use super::backends::{Shape, TestBackends, reserve_backends};
use kit::{
    db::Synchronous,
    engine::EngineSettings,
    limits::LimitSettings,
    ports::{ManualClock, new_id},
    process::{Database, ProcessSettings},
    testing::Faults,
};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// A folder that is removed with this value.
pub struct TempFolder(PathBuf);

impl TempFolder {
    #[expect(clippy::new_without_default, reason = "it creates a folder, which should be explicit")]
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("onrush-test-{}", new_id()));
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub struct AppBuilder {
    pub(super) engine: EngineSettings,
    pub(super) synchronous: Synchronous,
    pub(super) queue: usize,
    pub(super) folder: TempFolder,
    pub(super) clock: ManualClock,
    pub(super) backends: Option<TestBackends>,
    pub(super) partitions: i64,
    pub(super) readers: usize,
    pub(super) faults: Faults,
    pub(super) limits: LimitSettings,
}

/// Limits that no test reaches by its number of requests. Those on wrong passwords stay, because every guess is a wrong password.
pub(super) fn lifted_limits() -> LimitSettings {
    let defaults = LimitSettings::default();
    LimitSettings {
        wrong_password_per_pair: defaults.wrong_password_per_pair,
        wrong_password_per_address: defaults.wrong_password_per_address,
        wrong_password_per_account: defaults.wrong_password_per_account,
        ..LimitSettings::off()
    }
}

impl AppBuilder {
    /// Limits on what callers may take. Without this call, only wrong passwords are limited.
    pub fn limits(mut self, limits: LimitSettings) -> Self {
        self.limits = limits;
        self
    }
    /// Partitions of each stream, on PostgreSQL. With one partition, a service's messages are read back in the order of writing.
    pub fn partitions(mut self, partitions: i64) -> Self {
        self.partitions = partitions;
        self
    }
    /// Read connections of each process, on PostgreSQL.
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers;
        self
    }
    /// On PostgreSQL, regardless of the environment.
    pub fn on_postgres(mut self) -> Self {
        self.backends = Some(TestBackends::postgres());
        self
    }

    /// On PostgreSQL, with Kafka between the services.
    pub fn on_kafka(mut self) -> Self {
        self.backends = Some(reserve_backends(Shape::Split));
        self
    }

    /// On SQLite, regardless of the environment.
    pub fn on_sqlite(mut self) -> Self {
        self.backends = Some(TestBackends::sqlite());
        self
    }

    pub(super) fn process_settings(&self) -> ProcessSettings {
        ProcessSettings {
            database: Database::Sqlite { path: self.folder.0.join("onrush.db"), synchronous: self.synchronous },
            kafka: None,
            apart: None,
            redis: None,
            engine: self.engine.clone(),
            queue: self.queue,
            limits: self.limits.clone(),
            secret: [7; 32],
            clock: Arc::new(self.clock.clone()),
            faults: self.faults.clone(),
        }
    }

    /// The backends from before a restart, or new ones.
    pub(super) fn take_or_reserve_backends(&mut self, shape: Shape) -> TestBackends {
        self.backends.take().unwrap_or_else(|| reserve_backends(shape))
    }

    pub fn fold(mut self, fold: bool) -> Self {
        self.engine.fold = fold;
        self
    }
    /// Time over which a message must fail before it becomes a dead letter. Zero by default.
    pub fn dead_letter_after(mut self, time: Duration) -> Self {
        self.engine.dead_letter_after = time;
        self
    }
    pub fn max_batch(mut self, commands: usize) -> Self {
        self.engine.max_batch = commands;
        self
    }
    pub fn queue(mut self, commands: usize) -> Self {
        self.queue = commands;
        self
    }
    /// The folder of the database, for services that keep a file beside it.
    pub fn folder(&self) -> PathBuf {
        self.folder.0.clone()
    }
}
