//! The audit: every invariant as a query that must return no row. It reads a snapshot of the database, with or without a running server,
//! and changes nothing. Data on PostgreSQL are copied into a SQLite file first, so that each check has one SQL text.
//!
//! Each service has the invariants of its own tables (`Service::checks`). Here are those between services, and those that SQL cannot
//! express.
//!
//! A `Quiet` invariant is only valid when no message is under way and no saga runs. The audit waits for such a moment.

mod accounts;
pub mod copied;
mod effects;
mod idempotency;
mod ledger;
mod orders;
mod payments;
mod streams;

use crate::{copy::CopyError, mall, settings::Settings};
use contracts::Timestamp;
use kit::{Invariant, engine::HoldsWhen, ports::Stopwatch};
use rusqlite::{Connection, OpenFlags, types::ValueRef};
use serde::Serialize;
use std::{borrow::Cow, path::Path};

/// Maximum number of violating rows shown for one invariant.
const MAX_SHOWN: usize = 20;

/// One check of the audit.
pub struct AuditCheck {
    pub id: &'static str,
    pub when: HoldsWhen,
    pub title: &'static str,
    pub finder: ViolationFinder,
}

pub enum ViolationFinder {
    /// A query for violations. `:now` is the time of the audit, in microseconds.
    Sql(Cow<'static, str>),
    /// Code, for checks that SQL cannot express.
    Code(fn(&Connection) -> rusqlite::Result<Vec<String>>),
}

impl From<Invariant> for AuditCheck {
    fn from(Invariant { id, when, title, sql }: Invariant) -> Self {
        AuditCheck { id, when, title, finder: ViolationFinder::Sql(sql) }
    }
}

/// All checks: of each service, between services, and those made by code.
pub fn checks() -> Vec<AuditCheck> {
    let of_services = mall::SERVICES.iter().flat_map(|service| (service.checks)());
    let between_services =
        [accounts::checks(), orders::checks(), payments::checks(), idempotency::checks(), effects::checks(), streams::checks()]
            .into_iter()
            .flatten();
    of_services.chain(between_services).map(AuditCheck::from).chain([ledger::check()]).collect()
}

/// Result of an audit in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All invariants were checked and hold.
    Clean,
    /// An invariant does not hold.
    Violated,
    /// Nothing is wrong so far, but the invariants that need a quiet moment were not checked.
    NotQuiet,
}

/// Result of an audit.
#[derive(Debug, Serialize)]
pub struct AuditReport {
    /// True only with the verdict `clean`.
    pub clean: bool,
    pub verdict: Verdict,
    /// Reason why `Quiet` checks were skipped. `None`: all checks ran.
    pub not_quiet: Option<String>,
    pub checked: usize,
    pub violations: Vec<Violation>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub id: &'static str,
    pub title: &'static str,
    /// The first 20 violating rows.
    pub found: Vec<String>,
}

/// Reasons why an audit cannot finish.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(transparent)]
    File(#[from] rusqlite::Error),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error("the audit ended early: {0}")]
    Broken(String),
}

/// Audits the SQLite file of these settings as it is now. [`run_any`] also supports PostgreSQL.
pub fn run(settings: &Settings, now: Timestamp) -> rusqlite::Result<AuditReport> {
    run_files(&settings.database(), &settings.provider_book(), now)
}

/// Audits the data of these settings as they are now, on SQLite or PostgreSQL.
pub async fn run_any(settings: &Settings, now: Timestamp) -> Result<AuditReport, AuditError> {
    let book = settings.provider_book();
    let blocking = |check: Box<dyn FnOnce() -> rusqlite::Result<AuditReport> + Send>| tokio::task::spawn_blocking(check);
    let report = if settings.postgres.is_some() {
        let copy = copied::copy(settings, now).await?;
        blocking(Box::new(move || check_file(&copy.database(), &book, now, copy.moved.clone()))).await
    } else {
        let database = settings.database();
        blocking(Box::new(move || run_files(&database, &book, now))).await
    };
    Ok(report.map_err(|error| AuditError::Broken(error.to_string()))??)
}

/// Audits a database file, and the ledger of the test provider if it exists.
pub fn run_files(database: &Path, provider_book: &Path, now: Timestamp) -> rusqlite::Result<AuditReport> {
    check_file(database, provider_book, now, None)
}

/// `moved` is the reason why the services in the file were copied at different moments.
fn check_file(database: &Path, provider_book: &Path, now: Timestamp, moved: Option<String>) -> rusqlite::Result<AuditReport> {
    // Not opened read-only: reading beside a writer needs the shared-memory file, which a read-only connection cannot create.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    payments::attach_provider_book(&connection, provider_book)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.execute_batch("begin")?;
    let one_moment = moved.is_none();
    let not_quiet = match moved {
        Some(moved) => Some(moved),
        None => streams::not_quiet_reason(&connection, now)?,
    };
    let mut report = AuditReport { clean: true, verdict: Verdict::Clean, not_quiet, checked: 0, violations: Vec::new() };
    for check in checks() {
        let left_out = match check.when {
            HoldsWhen::Always => false,
            HoldsWhen::OneMoment => !one_moment,
            HoldsWhen::Quiet => report.not_quiet.is_some(),
        };
        if left_out {
            continue;
        }
        report.checked += 1;
        let watch = Stopwatch::start();
        let found = match &check.finder {
            ViolationFinder::Sql(sql) => rows(&connection, sql, now)?,
            ViolationFinder::Code(find) => find(&connection)?,
        };
        tracing::debug!(check.id = check.id, elapsed_ms = watch.elapsed().as_millis(), "checked");
        if !found.is_empty() {
            report.violations.push(Violation { id: check.id, title: check.title, found });
        }
    }
    report.verdict = match (&report.not_quiet, report.violations.is_empty()) {
        (_, false) => Verdict::Violated,
        (Some(_), true) => Verdict::NotQuiet,
        (None, true) => Verdict::Clean,
    };
    report.clean = report.verdict == Verdict::Clean;
    connection.execute_batch("rollback")?;
    Ok(report)
}

fn rows(connection: &Connection, sql: &str, now: Timestamp) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    if let Some(index) = statement.parameter_index(":now")? {
        statement.raw_bind_parameter(index, now.0)?;
    }
    let mut found = Vec::new();
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        if found.len() == MAX_SHOWN {
            found.push("…".into());
            break;
        }
        let texts: Vec<String> = (0..columns).map(|index| row.get_ref(index).map(text)).collect::<Result<_, _>>()?;
        found.push(texts.join(" "));
    }
    Ok(found)
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "–".into(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => match uuid::Uuid::from_slice(bytes) {
            Ok(id) => id.to_string(),
            Err(_) => format!("{} bytes", bytes.len()),
        },
    }
}
