//! `onrush import`: copies a solo mall, or an exported file, into an empty PostgreSQL database.

use super::{CommandError, audit::report_text, print_line};
use crate::{
    audit::{self, AuditReport},
    copy::{self, CopiedTable, ImportSource},
    settings::{RawSettings, Settings, SettingsError},
};
use kit::ports::{Clock, SystemClock};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(clap::Args)]
pub struct ImportArgs {
    #[command(flatten)]
    raw: RawSettings,
    /// The folder of a mall that is not running, or a file written by `onrush export`
    #[arg(long)]
    from: PathBuf,
}

impl ImportArgs {
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        import(&self.raw, &self.from).await
    }
}

/// Exit code 0 if all rows were copied and the audit finds the same violations on both sides.
pub(super) async fn import(raw: &RawSettings, from: &Path) -> Result<ExitCode, CommandError> {
    let (settings, secret) = load_settings(raw)?;
    if settings.postgres.is_none() {
        return Err(CommandError::Other("an import goes to PostgreSQL: set --database-url".into()));
    }
    let source = ImportSource::open(from, &settings).await?;
    let before = audit_or_error(from, audit::run_files(&source.database, &source.book, SystemClock.now()))?;
    let imported = copy::import(&source, &settings, SystemClock.now()).await?;
    print_line(tables_text(&imported.tables));
    if imported.is_book_copied {
        print_line(format!("The ledger of the test provider was copied to {}.", settings.provider_book().display()));
    }
    let after = audit_or_error(from, audit::run_any(&settings, SystemClock.now()).await)?;
    print_line(format!("audit of {}:\n{}", from.display(), report_text(&before)));
    print_line(format!("audit of the imported data:\n{}", report_text(&after)));
    print_line(secret_advice(&source, secret));
    // An import repairs nothing: violations before it, such as those of a dead letter, remain after it.
    Ok(if before.violations == after.violations { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Loads the settings and the secret. `None`: no secret is set. An import signs nothing, so it needs none.
fn load_settings(raw: &RawSettings) -> Result<(Settings, Option<[u8; 32]>), CommandError> {
    match Settings::load(raw) {
        Err(SettingsError::Unusable { setting: "secret", .. }) if raw.secret.is_none() => {
            let unsigned = RawSettings { secret: Some("0".repeat(64)), ..raw.clone() };
            Ok((Settings::load(&unsigned)?, None))
        }
        loaded => {
            let settings = loaded?;
            let secret = settings.secret;
            Ok((settings, secret))
        }
    }
}

fn audit_or_error<E: std::fmt::Display>(from: &Path, report: Result<AuditReport, E>) -> Result<AuditReport, CommandError> {
    report.map_err(|error| CommandError::Other(format!("cannot audit {}: {error}", from.display())))
}

/// The copied tables, one line for each table with rows.
pub(super) fn tables_text(tables: &[CopiedTable]) -> String {
    let mut text = String::new();
    let mut rows = 0;
    for copied in tables.iter().filter(|copied| copied.digest.rows > 0) {
        text.push_str(&format!("{:32} {:>12}\n", copied.table, copied.digest.rows));
        rows += copied.digest.rows;
    }
    text.push_str(&format!("{rows} rows in {} tables are the same on both sides", tables.len()));
    text
}

fn secret_advice(source: &ImportSource, new_secret: Option<[u8; 32]>) -> String {
    let key = source.database.with_file_name("secret.key");
    match (source.secret, new_secret) {
        (Some(old), Some(new)) if old == new => "The secret is the same as before: all members stay signed in.".into(),
        (None, _) => {
            "Serve it with the secret used before (ONRUSH_SECRET). With another secret, all members must renew their access tokens.".into()
        }
        (Some(_), _) => format!(
            "To keep all members signed in, serve it with the secret of {}:\n    export ONRUSH_SECRET=$(od -An -v -tx1 {} | tr -d ' \\n')",
            key.display(),
            key.display()
        ),
    }
}
