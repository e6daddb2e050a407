//! `onrush export`: writes all data of a mall into one SQLite file, with or without running processes.

use super::{CommandError, audit::report_text, import::tables_text, print_line};
use crate::{
    audit,
    copy::{self, ExportSummary, mall_databases, served_services},
    mall::Mall,
    settings::{RawSettings, Settings},
};
use kit::ports::{Clock, SystemClock};
use std::{path::PathBuf, process::ExitCode, time::Duration};

#[derive(clap::Args)]
pub struct ExportArgs {
    #[command(flatten)]
    raw: RawSettings,
    /// The file to write; it must not exist
    #[arg(long)]
    to: PathBuf,
    /// Seconds to wait until no messages are under way, which an export from PostgreSQL needs
    #[arg(long, default_value_t = 10)]
    patience: u64,
}

/// Interval between attempts to find a quiet moment.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

impl ExportArgs {
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        let settings = Settings::load(&self.raw)?;
        if settings.postgres.is_none() && !settings.database().exists() {
            return Err(CommandError::Other(format!("there is no mall in {}; set --data-dir", settings.data_dir.display())));
        }
        let exported = self.export_when_quiet(&settings).await?;
        print_line(tables_text(&exported.tables));
        let report = audit::run_files(&self.to, &settings.provider_book(), SystemClock.now())
            .map_err(|error| CommandError::Other(format!("cannot audit {}: {error}", self.to.display())))?;
        print_line(format!("audit of {}:\n{}", self.to.display(), report_text(&report)));
        print_line(
            "To serve it: put it into a folder of its own as onrush.db, and start `onrush serve --data-dir` with the secret of this mall.",
        );
        Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }

    async fn export_when_quiet(&self, settings: &Settings) -> Result<ExportSummary, CommandError> {
        let mut tries = u128::from(self.patience) * 1_000 / POLL_INTERVAL.as_millis();
        let mut mall: Option<Mall> = None;
        let exported = loop {
            if let Some(exported) = copy::export(settings, &self.to, SystemClock.now()).await? {
                break exported;
            }
            if tries == 0 {
                let text = "messages are under way all the time; stop the processes, or wait longer with --patience";
                return Err(CommandError::Other(text.into()));
            }
            tries -= 1;
            if mall.is_none() && !is_anything_served(settings).await? {
                // No process runs, so this one delivers the messages left by the last one.
                mall = Some(Mall::open(settings).await?);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        };
        if let Some(mall) = mall {
            mall.process.stop().await;
        }
        Ok(exported)
    }
}

async fn is_anything_served(settings: &Settings) -> Result<bool, CommandError> {
    for database in mall_databases(settings)? {
        if !served_services(&mut *database.db.reader().await?, &database.services).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
