//! Settings: from the command line, the environment (`ONRUSH_*`) or a TOML file, in this order of precedence.

mod raw;

pub use orders::{SagaMode, UnpaidLimits};
pub use raw::{RawLimits, RawSettings};

use coupons::Strategy;
use kit::{
    db::Synchronous,
    engine::DEAD_LETTER_AFTER,
    http::{ClientHeader, NetworkError, Proxies, TrustedNetworks},
    limits::LimitSettings,
    links::{Peers, PeersError},
    process::{Database, KafkaSettings, PostgresSettings, RedisServer, SettingError, SplitSettings, Topology},
    redis,
};
use raw::{read_file, reject_without_effect};
use std::{collections::HashMap, net::SocketAddr, path::PathBuf, time::Duration};

/// Reasons why settings cannot be used. Each message names the setting to change.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("cannot read {path}: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("{path} is not valid: {reason}")]
    Invalid { path: String, reason: String },
    #[error("{setting}: {reason}")]
    Unusable { setting: &'static str, reason: String },
}

impl From<SettingError> for SettingsError {
    fn from(SettingError { setting, reason }: SettingError) -> Self {
        unusable(setting, reason)
    }
}

/// Distance of the default port of metrics from the port of the API. Several processes on a machine have ports close to each other.
const OPS_PORT_DISTANCE: u16 = 1_000;
/// Longest time before a message becomes a dead letter. Its order waits meanwhile, and operators should learn of it within the hour.
const MAX_DEAD_LETTER_AFTER: Duration = Duration::from_secs(3_600);

/// Complete and checked settings.
#[derive(Clone, Debug)]
pub struct Settings {
    pub data_dir: PathBuf,
    /// `None`: the data is in a SQLite file.
    pub postgres: Option<PostgresSettings>,
    pub secret: Option<[u8; 32]>,
    pub kafka: Option<KafkaSettings>,
    pub redis: Option<RedisServer>,
    /// Services of this process in a split mall. `None`: all services run in this process.
    pub split: Option<SplitSettings>,
    pub listen: SocketAddr,
    /// `None`: [`Settings::ops_address`] has the default.
    pub ops_listen: Option<SocketAddr>,
    pub proxies: Proxies,
    pub fold: bool,
    pub max_batch: usize,
    pub queue: usize,
    pub synchronous: Synchronous,
    pub claim_strategy: Strategy,
    pub saga: SagaMode,
    pub unpaid_timeout: Duration,
    pub dead_letter_after: Duration,
    pub unpaid: UnpaidLimits,
    pub charge_unit: i64,
    pub test_provider: bool,
    pub operator: Option<(String, String)>,
    pub limits: LimitSettings,
}

impl Settings {
    /// Loads and checks the settings. Opens no file but the settings file, and no connection.
    pub fn load(raw: &RawSettings) -> Result<Settings, SettingsError> {
        let file = match &raw.config {
            Some(path) => read_file(path)?,
            None => RawSettings::default(),
        };
        let raw = raw.clone().or(file);
        reject_without_effect(&raw)?;
        let max_batch = positive("max_batch", raw.max_batch.unwrap_or(512))?;
        let queue = positive("queue", raw.queue.unwrap_or(kit::process::DEFAULT_QUEUE))?;
        let synchronous = match raw.synchronous.as_deref().unwrap_or("full") {
            "full" => Synchronous::Full,
            "normal" => Synchronous::Normal,
            other => return Err(unusable("synchronous", format!("“{other}” is neither full nor normal"))),
        };
        let claim_strategy = match raw.claim_strategy.as_deref().unwrap_or("group_commit") {
            "group_commit" => Strategy::GroupCommit,
            "row_lock" => Strategy::RowLock,
            "redis" if raw.redis.is_some() => Strategy::Redis,
            "redis" => return Err(unusable("claim_strategy", "redis needs a Redis; set redis to its URL".into())),
            other => return Err(unusable("claim_strategy", format!("“{other}” is none of group_commit, row_lock and redis"))),
        };
        let saga = match raw.saga.as_deref().unwrap_or("orchestrated") {
            "orchestrated" => SagaMode::Orchestrated,
            "choreographed" => SagaMode::Choreographed,
            other => return Err(unusable("saga", format!("“{other}” is neither orchestrated nor choreographed"))),
        };
        let charge_unit = raw.charge_unit.unwrap_or(1);
        if charge_unit < 1 {
            return Err(unusable("charge_unit", "must be at least 1".into()));
        }
        let operator = match (raw.operator_email.clone(), raw.operator_password.clone()) {
            (Some(email), Some(password)) => Some((email, password)),
            (None, None) => None,
            _ => return Err(unusable("operator_email", "set operator_email and operator_password together".into())),
        };
        let unpaid_timeout = Duration::from_secs(raw.unpaid_timeout_seconds.unwrap_or(600));
        if unpaid_timeout.is_zero() {
            return Err(unusable("unpaid_timeout_seconds", "must be at least 1".into()));
        }
        let dead_letter_after = raw.dead_letter_after_seconds.map_or(DEAD_LETTER_AFTER, Duration::from_secs);
        if dead_letter_after > MAX_DEAD_LETTER_AFTER {
            return Err(unusable("dead_letter_after_seconds", format!("must be at most {}", MAX_DEAD_LETTER_AFTER.as_secs())));
        }
        let defaults = UnpaidLimits::default();
        let unpaid = UnpaidLimits {
            orders: raw.max_unpaid_orders.unwrap_or(defaults.orders),
            units: raw.max_unpaid_units.unwrap_or(defaults.units),
            pause: raw.unpaid_pause_seconds.map_or(defaults.pause, Duration::from_secs),
        };
        let secret = raw.secret.as_deref().map(parse_secret).transpose()?;
        let postgres = parse_postgres(&raw)?;
        let kafka = raw
            .kafka
            .clone()
            .map(|bootstrap| KafkaSettings { bootstrap, prefix: raw.kafka_prefix.clone().unwrap_or_else(|| "onrush".to_owned()) });
        let redis = raw
            .redis
            .clone()
            .map(|url| RedisServer { url, prefix: raw.redis_prefix.clone().unwrap_or_else(|| redis::DEFAULT_PREFIX.to_owned()) });
        let split = parse_split(&raw)?;
        let proxies = parse_proxies(&raw)?;
        let limits = parse_limits(raw.limits.as_ref())?;
        let settings = Settings {
            postgres,
            kafka,
            redis,
            split,
            secret,
            data_dir: raw.data_dir.unwrap_or_else(|| "data".into()),
            listen: raw.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
            ops_listen: raw.ops_listen,
            proxies,
            fold: raw.fold.unwrap_or(true),
            max_batch,
            queue,
            synchronous,
            claim_strategy,
            saga,
            unpaid_timeout,
            dead_letter_after,
            unpaid,
            charge_unit,
            test_provider: raw.test_provider.unwrap_or(false),
            operator,
            limits,
        };
        settings.topology(&settings.database_settings()).check(contracts::SERVICES)?;
        Ok(settings)
    }

    fn topology<'s>(&'s self, database: &'s Database) -> Topology<'s> {
        Topology { database, kafka: self.kafka.as_ref(), redis: self.redis.as_ref(), apart: self.split.as_ref() }
    }

    /// Address of metrics and health. The default is reachable from this machine only, and no proxy forwards to it by mistake.
    pub fn ops_address(&self) -> SocketAddr {
        // Port 0 is any free port, as it is for the API.
        let port = if self.listen.port() == 0 { 0 } else { self.listen.port().checked_add(OPS_PORT_DISTANCE).unwrap_or(0) };
        self.ops_listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Settings of the database.
    pub fn database_settings(&self) -> Database {
        match &self.postgres {
            Some(postgres) => Database::Postgres(postgres.clone()),
            None => Database::Sqlite { path: self.database(), synchronous: self.synchronous },
        }
    }

    /// Path of the SQLite file, if the data is in one.
    pub fn database(&self) -> PathBuf {
        self.data_dir.join("onrush.db")
    }

    /// Path of the test provider's ledger, which is beside the database and never read by the services.
    pub fn provider_book(&self) -> PathBuf {
        payments::TestLedger::beside(&self.database()).path
    }
}

fn parse_postgres(raw: &RawSettings) -> Result<Option<PostgresSettings>, SettingsError> {
    let Some(url) = &raw.database_url else { return Ok(None) };
    let own = raw.databases.as_deref().map(parse_databases).transpose()?.unwrap_or_default();
    for (setting, url) in std::iter::once(("database_url", url)).chain(own.values().map(|url| ("databases", url))) {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(unusable(setting, "must be a URL such as postgres://user:password@host/database".into()));
        }
    }
    if raw.secret.is_none() {
        let reason = "is needed with database_url: every process of the mall must have the same; make one with `openssl rand -hex 32`";
        return Err(unusable("secret", reason.into()));
    }
    let readers = positive("readers", raw.readers.unwrap_or(8))?;
    let partitions = i64::from(raw.partitions.unwrap_or(4));
    if !(1..=256).contains(&partitions) {
        return Err(unusable("partitions", "must be between 1 and 256".into()));
    }
    Ok(Some(PostgresSettings { url: url.clone(), own, readers, partitions }))
}

fn parse_proxies(raw: &RawSettings) -> Result<Proxies, SettingsError> {
    let trusted: TrustedNetworks = match &raw.trusted_proxies {
        Some(networks) => networks.parse().map_err(|error: NetworkError| unusable("trusted_proxies", error.to_string()))?,
        None => TrustedNetworks::default(),
    };
    if raw.trusted_proxies.is_some() && trusted.is_empty() {
        return Err(unusable("trusted_proxies", "names no network; leave it out if clients connect directly".into()));
    }
    let header = match &raw.forwarded_header {
        Some(header) => header.parse().map_err(|reason| unusable("forwarded_header", reason))?,
        None => ClientHeader::default(),
    };
    Ok(Proxies { trusted, header, proxy_protocol: raw.proxy_protocol.unwrap_or(false) })
}

fn parse_split(raw: &RawSettings) -> Result<Option<SplitSettings>, SettingsError> {
    let Some(only) = &raw.only else { return Ok(None) };
    let only: Vec<String> = only.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    if only.is_empty() {
        return Err(unusable("only", "names no service; leave it out to run all of them".into()));
    }
    let peers = match &raw.peers {
        Some(peers) => peers.parse().map_err(|error: PeersError| unusable("peers", error.to_string()))?,
        None => Peers::default(),
    };
    Ok(Some(SplitSettings { only, peers }))
}

fn parse_databases(text: &str) -> Result<HashMap<String, String>, SettingsError> {
    let mut own = HashMap::new();
    for part in text.split(',') {
        let (name, url) =
            part.split_once('=').ok_or_else(|| unusable("databases", "must look like orders=postgres://…,stock=postgres://…".into()))?;
        if !contracts::SERVICES.contains(&name) {
            return Err(unusable("databases", format!("there is no service “{name}”; there are {}", contracts::SERVICES.join(", "))));
        }
        if own.insert(name.to_owned(), url.to_owned()).is_some() {
            return Err(unusable("databases", format!("“{name}” is there twice")));
        }
    }
    Ok(own)
}

fn parse_limits(raw: Option<&RawLimits>) -> Result<LimitSettings, SettingsError> {
    let Some(RawLimits(raw)) = raw else { return Ok(LimitSettings::default()) };
    let mut limits = match raw.get(RawLimits::ALL).map(String::as_str) {
        None => LimitSettings::default(),
        Some("off") => LimitSettings::off(),
        Some(other) => return Err(unusable("limits", format!("all: “{other}” is not off; name the limits one by one"))),
    };
    for (name, text) in raw.iter().filter(|(name, _)| *name != RawLimits::ALL) {
        let rate = match text.as_str() {
            "off" => None,
            text => Some(text.parse().map_err(|error| unusable("limits", format!("{name}: “{text}” {error}")))?),
        };
        let names = || LimitSettings::default().rates().into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
        *limits.rate_mut(name).ok_or_else(|| unusable("limits", format!("there is no limit “{name}”; there are {}", names())))? = rate;
    }
    Ok(limits)
}

fn parse_secret(text: &str) -> Result<[u8; 32], SettingsError> {
    let wrong = || unusable("secret", "must be 64 hexadecimal digits; make one with `openssl rand -hex 32`".into());
    let digits: Vec<u8> = text
        .trim()
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()
        .ok_or_else(wrong)?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    if digits.len() != 64 { Err(wrong()) } else { bytes.try_into().map_err(|_| wrong()) }
}

fn positive(setting: &'static str, value: usize) -> Result<usize, SettingsError> {
    if value == 0 { Err(unusable(setting, "must be at least 1".into())) } else { Ok(value) }
}

fn unusable(setting: &'static str, reason: String) -> SettingsError {
    SettingsError::Unusable { setting, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_settings_are_refused_by_name() {
        let zero = RawSettings { queue: Some(0), ..RawSettings::default() };
        assert!(Settings::load(&zero).expect_err("no queue").to_string().starts_with("queue:"));
        let saga = RawSettings { saga: Some("conducted".into()), ..RawSettings::default() };
        assert!(Settings::load(&saga).expect_err("no such saga").to_string().starts_with("saga:"));
        let gate = RawSettings { claim_strategy: Some("redis".into()), ..RawSettings::default() };
        assert!(Settings::load(&gate).expect_err("no Redis").to_string().starts_with("claim_strategy: redis needs"));
        let gate = RawSettings { redis: Some("redis://127.0.0.1".into()), ..gate };
        assert_eq!(Settings::load(&gate).expect("there is one").claim_strategy, Strategy::Redis);
        let half = RawSettings { operator_email: Some("a@b.c".into()), ..RawSettings::default() };
        assert!(Settings::load(&half).expect_err("no password").to_string().starts_with("operator_email:"));
        assert!(toml::from_str::<RawSettings>("no_such = 1").is_err());
    }

    #[test]
    fn limits_are_set_by_name() {
        let load = |text: &str| Settings::load(&RawSettings { limits: Some(text.parse().expect("a list")), ..RawSettings::default() });
        assert_eq!(load("default").expect("usable").limits, LimitSettings::default());
        assert_eq!(load("off").expect("usable").limits, LimitSettings::off());
        let some = load("all=off,write_per_member=9/second burst 99").expect("usable").limits;
        assert_eq!(some, LimitSettings { write_per_member: "9/second burst 99".parse().ok(), ..LimitSettings::off() });
        let one = load("sign_up_in_all=off").expect("usable").limits;
        assert_eq!(one, LimitSettings { sign_up_in_all: None, ..LimitSettings::default() });
        for wrong in ["no_such=off", "write_per_member=many", "write_per_member=0/second", "all=1/second"] {
            assert!(load(wrong).expect_err("it is refused").to_string().starts_with("limits: "), "{wrong}");
        }
    }
}
