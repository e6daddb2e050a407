//! `onrush audit`: checks every invariant. Exit code 0 only when all were checked and hold.

use super::{CommandError, say};
use crate::{
    audit::{self, Report},
    settings::{Given, Settings},
};
use kit::ports::{Clock, Stopwatch, SystemClock};
use std::{process::ExitCode, time::Duration};

#[derive(clap::Args)]
pub struct Audit {
    #[command(flatten)]
    given: Given,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Seconds to wait for a moment without messages under way
    #[arg(long, default_value_t = 10)]
    patience: u64,
}

/// Between two looks for a quiet moment.
const PAUSE: Duration = Duration::from_millis(250);

impl Audit {
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        let settings = Settings::load(&self.given)?;
        if settings.postgres.is_none() && !settings.database().exists() {
            return Err(CommandError::Other(format!("there is no mall in {}; set --data-dir", settings.data_dir.display())));
        }
        let report = when_quiet(&settings, Duration::from_secs(self.patience)).await?;
        if self.json {
            say(serde_json::to_string_pretty(&report).map_err(|error| CommandError::Other(error.to_string()))?);
        } else {
            say(text(&report));
        }
        Ok(if report.clean { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// Audits again and again until it was a quiet moment, something is violated, or patience is over.
pub(super) async fn when_quiet(settings: &Settings, patience: Duration) -> Result<Report, CommandError> {
    let waiting = Stopwatch::start();
    loop {
        let report =
            audit::run_any(settings, SystemClock.now()).await.map_err(|error| CommandError::Other(format!("cannot audit: {error}")))?;
        if report.not_quiet.is_none() || !report.violations.is_empty() || waiting.elapsed() >= patience {
            return Ok(report);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    for violation in &report.violations {
        text.push_str(&format!("{} VIOLATED: {}\n", violation.id, violation.title));
        for found in &violation.found {
            text.push_str(&format!("    {found}\n"));
        }
    }
    if let Some(unrest) = &report.not_quiet {
        text.push_str(&format!("Not a quiet moment ({unrest}): the checks that need one were left out.\n"));
    }
    text.push_str(&format!(
        "{} invariants checked, {} violated: {}",
        report.checked,
        report.violations.len(),
        if report.clean { "clean" } else { "NOT CLEAN" }
    ));
    text
}
