//! `onrush config check`: whether the settings can be used, and what they come to.

use super::{CommandError, say};
use crate::settings::{Given, Settings};
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Config {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(clap::Subcommand)]
enum ConfigCommand {
    /// Check the settings and show what they come to; secrets are not shown
    Check {
        #[command(flatten)]
        given: Box<Given>,
    },
}

impl Config {
    pub fn run(self) -> Result<ExitCode, CommandError> {
        let ConfigCommand::Check { given } = self.command;
        let settings = Settings::load(&given)?;
        let operator = settings.operator.as_ref().map_or("none", |(email, _)| email.as_str());
        say(format!(
            "data_dir = {}\nlisten = {}\nops_listen = {}\nfold = {}\nmax_batch = {}\nqueue = {}\nsynchronous = {:?}\nclaim_strategy = {:?}\n\
             saga = {:?}\nunpaid_timeout_seconds = {}\ncharge_unit = {}\ntest_provider = {}\noperator_email = {operator}\nThe settings can be used.",
            settings.data_dir.display(),
            settings.listen,
            settings.ops_listen.map_or_else(|| "on the API's address".into(), |address| address.to_string()),
            settings.fold,
            settings.max_batch,
            settings.queue,
            settings.synchronous,
            settings.claim_strategy,
            settings.saga,
            settings.unpaid_timeout.as_secs(),
            settings.charge_unit,
            settings.test_provider,
        ));
        Ok(ExitCode::SUCCESS)
    }
}
