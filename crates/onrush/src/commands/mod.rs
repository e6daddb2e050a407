//! The commands of the binary: one file each.

mod audit;
mod config;
mod dead_letters;
mod demo;
mod export;
mod import;
mod migrate;
mod openapi;
mod repair;
mod rush;
mod seed;
mod serve;
mod services;

pub use seed::import_members;

use crate::{mall::MallError, settings::SettingsError};
use clap::{Parser, Subcommand};
use kit::telemetry::LogFormat;
use std::{future::Future, io::Write, process::ExitCode};

/// Commerce backend for the moment when everyone arrives at once.
#[derive(Parser)]
#[command(name = "onrush", version, about, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Subcommand)]
enum CliCommand {
    /// Serve the mall
    Serve(serve::ServeArgs),
    /// Serve a fresh demo mall: three stores, products, coupons, sample accounts
    Demo(demo::DemoArgs),
    /// Make shoppers with charged wallets, without a running server
    Seed(seed::SeedArgs),
    /// Run a load scenario against a mall
    Rush(rush::RushArgs),
    /// Check every invariant over all data
    Audit(audit::AuditArgs),
    /// Write all data into one SQLite file
    Export(export::ExportArgs),
    /// Move a solo mall, or an exported file, to PostgreSQL
    Import(import::ImportArgs),
    /// Bring the tables up to date
    Migrate(migrate::MigrateArgs),
    /// Print the OpenAPI document
    Openapi(openapi::OpenapiArgs),
    /// Show the services: what they read, and where they run now
    Services(services::ServicesArgs),
    /// List or retry messages that a reader could not act on
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Help a reader that has stopped because messages are not there any more
    Repair(repair::RepairArgs),
    /// Look at the settings
    Config(config::ConfigArgs),
}

/// Why a command failed, for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Mall(#[from] MallError),
    #[error(transparent)]
    Database(#[from] kit::DbError),
    #[error(transparent)]
    Copy(#[from] crate::copy::CopyError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Other(String),
}

pub fn run(cli: Cli) -> ExitCode {
    kit::telemetry::init_logging(LogFormat::Text);
    kit::telemetry::install_metrics();
    let result = match cli.command {
        CliCommand::Serve(command) => block_on(command.run()),
        CliCommand::Demo(command) => block_on(command.run()),
        CliCommand::Seed(command) => block_on(command.run()),
        CliCommand::Rush(command) => block_on(command.run()),
        CliCommand::Audit(command) => block_on(command.run()),
        CliCommand::Export(command) => block_on(command.run()),
        CliCommand::Import(command) => block_on(command.run()),
        CliCommand::Migrate(command) => block_on(command.run()),
        CliCommand::Openapi(command) => command.run(),
        CliCommand::Services(command) => block_on(command.run()),
        CliCommand::DeadLetters(command) => block_on(command.run()),
        CliCommand::Repair(command) => block_on(command.run()),
        CliCommand::Config(command) => command.run(),
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "onrush: {error}");
        ExitCode::from(2)
    })
}

fn block_on(future: impl Future<Output = Result<ExitCode, CommandError>>) -> Result<ExitCode, CommandError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(future)
}

/// Writes to standard output; a closed pipe is not an error worth a panic.
pub(crate) fn print_line(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_ref().as_bytes());
    let _ = out.write_all(b"\n");
    let _ = out.flush();
}
