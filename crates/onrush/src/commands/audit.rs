//! `onrush audit`: checks every invariant. Exit code 0 only if all were checked and hold.

use super::{CommandError, print_line};
use crate::{
    audit::{self, AuditReport},
    settings::{RawSettings, Settings},
};
use kit::ports::{Clock, Stopwatch, SystemClock};
use std::{process::ExitCode, time::Duration};

#[derive(clap::Args)]
pub struct AuditArgs {
    #[command(flatten)]
    raw: RawSettings,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Seconds to wait until no messages are under way
    #[arg(long, default_value_t = 10)]
    patience: u64,
}

/// Interval between attempts to find a quiet moment.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

impl AuditArgs {
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        let settings = Settings::load(&self.raw)?;
        if settings.postgres.is_none() && !settings.database().exists() {
            return Err(CommandError::Other(format!("there is no mall in {}; set --data-dir", settings.data_dir.display())));
        }
        let report = audit_when_quiet(&settings, Duration::from_secs(self.patience)).await?;
        if self.json {
            print_line(serde_json::to_string_pretty(&report).map_err(|error| CommandError::Other(error.to_string()))?);
        } else {
            print_line(report_text(&report));
        }
        Ok(if report.clean { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// Repeats the audit until a quiet moment, a violation, or the end of `patience`.
pub(super) async fn audit_when_quiet(settings: &Settings, patience: Duration) -> Result<AuditReport, CommandError> {
    let waiting = Stopwatch::start();
    loop {
        let report =
            audit::run_any(settings, SystemClock.now()).await.map_err(|error| CommandError::Other(format!("cannot audit: {error}")))?;
        if report.not_quiet.is_none() || !report.violations.is_empty() || waiting.elapsed() >= patience {
            return Ok(report);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

pub(super) fn report_text(report: &AuditReport) -> String {
    let mut text = String::new();
    for violation in &report.violations {
        text.push_str(&format!("{} VIOLATED: {}\n", violation.id, violation.title));
        for found in &violation.found {
            text.push_str(&format!("    {found}\n"));
        }
    }
    if let Some(not_quiet_reason) = &report.not_quiet {
        text.push_str(&format!("Not a quiet moment ({not_quiet_reason}): the checks that need one were skipped.\n"));
    }
    text.push_str(&format!(
        "{} invariants checked, {} violated: {}",
        report.checked,
        report.violations.len(),
        if report.clean { "clean" } else { "NOT CLEAN" }
    ));
    text
}
