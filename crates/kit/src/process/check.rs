//! What can be said of the settings of a process without asking anybody. Each refusal names the setting to change.

use super::{Apart, Database, KafkaSettings, PostgresSettings, RedisServer};
use crate::{
    db::postgres_place,
    engine::Fault,
    kafka::{Cluster, KafkaError},
    redis,
};

/// A setting that a process cannot start with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct Refusal {
    pub setting: &'static str,
    pub reason: String,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        Fault::Setting(refusal.to_string())
    }
}

/// The settings that have to fit together.
pub struct Outline<'s> {
    pub database: &'s Database,
    pub kafka: Option<&'s KafkaSettings>,
    pub redis: Option<&'s RedisServer>,
    pub apart: Option<&'s Apart>,
}

impl Outline<'_> {
    /// Whether a process of a mall with these services could start. Nothing is opened.
    ///
    /// # Errors
    /// The first setting that cannot be right, or does not go with the others.
    pub fn check(&self, services: &[&str]) -> Result<(), Refusal> {
        if let Database::Postgres(postgres) = self.database {
            check_urls(postgres)?;
        }
        if let Some(apart) = self.apart {
            self.check_apart(apart, services)?;
        }
        if let Some(kafka) = self.kafka {
            self.check_kafka(kafka)?;
        }
        self.redis.map_or(Ok(()), check_redis)
    }

    fn check_apart(&self, Apart { only, peers }: &Apart, services: &[&str]) -> Result<(), Refusal> {
        if matches!(self.database, Database::Sqlite { .. }) {
            return Err(refusal("only", "services apart need PostgreSQL; set database_url".into()));
        }
        if self.kafka.is_none() {
            return Err(refusal("kafka", "services apart speak over Kafka; set kafka to its addresses, or leave out only".into()));
        }
        if let Some(unknown) = only.iter().find(|name| !services.contains(&name.as_str())) {
            return Err(refusal("only", format!("there is no service “{unknown}”; there are {}", services.join(", "))));
        }
        peers.check(services).map_err(|error| refusal("peers", error.to_string()))?;
        let is_homeless = |name: &&&str| !only.iter().any(|here| here == **name) && peers.addresses(name).is_empty();
        let homeless: Vec<&str> = services.iter().filter(is_homeless).copied().collect();
        match homeless.first() {
            None => Ok(()),
            Some(first) => {
                let reason = format!("no address for {}; say where they run, such as {first}=http://host:8080", homeless.join(", "));
                Err(refusal("peers", reason))
            }
        }
    }

    fn check_kafka(&self, kafka: &KafkaSettings) -> Result<(), Refusal> {
        if matches!(self.database, Database::Sqlite { .. }) {
            return Err(refusal("kafka", "streams over Kafka need PostgreSQL; set database_url".into()));
        }
        let usable = |setting, prefix| match Cluster::new(&kafka.bootstrap, prefix) {
            Ok(_) => Ok(()),
            Err(KafkaError::Settings(reason)) => Err(refusal(setting, reason)),
            Err(error) => Err(refusal(setting, error.to_string())),
        };
        // With a prefix that is certainly good first, so that each is blamed for itself.
        usable("kafka", "onrush")?;
        usable("kafka_prefix", &kafka.prefix)
    }
}

fn check_urls(postgres: &PostgresSettings) -> Result<(), Refusal> {
    postgres_place(&postgres.url).map_err(|reason| refusal("database_url", reason))?;
    for (service, url) in &postgres.own {
        postgres_place(url).map_err(|reason| refusal("databases", format!("{service}: {reason}")))?;
    }
    Ok(())
}

fn check_redis(server: &RedisServer) -> Result<(), Refusal> {
    redis::place(&server.url).map_err(|error| refusal("redis", error.to_string()))?;
    // Braces would change which keys a partitioned server keeps together; whatever else is odd is a slip of the pen.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':' | b'/');
    if server.prefix.is_empty() || server.prefix.len() > MAX_PREFIX || !server.prefix.bytes().all(plain) {
        let reason = format!("{:?} cannot be it; take up to {MAX_PREFIX} letters, digits and any of . _ - : /", server.prefix);
        return Err(refusal("redis_prefix", reason));
    }
    Ok(())
}

/// It stands in every key, and keys are kept in memory.
const MAX_PREFIX: usize = 64;

fn refusal(setting: &'static str, reason: String) -> Refusal {
    Refusal { setting, reason }
}
