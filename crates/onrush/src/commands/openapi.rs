//! `onrush openapi`: the OpenAPI document, or one of the tables generated from the code.

use super::{CommandError, say};
use crate::documents::{self, Document};
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Openapi {
    /// Which document
    #[arg(long, value_enum, default_value = "openapi")]
    document: Document,
}

impl Openapi {
    pub fn run(self) -> Result<ExitCode, CommandError> {
        let text = documents::text(self.document).map_err(CommandError::Other)?;
        say(text.trim_end());
        Ok(ExitCode::SUCCESS)
    }
}
