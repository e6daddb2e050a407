//! `onrush services`: the table of services.

use super::{CommandError, say};
use crate::documents;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Services {}

impl Services {
    pub fn run(self) -> Result<ExitCode, CommandError> {
        say(documents::services().map_err(CommandError::Other)?);
        Ok(ExitCode::SUCCESS)
    }
}
