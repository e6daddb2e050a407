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
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the mall
    Serve(serve::Serve),
    /// Serve a fresh demo mall: three stores, products, coupons, sample accounts
    Demo(demo::Demo),
    /// Make shoppers with charged wallets, without a running server
    Seed(seed::Seed),
    /// Run a load scenario against a mall
    Rush(rush::Rush),
    /// Check every invariant over all data
    Audit(audit::Audit),
    /// Write all data into one SQLite file
    Export(export::Export),
    /// Move a solo mall, or an exported file, to PostgreSQL
    Import(import::Import),
    /// Bring the tables up to date
    Migrate(migrate::Migrate),
    /// Print the OpenAPI document
    Openapi(openapi::Openapi),
    /// Show the services: what they read, and where they run now
    Services(services::Services),
    /// List or retry messages that a reader could not act on
    DeadLetters(dead_letters::DeadLetters),
    /// Help a reader that has stopped because messages are not there any more
    Repair(repair::Repair),
    /// Look at the settings
    Config(config::Config),
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
        Command::Serve(command) => block_on(command.run()),
        Command::Demo(command) => block_on(command.run()),
        Command::Seed(command) => block_on(command.run()),
        Command::Rush(command) => block_on(command.run()),
        Command::Audit(command) => block_on(command.run()),
        Command::Export(command) => block_on(command.run()),
        Command::Import(command) => block_on(command.run()),
        Command::Migrate(command) => block_on(command.run()),
        Command::Openapi(command) => command.run(),
        Command::Services(command) => block_on(command.run()),
        Command::DeadLetters(command) => block_on(command.run()),
        Command::Repair(command) => block_on(command.run()),
        Command::Config(command) => command.run(),
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
pub(crate) fn say(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_ref().as_bytes());
    let _ = out.write_all(b"\n");
    let _ = out.flush();
}
