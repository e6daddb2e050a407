//! `onrush openapi`: prints the OpenAPI document, or one of the tables generated from the code.

use super::{CommandError, print_line};
use crate::documents::{self, Document};
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct OpenapiArgs {
    /// The document to print
    #[arg(long, value_enum, default_value = "openapi")]
    document: Document,
}

impl OpenapiArgs {
    pub fn run(self) -> Result<ExitCode, CommandError> {
        let text = documents::text(self.document).map_err(CommandError::Other)?;
        print_line(text.trim_end());
        Ok(ExitCode::SUCCESS)
    }
}
