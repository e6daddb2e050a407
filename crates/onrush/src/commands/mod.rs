//! The commands of the binary, one file each.

mod audit;
mod config;
mod dead_letters;
mod demo;
mod doc_pages;
mod export;
mod import;
mod migrate;
mod openapi;
mod operator;
mod repair;
mod rush;
mod seed;
mod serve;
mod services;

pub use seed::import_members;

use crate::{mall::MallError, private, settings::SettingsError};
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
    /// Serve a new demo mall: three stores, products, coupons, sample accounts
    Demo(demo::DemoArgs),
    /// Create shoppers with charged wallets, without a running server
    Seed(seed::SeedArgs),
    /// Run a load scenario against a mall
    Rush(rush::RushArgs),
    /// Check every invariant on all data
    Audit(audit::AuditArgs),
    /// Write all data into one SQLite file
    Export(export::ExportArgs),
    /// Copy a solo mall, or an exported file, to PostgreSQL
    Import(import::ImportArgs),
    /// Bring the tables up to date
    Migrate(migrate::MigrateArgs),
    /// Print the OpenAPI document
    Openapi(openapi::OpenapiArgs),
    /// Show the services: the messages they read, and the processes that run them
    Services(services::ServicesArgs),
    /// Add, list or remove operators
    Operator(operator::OperatorArgs),
    /// List or retry messages that a reader could not process
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Repair a reader that stopped because messages are missing
    Repair(repair::RepairArgs),
    /// Check the settings
    Config(config::ConfigArgs),
}

/// Reasons why a command failed, as shown to the user.
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
    private::restrict_new_files();
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
        CliCommand::Operator(command) => block_on(command.run()),
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

/// Writes a line to standard output. A closed pipe is ignored.
pub(crate) fn print_line(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_ref().as_bytes());
    let _ = out.write_all(b"\n");
    let _ = out.flush();
}
