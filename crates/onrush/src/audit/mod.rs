//! The audit: every invariant as a query that must return no row. It reads a snapshot of the database, beside a running server or
//! without one, and changes nothing.
//!
//! Checks of kind `Quiet` only mean something when no message is under way and no saga runs; the audit waits a while for such a moment.

mod accounts;
mod coupons;
mod ledger;
mod log;
mod orders;
mod payments;
mod stock;

use crate::settings::Settings;
use contracts::Timestamp;
use kit::ports::Stopwatch;
use rusqlite::{Connection, OpenFlags, types::ValueRef};
use serde::Serialize;
use std::path::Path;

/// Every service's name, which is the prefix of its tables.
pub const SERVICES: &[&str] = &["accounts", "stores", "catalog", "orders", "stock", "coupons", "wallet", "payments"];

/// Rows of one check that are shown.
const SHOWN: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Holds at every commit.
    Always,
    /// Holds when no message is under way and no saga runs.
    Quiet,
}

/// One invariant.
pub struct Check {
    pub id: &'static str,
    pub when: When,
    pub title: &'static str,
    /// Finds what breaks it. `:now` is the time of the audit, in microseconds.
    pub how: How,
}

pub enum How {
    Sql(String),
    /// Computed, because SQL cannot.
    Code(fn(&Connection) -> rusqlite::Result<Vec<String>>),
}

impl Check {
    fn always(id: &'static str, title: &'static str, sql: impl Into<String>) -> Check {
        Check { id, when: When::Always, title, how: How::Sql(sql.into()) }
    }
    fn quiet(id: &'static str, title: &'static str, sql: impl Into<String>) -> Check {
        Check { id, when: When::Quiet, title, how: How::Sql(sql.into()) }
    }
}

/// All invariants, in the order of the catalogue.
pub fn checks() -> Vec<Check> {
    let mut all = coupons::checks();
    all.extend(stock::checks());
    all.extend(ledger::checks());
    all.extend(orders::checks());
    all.extend(payments::checks());
    all.extend(log::checks());
    all.extend(accounts::checks());
    all
}

/// What an audit found.
#[derive(Debug, Serialize)]
pub struct Report {
    pub clean: bool,
    /// Why checks that need quiet were left out; absent when all were made.
    pub not_quiet: Option<String>,
    pub checked: usize,
    pub violations: Vec<Violation>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub id: &'static str,
    pub title: &'static str,
    /// What breaks it; the first 20.
    pub found: Vec<String>,
}

/// Audits the data of these settings as it is now.
pub fn run(settings: &Settings, now: Timestamp) -> rusqlite::Result<Report> {
    run_files(&settings.database(), &settings.provider_book(), now)
}

/// Audits a database file, and the test provider's book if there is one.
pub fn run_files(database: &Path, provider_book: &Path, now: Timestamp) -> rusqlite::Result<Report> {
    // Not read-only by flag: reading beside a writer needs the shared-memory file, which a read-only connection cannot make.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    payments::attach_book(&connection, provider_book)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.execute_batch("begin")?;
    let not_quiet = log::unrest(&connection, now)?;
    let mut report = Report { clean: true, not_quiet, checked: 0, violations: Vec::new() };
    for check in checks() {
        if check.when == When::Quiet && report.not_quiet.is_some() {
            continue;
        }
        report.checked += 1;
        let watch = Stopwatch::start();
        let found = match &check.how {
            How::Sql(sql) => rows(&connection, sql, now)?,
            How::Code(find) => find(&connection)?,
        };
        tracing::debug!(check.id = check.id, elapsed_ms = watch.elapsed().as_millis(), "checked");
        if !found.is_empty() {
            report.violations.push(Violation { id: check.id, title: check.title, found });
        }
    }
    report.clean = report.violations.is_empty() && report.not_quiet.is_none();
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
        if found.len() == SHOWN {
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
