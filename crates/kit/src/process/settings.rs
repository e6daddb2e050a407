//! Settings of a process: its databases, its services, and its connections to other processes.

use super::Topology;
use auth::limits::LimitSettings;
use db::Synchronous;
use engine::EngineSettings;
use peers::links::Peers;
use runtime::{failpoints::Faults, ports::Clock};
use std::{collections::HashMap, path::PathBuf, sync::Arc};

/// Commands that may wait for the writer. At 10,000 a second the last one waits about half a second. Further commands are refused at
/// once.
pub const DEFAULT_QUEUE: usize = 4_096;
/// Partitions of a new stream on PostgreSQL: the number of instances of a service that can read at the same time.
pub const DEFAULT_PARTITIONS: i64 = 4;

/// The location of the data.
#[derive(Clone)]
pub enum Database {
    /// One file for all services, for one process.
    Sqlite { path: PathBuf, synchronous: Synchronous },
    /// A schema for each service, for any number of processes.
    Postgres(PostgresSettings),
}

#[derive(Clone)]
pub struct PostgresSettings {
    pub url: String,
    /// Services with a separate database: name and URL.
    pub own: HashMap<String, String>,
    /// Read connections of this process, for each database.
    pub readers: usize,
    /// Partitions of streams that do not exist yet.
    pub partitions: i64,
}

/// Without the URLs, because they hold passwords.
impl std::fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresSettings").field("readers", &self.readers).field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

impl PostgresSettings {
    pub fn at(url: impl Into<String>) -> PostgresSettings {
        PostgresSettings { url: url.into(), own: HashMap::new(), readers: 8, partitions: DEFAULT_PARTITIONS }
    }
}

/// Streams over Kafka, for services whose databases other processes cannot read.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// A list of `host:port`.
    pub bootstrap: String,
    /// The part before the dot in the name of every topic.
    pub prefix: String,
}

/// Redis, for all processes of a mall.
#[derive(Clone)]
pub struct RedisServer {
    pub url: String,
    /// The beginning of every key. Malls that share a server have different prefixes.
    pub prefix: String,
}

/// Without the URL, because it holds a password.
impl std::fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisServer").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Settings of services that run in separate processes: the services of this process, and the addresses of the others.
#[derive(Clone, Debug)]
pub struct SplitSettings {
    pub only: Vec<String>,
    pub peers: Peers,
}

#[derive(Clone)]
pub struct ProcessSettings {
    pub database: Database,
    /// `None`: readers read the outbox tables.
    pub kafka: Option<KafkaSettings>,
    /// `None`: every service runs here.
    pub apart: Option<SplitSettings>,
    /// `None`: rate limits and caches work for this process alone.
    pub redis: Option<RedisServer>,
    pub engine: EngineSettings,
    /// Capacity of each command queue.
    pub queue: usize,
    /// Limits on what callers may take.
    pub limits: LimitSettings,
    /// Signs access tokens and page cursors.
    pub secret: [u8; 32],
    pub clock: Arc<dyn Clock>,
    pub faults: Faults,
}

impl ProcessSettings {
    pub(super) fn topology(&self) -> Topology<'_> {
        Topology { database: &self.database, kafka: self.kafka.as_ref(), redis: self.redis.as_ref(), apart: self.apart.as_ref() }
    }
}
