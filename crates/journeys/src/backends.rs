//! Databases, topics and Redis of one mall's processes. Dropping the value removes them.

use crate::servers::BackendServer;
use kit::ports::{new_id, random_bytes};
use std::fmt::Write;
use testkit::{TestDatabase, TestTopics};
use tokio::runtime::{Builder, Runtime};

/// Partitions of each stream. More than one, so that several processes share the work.
const PARTITIONS: &str = "2";
/// Read connections of a process to a database. Few, because many processes share a server.
const READERS: &str = "4";

pub struct Backends {
    /// Runs the test's own connections.
    runtime: Runtime,
    database: TestDatabase,
    /// Services with their own database.
    own_databases: Vec<(&'static str, TestDatabase)>,
    topics: Option<TestTopics>,
    redis: Option<String>,
    /// Replaces the address of the shared database.
    proxied_url: Option<String>,
    secret: String,
}

impl Backends {
    /// One database for all services.
    pub fn one_database() -> Backends {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime can be made");
        let database = runtime.block_on(TestDatabase::create());
        let secret = random_bytes::<32>().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Backends { runtime, database, own_databases: Vec::new(), topics: None, redis: None, proxied_url: None, secret }
    }

    /// Kafka between services, Redis between processes, and a separate database for each service in `own`.
    pub fn split(own: &[&'static str]) -> Backends {
        let mut backends = Backends::one_database();
        let create = |name: &&'static str| (*name, backends.runtime.block_on(TestDatabase::create()));
        backends.own_databases = own.iter().map(create).collect();
        backends.topics = Some(TestTopics::new(&BackendServer::Kafka.address(), &format!("test{}", new_id().simple())));
        backends.with_redis()
    }

    #[must_use]
    pub fn with_redis(mut self) -> Backends {
        self.redis = Some(BackendServer::Redis.address());
        self
    }

    /// Takes over the secret of an existing mall.
    #[must_use]
    pub fn with_secret(self, secret: String) -> Backends {
        Backends { secret, ..self }
    }

    /// Lets processes reach the same database through a proxy on this port.
    pub fn connect_through(&mut self, port: u16) {
        let url = self.database.url();
        let (server, rest) = url.split_once('@').expect("the address names a user");
        let (_, database) = rest.split_once('/').expect("the address names a database");
        self.proxied_url = Some(format!("{server}@127.0.0.1:{port}/{database}"));
    }

    /// Copies the database. No client may be connected to the original.
    pub(crate) fn copy(&self) -> Backends {
        assert!(self.own_databases.is_empty() && self.topics.is_none(), "only a mall on one database can be copied");
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime can be made");
        let database = runtime.block_on(self.database.copy());
        Backends {
            runtime,
            database,
            own_databases: Vec::new(),
            topics: None,
            redis: self.redis.clone(),
            proxied_url: None,
            secret: self.secret.clone(),
        }
    }

    /// Arguments for every command.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let url = self.proxied_url.clone().unwrap_or_else(|| self.database.url());
        let mut arguments = vec!["--database-url".to_owned(), url, "--secret".into(), self.secret.clone()];
        let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        add("--partitions", PARTITIONS.into());
        add("--readers", READERS.into());
        if !self.own_databases.is_empty() {
            let own: Vec<String> = self.own_databases.iter().map(|(name, database)| format!("{name}={}", database.url())).collect();
            add("--databases", own.join(","));
        }
        if let Some(topics) = &self.topics {
            add("--kafka", topics.bootstrap().to_owned());
            add("--kafka-prefix", topics.prefix().to_owned());
        }
        if let Some(redis) = &self.redis {
            add("--redis", redis.clone());
        }
        arguments
    }

    /// Address of the PostgreSQL server, `host:port`.
    pub fn server_address(&self) -> String {
        let url = self.database.url();
        let (_, rest) = url.split_once('@').expect("the address names a user");
        rest.split('/').next().expect("there is something before a slash").to_owned()
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The database with this service's tables.
    pub fn database_of(&self, service: &str) -> &TestDatabase {
        self.own_databases.iter().find(|(name, _)| *name == service).map_or(&self.database, |(_, database)| database)
    }

    /// The single number that a query on a service's database returns.
    pub fn number(&self, service: &str, sql: &str) -> i64 {
        self.runtime.block_on(self.database_of(service).number(sql))
    }
}
