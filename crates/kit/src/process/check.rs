//! Checks a process's settings without opening a connection. Each error names the setting to change.

use super::{Database, KafkaSettings, PostgresSettings, RedisServer, SplitSettings};
use cache::redis;
use db::postgres_display_url;
use engine::Fault;
use kafka::{Cluster, KafkaError};

/// A setting that a process cannot start with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct SettingError {
    pub setting: &'static str,
    pub reason: String,
}

impl From<SettingError> for Fault {
    fn from(setting_error: SettingError) -> Fault {
        Fault::Setting(setting_error.to_string())
    }
}

/// The settings that must fit together.
pub struct Topology<'s> {
    pub database: &'s Database,
    pub kafka: Option<&'s KafkaSettings>,
    pub redis: Option<&'s RedisServer>,
    pub apart: Option<&'s SplitSettings>,
}

impl Topology<'_> {
    /// Checks that a process of a mall with these services could start. Opens nothing.
    ///
    /// # Errors
    /// The first setting that is invalid or conflicts with another one.
    pub fn check(&self, services: &[&str]) -> Result<(), SettingError> {
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

    fn check_apart(&self, SplitSettings { only, peers }: &SplitSettings, services: &[&str]) -> Result<(), SettingError> {
        if matches!(self.database, Database::Sqlite { .. }) {
            return Err(setting_error("only", "services apart need PostgreSQL; set database_url".into()));
        }
        if self.kafka.is_none() {
            return Err(setting_error("kafka", "services apart speak over Kafka; set kafka to its addresses, or leave out only".into()));
        }
        if let Some(unknown) = only.iter().find(|name| !services.contains(&name.as_str())) {
            return Err(setting_error("only", format!("there is no service “{unknown}”; there are {}", services.join(", "))));
        }
        peers.check(services).map_err(|error| setting_error("peers", error.to_string()))?;
        let has_no_address = |name: &&&str| !only.iter().any(|here| here == **name) && peers.addresses(name).is_empty();
        let unaddressed: Vec<&str> = services.iter().filter(has_no_address).copied().collect();
        match unaddressed.first() {
            None => Ok(()),
            Some(first) => {
                let reason = format!("no address for {}; say where they run, such as {first}=http://host:8080", unaddressed.join(", "));
                Err(setting_error("peers", reason))
            }
        }
    }

    fn check_kafka(&self, kafka: &KafkaSettings) -> Result<(), SettingError> {
        if matches!(self.database, Database::Sqlite { .. }) {
            return Err(setting_error("kafka", "streams over Kafka need PostgreSQL; set database_url".into()));
        }
        let check_part = |setting, prefix| match Cluster::new(&kafka.bootstrap, prefix) {
            Ok(_) => Ok(()),
            Err(KafkaError::Settings(reason)) => Err(setting_error(setting, reason)),
            Err(error) => Err(setting_error(setting, error.to_string())),
        };
        // First with a prefix known to be valid, so that each error blames the right setting.
        check_part("kafka", "onrush")?;
        check_part("kafka_prefix", &kafka.prefix)
    }
}

fn check_urls(postgres: &PostgresSettings) -> Result<(), SettingError> {
    postgres_display_url(&postgres.url).map_err(|reason| setting_error("database_url", reason))?;
    for (service, url) in &postgres.own {
        postgres_display_url(url).map_err(|reason| setting_error("databases", format!("{service}: {reason}")))?;
    }
    Ok(())
}

fn check_redis(server: &RedisServer) -> Result<(), SettingError> {
    redis::display_url(&server.url).map_err(|error| setting_error("redis", error.to_string()))?;
    // Braces would change which keys a partitioned server keeps together. Any other unusual character is probably a typing error.
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':' | b'/');
    if server.prefix.is_empty() || server.prefix.len() > MAX_PREFIX || !server.prefix.bytes().all(is_allowed) {
        let reason = format!("{:?} cannot be it; take up to {MAX_PREFIX} letters, digits and any of . _ - : /", server.prefix);
        return Err(setting_error("redis_prefix", reason));
    }
    Ok(())
}

/// In bytes. The prefix is part of every key, and Redis keeps keys in memory.
const MAX_PREFIX: usize = 64;

fn setting_error(setting: &'static str, reason: String) -> SettingError {
    SettingError { setting, reason }
}
