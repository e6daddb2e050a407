//! The binary. Each command is a file in `commands`.

use clap::Parser;
use std::process::ExitCode;

/// A batch allocates millions of small, short-lived objects. This allocator frees them quickly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    onrush::commands::run(onrush::commands::Cli::parse())
}
