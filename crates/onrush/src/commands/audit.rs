//! `onrush audit`: checks every invariant.
//!
//! Exit code 0: clean. 1: violated. 2: the audit could not be made. 3: not a quiet moment, so that some checks were not made.

use super::{CommandError, print_line};
use crate::{
    audit::{self, AuditReport, Verdict},
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

/// Exit code of an audit that found no quiet moment. 2 is the code of a command that failed.
const NOT_QUIET: u8 = 3;
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
        Ok(match report.verdict {
            Verdict::Clean => ExitCode::SUCCESS,
            Verdict::Violated => ExitCode::from(1),
            Verdict::NotQuiet => ExitCode::from(NOT_QUIET),
        })
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
    let verdict = match report.verdict {
        Verdict::Clean => "clean",
        Verdict::Violated => "VIOLATED",
        Verdict::NotQuiet => "NOT QUIET",
    };
    text.push_str(&format!("{} invariants checked, {} violated: {verdict}", report.checked, report.violations.len()));
    if let Some(reason) = &report.not_quiet {
        text.push_str(&format!(
            "\n{reason}: the checks that need a quiet moment were left out. Beside a running server, repeat the audit or raise --patience. \
             Without one, start it: it delivers the messages and ends the sagas. `onrush dead-letters list` shows messages that fail."
        ));
    }
    text
}
