//! The one binary. Every command is a file in `commands`.

use clap::Parser;
use std::process::ExitCode;

/// Short-lived small objects by the million are what a batch makes; this allocator gives them back at once.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    onrush::commands::run(onrush::commands::Cli::parse())
}
