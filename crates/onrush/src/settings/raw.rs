//! Raw settings: their sources in order of precedence, and the rejection of settings without effect.

use super::{SettingsError, unusable};
use clap::Args;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Settings as given. Absent ones have a default.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSettings {
    /// Folder of the database and the signing key [default: ./data]
    #[arg(long, env = "ONRUSH_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// PostgreSQL instead of a file, such as postgres://user:password@host/database; several processes may then serve one mall
    #[arg(long, env = "ONRUSH_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Separate databases of some services, such as orders=postgres://…,stock=postgres://…
    #[arg(long, env = "ONRUSH_DATABASES", hide_env_values = true)]
    pub databases: Option<String>,
    /// Read connections to each PostgreSQL database [default: 8]
    #[arg(long, env = "ONRUSH_READERS")]
    pub readers: Option<usize>,
    /// Partitions of each new stream on PostgreSQL, and the most processes that can read it at once [default: 4]
    #[arg(long, env = "ONRUSH_PARTITIONS")]
    pub partitions: Option<u32>,
    /// Addresses of Kafka, such as kafka1:9092,kafka2:9092, which carries messages between services; needed with --only
    #[arg(long, env = "ONRUSH_KAFKA")]
    pub kafka: Option<String>,
    /// Prefix of the names of Kafka topics, before the dot [default: onrush]
    #[arg(long, env = "ONRUSH_KAFKA_PREFIX")]
    pub kafka_prefix: Option<String>,
    /// Redis, such as redis://host:6379, which makes limits apply to all processes together [default: to each process separately]
    #[arg(long, env = "ONRUSH_REDIS", hide_env_values = true)]
    pub redis: Option<String>,
    /// Prefix of every key in Redis; malls that share a server need different prefixes [default: onrush:]
    #[arg(long, env = "ONRUSH_REDIS_PREFIX")]
    pub redis_prefix: Option<String>,
    /// Run only these services, such as orders,payments; requests for the others are forwarded to --peers
    #[arg(long, env = "ONRUSH_ONLY")]
    pub only: Option<String>,
    /// Addresses of the other services, such as accounts=http://host:8080,stock=http://one:8080|http://two:8080
    #[arg(long, env = "ONRUSH_PEERS")]
    pub peers: Option<String>,
    /// Key of 64 hexadecimal digits that signs tokens, equal for all processes of a mall [default: created in --data-dir at the first start]
    #[arg(long, env = "ONRUSH_SECRET", hide_env_values = true)]
    pub secret: Option<String>,
    /// Address of the API [default: 127.0.0.1:8080]
    #[arg(long, env = "ONRUSH_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Address of metrics and health, for operators only [default: 127.0.0.1 and the port of the API plus 1000]
    #[arg(long, env = "ONRUSH_OPS_LISTEN")]
    pub ops_listen: Option<SocketAddr>,
    /// Networks of the proxies in front of this process, such as 10.0.0.0/8,192.0.2.7; only they may name the client of a request
    #[arg(long, env = "ONRUSH_TRUSTED_PROXIES")]
    pub trusted_proxies: Option<String>,
    /// Header in which trusted proxies name the client: `x-forwarded-for` or `forwarded` [default: x-forwarded-for]
    #[arg(long, env = "ONRUSH_FORWARDED_HEADER")]
    pub forwarded_header: Option<String>,
    /// Connections of trusted proxies begin with a PROXY protocol header, version 1 or 2 [default: false]
    #[arg(long, env = "ONRUSH_PROXY_PROTOCOL")]
    pub proxy_protocol: Option<bool>,
    /// Run all hops of a checkout in one transaction; only with a SQLite file [default: true]
    #[arg(long, env = "ONRUSH_FOLD")]
    pub fold: Option<bool>,
    /// Maximum number of commands in one transaction [default: 512]
    #[arg(long, env = "ONRUSH_MAX_BATCH")]
    pub max_batch: Option<usize>,
    /// Maximum number of waiting commands; further ones are refused with 503 [default: 4096]
    #[arg(long, env = "ONRUSH_QUEUE")]
    pub queue: Option<usize>,
    /// `full`: a commit survives power loss; `normal`: only a crash of the process; only with a SQLite file [default: full]
    #[arg(long, env = "ONRUSH_SYNCHRONOUS")]
    pub synchronous: Option<String>,
    /// Strategy of claims: `group_commit`, `row_lock`, or `redis`, which needs --redis [default: group_commit]
    #[arg(long, env = "ONRUSH_CLAIM_STRATEGY")]
    pub claim_strategy: Option<String>,
    /// Mode of checkout sagas: `orchestrated` or `choreographed`; a running order keeps its mode [default: orchestrated]
    #[arg(long, env = "ONRUSH_SAGA")]
    pub saga: Option<String>,
    /// Seconds until an unpaid order expires [default: 600]
    #[arg(long, env = "ONRUSH_UNPAID_TIMEOUT_SECONDS")]
    pub unpaid_timeout_seconds: Option<u64>,
    /// Seconds over which a message must fail before it is a dead letter; 0: after three tries [default: 30]
    #[arg(long, env = "ONRUSH_DEAD_LETTER_AFTER_SECONDS")]
    pub dead_letter_after_seconds: Option<u64>,
    /// Most open unpaid orders of a member; 0: each order needs a payment [default: 10]
    #[arg(long, env = "ONRUSH_MAX_UNPAID_ORDERS")]
    pub max_unpaid_orders: Option<u32>,
    /// Most units of a SKU that a member's unpaid orders may reserve, unless the product has its own limit [default: 10]
    #[arg(long, env = "ONRUSH_MAX_UNPAID_UNITS")]
    pub max_unpaid_units: Option<u32>,
    /// Seconds without unpaid orders after one that expired or that its buyer cancelled, doubled by each further one; 0: none [default: 60]
    #[arg(long, env = "ONRUSH_UNPAID_PAUSE_SECONDS")]
    pub unpaid_pause_seconds: Option<u64>,
    /// Charges must be a multiple of this many won [default: 1]
    #[arg(long, env = "ONRUSH_CHARGE_UNIT")]
    pub charge_unit: Option<i64>,
    /// Allow the payment method `test` with its own ledger [default: false]
    #[arg(long, env = "ONRUSH_TEST_PROVIDER")]
    pub test_provider: Option<bool>,
    /// E-mail of the first operator
    #[arg(long, env = "ONRUSH_OPERATOR_EMAIL")]
    pub operator_email: Option<String>,
    /// Password of the first operator
    #[arg(long, env = "ONRUSH_OPERATOR_PASSWORD", hide_env_values = true)]
    pub operator_password: Option<String>,
    /// Limits on what callers may take, such as `write_per_member=120/minute burst 60,sign_up_in_all=off`; `off` lifts all [default: default]
    #[arg(long, env = "ONRUSH_LIMITS")]
    pub limits: Option<RawLimits>,
    /// TOML file with the same settings, with `_` for `-` in their names
    #[arg(long, env = "ONRUSH_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

impl RawSettings {
    /// Takes absent settings from `other`.
    pub(super) fn or(self, other: RawSettings) -> RawSettings {
        RawSettings {
            data_dir: self.data_dir.or(other.data_dir),
            database_url: self.database_url.or(other.database_url),
            databases: self.databases.or(other.databases),
            readers: self.readers.or(other.readers),
            partitions: self.partitions.or(other.partitions),
            kafka: self.kafka.or(other.kafka),
            kafka_prefix: self.kafka_prefix.or(other.kafka_prefix),
            redis: self.redis.or(other.redis),
            redis_prefix: self.redis_prefix.or(other.redis_prefix),
            only: self.only.or(other.only),
            peers: self.peers.or(other.peers),
            secret: self.secret.or(other.secret),
            listen: self.listen.or(other.listen),
            ops_listen: self.ops_listen.or(other.ops_listen),
            trusted_proxies: self.trusted_proxies.or(other.trusted_proxies),
            forwarded_header: self.forwarded_header.or(other.forwarded_header),
            proxy_protocol: self.proxy_protocol.or(other.proxy_protocol),
            fold: self.fold.or(other.fold),
            max_batch: self.max_batch.or(other.max_batch),
            queue: self.queue.or(other.queue),
            synchronous: self.synchronous.or(other.synchronous),
            claim_strategy: self.claim_strategy.or(other.claim_strategy),
            saga: self.saga.or(other.saga),
            unpaid_timeout_seconds: self.unpaid_timeout_seconds.or(other.unpaid_timeout_seconds),
            dead_letter_after_seconds: self.dead_letter_after_seconds.or(other.dead_letter_after_seconds),
            max_unpaid_orders: self.max_unpaid_orders.or(other.max_unpaid_orders),
            max_unpaid_units: self.max_unpaid_units.or(other.max_unpaid_units),
            unpaid_pause_seconds: self.unpaid_pause_seconds.or(other.unpaid_pause_seconds),
            charge_unit: self.charge_unit.or(other.charge_unit),
            test_provider: self.test_provider.or(other.test_provider),
            operator_email: self.operator_email.or(other.operator_email),
            operator_password: self.operator_password.or(other.operator_password),
            limits: match (self.limits, other.limits) {
                (Some(own), Some(other)) => Some(own.or(other)),
                (own, other) => own.or(other),
            },
            config: self.config,
        }
    }
}

/// Rates by the name of their limit, as texts. In a file it is a table, elsewhere a list `name=rate,name=rate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct RawLimits(pub BTreeMap<String, String>);

impl RawLimits {
    /// Name under which `off` lifts all limits that are not named themselves.
    pub const ALL: &'static str = "all";

    /// All limits lifted.
    pub fn off() -> RawLimits {
        RawLimits(BTreeMap::from([(Self::ALL.to_owned(), "off".to_owned())]))
    }

    /// Takes limits that are absent here from `other`.
    fn or(self, other: RawLimits) -> RawLimits {
        let RawLimits(mut limits) = other;
        limits.extend(self.0);
        RawLimits(limits)
    }
}

impl FromStr for RawLimits {
    type Err = String;

    fn from_str(text: &str) -> Result<RawLimits, String> {
        match text.trim() {
            "default" => return Ok(RawLimits::default()),
            "off" => return Ok(RawLimits::off()),
            _ => {}
        }
        let mut limits = BTreeMap::new();
        for part in text.split(',') {
            let (name, rate) = part.split_once('=').ok_or("must be “default”, “off”, or look like write_per_member=120/minute burst 60")?;
            if limits.insert(name.trim().to_owned(), rate.trim().to_owned()).is_some() {
                return Err(format!("“{}” is there twice", name.trim()));
            }
        }
        Ok(RawLimits(limits))
    }
}

/// As [`FromStr`] reads it.
impl fmt::Display for RawLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("default");
        }
        let limits: Vec<String> = self.0.iter().map(|(name, rate)| format!("{name}={rate}")).collect();
        f.write_str(&limits.join(","))
    }
}

pub(super) fn read_file(path: &Path) -> Result<RawSettings, SettingsError> {
    let name = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|error| SettingsError::Unreadable { path: name.clone(), reason: error.to_string() })?;
    toml::from_str(&text).map_err(|error| SettingsError::Invalid { path: name, reason: error.to_string() })
}

/// Rejects settings that have no effect, because another setting is missing or excludes them. Most likely the other one is a mistake.
pub(super) fn reject_without_effect(raw: &RawSettings) -> Result<(), SettingsError> {
    let database = ("database_url", raw.database_url.is_some());
    for (setting, is_given, (needed, is_there)) in [
        ("peers", raw.peers.is_some(), ("only", raw.only.is_some())),
        ("kafka_prefix", raw.kafka_prefix.is_some(), ("kafka", raw.kafka.is_some())),
        ("forwarded_header", raw.forwarded_header.is_some(), ("trusted_proxies", raw.trusted_proxies.is_some())),
        ("proxy_protocol", raw.proxy_protocol.is_some(), ("trusted_proxies", raw.trusted_proxies.is_some())),
        ("redis_prefix", raw.redis_prefix.is_some(), ("redis", raw.redis.is_some())),
        ("databases", raw.databases.is_some(), database),
        ("readers", raw.readers.is_some(), database),
        ("partitions", raw.partitions.is_some(), database),
    ] {
        if is_given && !is_there {
            return Err(unusable(setting, format!("has no effect without {needed}: set {needed}, or leave this out")));
        }
    }
    for (setting, is_given) in [("fold", raw.fold.is_some()), ("synchronous", raw.synchronous.is_some())] {
        if is_given && raw.database_url.is_some() {
            return Err(unusable(setting, "has no effect with database_url, only with a SQLite file: leave it out".into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_overrides_the_file() {
        let file: RawSettings = toml::from_str("fold = false\nmax_batch = 7").expect("valid TOML");
        let raw = RawSettings { max_batch: Some(9), ..RawSettings::default() }.or(file);
        assert_eq!((raw.fold, raw.max_batch), (Some(false), Some(9)));
    }

    #[test]
    fn limits_of_the_command_line_override_those_of_the_file_by_name() {
        let file: RawSettings = toml::from_str("[limits]\nsign_up_in_all = \"off\"\nwrite_per_member = \"1/day\"").expect("valid TOML");
        let given = RawSettings { limits: Some("write_per_member=9/second burst 99".parse().expect("a list")), ..RawSettings::default() };
        let limits = given.or(file).limits.expect("there are some");
        assert_eq!(limits.to_string(), "sign_up_in_all=off,write_per_member=9/second burst 99");
        assert_eq!(limits.to_string().parse(), Ok(limits));
        for text in ["off", "default"] {
            let limits: RawLimits = text.parse().expect("a word");
            assert_eq!(limits.to_string().parse(), Ok(limits));
        }
        for wrong in ["", "on", "a=1/second,a=2/second"] {
            assert!(wrong.parse::<RawLimits>().is_err(), "{wrong}");
        }
    }
}
