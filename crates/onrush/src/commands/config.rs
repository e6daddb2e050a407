//! `onrush config check`: checks the settings and shows their values. It opens no connection. Only `serve` checks that the servers
//! answer and fit.

use super::{CommandError, print_line};
use crate::settings::{RawSettings, Settings};
use kit::{db::postgres_display_url, redis};
use std::{fmt::Display, process::ExitCode};

#[derive(clap::Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(clap::Subcommand)]
enum ConfigCommand {
    /// Check the settings and show their values; secrets are masked
    Check {
        #[command(flatten)]
        raw: Box<RawSettings>,
    },
}

impl ConfigArgs {
    pub fn run(self) -> Result<ExitCode, CommandError> {
        let ConfigCommand::Check { raw } = self.command;
        let settings = Settings::load(&raw)?;
        for (name, value) in location_lines(&settings).into_iter().chain(connection_lines(&settings)).chain(behaviour_lines(&settings)) {
            print_line(format!("{name} = {value}"));
        }
        for (name, rate) in settings.limits.rates() {
            print_line(format!("limits.{name} = {}", rate.map_or_else(|| "off".to_owned(), |rate| rate.to_string())));
        }
        print_line("The settings can be used.");
        Ok(ExitCode::SUCCESS)
    }
}

type SettingLine = (&'static str, String);

/// Shown for a setting that is absent or has no effect.
const NONE: &str = "none";
const MASKED: &str = "***";

fn or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

/// The address without its password. An address that cannot be parsed is masked, because it may contain a password.
fn shown_address<E>(found: Result<String, E>) -> String {
    found.unwrap_or_else(|_| MASKED.to_owned())
}

fn location_lines(settings: &Settings) -> Vec<SettingLine> {
    let postgres = settings.postgres.as_ref();
    let on_a_file = |value: String| if postgres.is_none() { value } else { NONE.to_owned() };
    let mut own: Vec<String> = postgres
        .into_iter()
        .flat_map(|postgres| &postgres.own)
        .map(|(name, url)| format!("{name}={}", shown_address(postgres_display_url(url))))
        .collect();
    own.sort();
    vec![
        ("data_dir", settings.data_dir.display().to_string()),
        ("database_url", or_none(postgres.map(|postgres| shown_address(postgres_display_url(&postgres.url))))),
        ("databases", or_none((!own.is_empty()).then(|| own.join(",")))),
        ("readers", or_none(postgres.map(|postgres| postgres.readers))),
        ("partitions", or_none(postgres.map(|postgres| postgres.partitions))),
        ("fold", on_a_file(settings.fold.to_string())),
        ("synchronous", on_a_file(format!("{:?}", settings.synchronous).to_lowercase())),
    ]
}

fn connection_lines(settings: &Settings) -> Vec<SettingLine> {
    let (kafka, redis, split) = (settings.kafka.as_ref(), settings.redis.as_ref(), settings.split.as_ref());
    vec![
        ("kafka", or_none(kafka.map(|kafka| &kafka.bootstrap))),
        ("kafka_prefix", or_none(kafka.map(|kafka| &kafka.prefix))),
        ("redis", or_none(redis.map(|server| shown_address(redis::display_url(&server.url))))),
        ("redis_prefix", or_none(redis.map(|server| &server.prefix))),
        ("only", split.map_or_else(|| "all services".to_owned(), |split| split.only.join(","))),
        ("peers", or_none(split.map(|split| &split.peers).filter(|peers| !peers.is_empty()))),
        ("secret", settings.secret.map_or("made at the first start, in data_dir", |_| MASKED).to_owned()),
    ]
}

fn behaviour_lines(settings: &Settings) -> Vec<SettingLine> {
    let (operator, proxies) = (settings.operator.as_ref(), &settings.proxies);
    vec![
        ("listen", settings.listen.to_string()),
        ("ops_listen", settings.ops_address().to_string()),
        ("trusted_proxies", or_none((!proxies.trusted.is_empty()).then_some(&proxies.trusted))),
        ("forwarded_header", or_none((!proxies.trusted.is_empty()).then(|| proxies.header.name()))),
        ("proxy_protocol", proxies.proxy_protocol.to_string()),
        ("max_batch", settings.max_batch.to_string()),
        ("queue", settings.queue.to_string()),
        ("claim_strategy", settings.claim_strategy.name().to_owned()),
        ("saga", format!("{:?}", settings.saga).to_lowercase()),
        ("unpaid_timeout_seconds", settings.unpaid_timeout.as_secs().to_string()),
        ("dead_letter_after_seconds", settings.dead_letter_after.as_secs().to_string()),
        ("max_unpaid_orders", settings.unpaid.orders.to_string()),
        ("max_unpaid_units", settings.unpaid.units.to_string()),
        ("unpaid_pause_seconds", settings.unpaid.pause.as_secs().to_string()),
        ("charge_unit", settings.charge_unit.to_string()),
        ("test_provider", settings.test_provider.to_string()),
        ("operator_email", or_none(operator.map(|(email, _)| email))),
        ("operator_password", or_none(operator.map(|_| MASKED))),
    ]
}
