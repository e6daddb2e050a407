//! What an operator can set: on the command line, in the environment (`ONRUSH_*`), or in a TOML file, in this order of precedence.

use clap::Args;
use coupons::Strategy;
use kit::db::Synchronous;
use serde::Deserialize;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Why settings cannot be used. Each message names the setting to change.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("cannot read {path}: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("{path} is not valid: {reason}")]
    Invalid { path: String, reason: String },
    #[error("{setting}: {reason}")]
    Unusable { setting: &'static str, reason: String },
}

/// As given; what is absent has a default.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Given {
    /// Where the database and the signing key live [default: ./data]
    #[arg(long, env = "ONRUSH_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the API [default: 127.0.0.1:8080]
    #[arg(long, env = "ONRUSH_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Address of health and metrics, if they are not to be on the API's
    #[arg(long, env = "ONRUSH_OPS_LISTEN")]
    pub ops_listen: Option<SocketAddr>,
    /// Settle all hops of a checkout in one transaction [default: true]
    #[arg(long, env = "ONRUSH_FOLD")]
    pub fold: Option<bool>,
    /// Most commands settled by one transaction [default: 512]
    #[arg(long, env = "ONRUSH_MAX_BATCH")]
    pub max_batch: Option<usize>,
    /// Commands that may wait before more are refused with 503 [default: 4096]
    #[arg(long, env = "ONRUSH_QUEUE")]
    pub queue: Option<usize>,
    /// `full`: a commit survives power loss; `normal`: only a crash of the process [default: full]
    #[arg(long, env = "ONRUSH_SYNCHRONOUS")]
    pub synchronous: Option<String>,
    /// How claims are settled: `group_commit` or `row_lock` [default: group_commit]
    #[arg(long, env = "ONRUSH_CLAIM_STRATEGY")]
    pub claim_strategy: Option<String>,
    /// Seconds until an unpaid order is undone [default: 600]
    #[arg(long, env = "ONRUSH_UNPAID_TIMEOUT_SECONDS")]
    pub unpaid_timeout_seconds: Option<u64>,
    /// Charges must be a multiple of this many won [default: 1]
    #[arg(long, env = "ONRUSH_CHARGE_UNIT")]
    pub charge_unit: Option<i64>,
    /// Allow the payment method `test` with its own book [default: false]
    #[arg(long, env = "ONRUSH_TEST_PROVIDER")]
    pub test_provider: Option<bool>,
    /// E-mail of the first operator
    #[arg(long, env = "ONRUSH_OPERATOR_EMAIL")]
    pub operator_email: Option<String>,
    /// Password of the first operator
    #[arg(long, env = "ONRUSH_OPERATOR_PASSWORD", hide_env_values = true)]
    pub operator_password: Option<String>,
    /// TOML file with the same names (with `_` for `-`)
    #[arg(long, env = "ONRUSH_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// Complete and checked.
#[derive(Clone, Debug)]
pub struct Settings {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub ops_listen: Option<SocketAddr>,
    pub fold: bool,
    pub max_batch: usize,
    pub queue: usize,
    pub synchronous: Synchronous,
    pub claim_strategy: Strategy,
    pub unpaid_timeout: Duration,
    pub charge_unit: i64,
    pub test_provider: bool,
    pub operator: Option<(String, String)>,
}

impl Settings {
    pub fn load(given: &Given) -> Result<Settings, SettingsError> {
        let file = match &given.config {
            Some(path) => read(path)?,
            None => Given::default(),
        };
        let given = given.clone().or(file);
        let max_batch = positive("max_batch", given.max_batch.unwrap_or(512))?;
        let queue = positive("queue", given.queue.unwrap_or(kit::process::DEFAULT_QUEUE))?;
        let synchronous = match given.synchronous.as_deref().unwrap_or("full") {
            "full" => Synchronous::Full,
            "normal" => Synchronous::Normal,
            other => return Err(unusable("synchronous", format!("“{other}” is neither full nor normal"))),
        };
        let claim_strategy = match given.claim_strategy.as_deref().unwrap_or("group_commit") {
            "group_commit" => Strategy::GroupCommit,
            "row_lock" => Strategy::RowLock,
            other => return Err(unusable("claim_strategy", format!("“{other}” is neither group_commit nor row_lock"))),
        };
        let charge_unit = given.charge_unit.unwrap_or(1);
        if charge_unit < 1 {
            return Err(unusable("charge_unit", "must be at least 1".into()));
        }
        let operator = match (given.operator_email, given.operator_password) {
            (Some(email), Some(password)) => Some((email, password)),
            (None, None) => None,
            _ => return Err(unusable("operator_email", "set operator_email and operator_password together".into())),
        };
        let unpaid_timeout = Duration::from_secs(given.unpaid_timeout_seconds.unwrap_or(600));
        if unpaid_timeout.is_zero() {
            return Err(unusable("unpaid_timeout_seconds", "must be at least 1".into()));
        }
        Ok(Settings {
            data_dir: given.data_dir.unwrap_or_else(|| "data".into()),
            listen: given.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
            ops_listen: given.ops_listen,
            fold: given.fold.unwrap_or(true),
            max_batch,
            queue,
            synchronous,
            claim_strategy,
            unpaid_timeout,
            charge_unit,
            test_provider: given.test_provider.unwrap_or(false),
            operator,
        })
    }

    pub fn database(&self) -> PathBuf {
        self.data_dir.join("onrush.db")
    }

    /// The test provider's own book, beside ours and never read by the services.
    pub fn provider_book(&self) -> PathBuf {
        payments::ProviderBook::beside(&self.database()).path
    }
}

impl Given {
    /// What is absent here is taken from `other`.
    fn or(self, other: Given) -> Given {
        Given {
            data_dir: self.data_dir.or(other.data_dir),
            listen: self.listen.or(other.listen),
            ops_listen: self.ops_listen.or(other.ops_listen),
            fold: self.fold.or(other.fold),
            max_batch: self.max_batch.or(other.max_batch),
            queue: self.queue.or(other.queue),
            synchronous: self.synchronous.or(other.synchronous),
            claim_strategy: self.claim_strategy.or(other.claim_strategy),
            unpaid_timeout_seconds: self.unpaid_timeout_seconds.or(other.unpaid_timeout_seconds),
            charge_unit: self.charge_unit.or(other.charge_unit),
            test_provider: self.test_provider.or(other.test_provider),
            operator_email: self.operator_email.or(other.operator_email),
            operator_password: self.operator_password.or(other.operator_password),
            config: self.config,
        }
    }
}

fn read(path: &Path) -> Result<Given, SettingsError> {
    let name = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|error| SettingsError::Unreadable { path: name.clone(), reason: error.to_string() })?;
    toml::from_str(&text).map_err(|error| SettingsError::Invalid { path: name, reason: error.to_string() })
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
    fn the_command_line_goes_before_the_file() {
        let file: Given = toml::from_str("fold = false\nmax_batch = 7").expect("valid TOML");
        let given = Given { max_batch: Some(9), ..Given::default() }.or(file);
        assert_eq!((given.fold, given.max_batch), (Some(false), Some(9)));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let zero = Given { queue: Some(0), ..Given::default() };
        assert!(Settings::load(&zero).expect_err("no queue").to_string().starts_with("queue:"));
        let half = Given { operator_email: Some("a@b.c".into()), ..Given::default() };
        assert!(Settings::load(&half).expect_err("no password").to_string().starts_with("operator_email:"));
        assert!(toml::from_str::<Given>("no_such = 1").is_err());
    }
}
