//! The binary with crash points, for tests that kill it. Never released.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    onrush::commands::run(onrush::commands::Cli::parse())
}
