//! Proves that every invariant of the audit can fail: plants violating data into a copy of a healthy mall.
//!
//! I-C4 (first come, as seen by clients) is checked from answers instead, by `rush::check::history`.
//! `a_winner_begun_after_a_refusal_is_found` proves that it can fail.

mod coupons_stock_accounts;
mod healthy_mall;
mod money;
mod orders;
mod streams;

use contracts::Timestamp;
use healthy_mall::HealthyMall;
use onrush::audit::{self, AuditReport};
use rusqlite::Connection;
use std::{collections::BTreeSet, path::PathBuf};
use testkit::TempFolder;

/// Data that violate one invariant.
pub struct PlantedFault {
    id: &'static str,
    /// Tables that first lose their keys, checks, indexes and triggers, which would reject the fault.
    unguarded: &'static [&'static str],
    /// `{paid}` and the other [`healthy_mall::PLACEHOLDERS`] stand for ids of the healthy mall. The provider's database is attached as
    /// `book`.
    sql: String,
    /// Text that the finding must contain.
    shows: &'static str,
}

pub fn fault(id: &'static str, unguarded: &'static [&'static str], sql: impl Into<String>, shows: &'static str) -> PlantedFault {
    PlantedFault { id, unguarded, sql: sql.into(), shows }
}

fn planted_faults() -> Vec<PlantedFault> {
    [coupons_stock_accounts::planted_faults(), money::planted_faults(), orders::planted_faults(), streams::planted_faults()]
        .into_iter()
        .flatten()
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_invariant_can_fail() {
    let healthy = healthy_mall::build().await;
    let report = healthy.copy().audit(healthy.now);
    assert!(report.clean, "the mall must be healthy before a fault is planted: {report:#?}");

    let checked: BTreeSet<&str> = audit::checks().iter().map(|check| check.id).collect();
    assert_eq!(report.checked, checked.len(), "an id is used twice, or a check was left out");
    let planted: BTreeSet<&str> = planted_faults().iter().map(|fault| fault.id).collect();
    assert_eq!(checked, planted, "each check has a planted fault, and each fault a check");

    let failures: Vec<String> = planted_faults().iter().filter_map(|fault| failure(&healthy, fault)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_and_epochs_alone_are_no_violation() {
    let healthy = healthy_mall::build().await;
    let audited = |sql: &str| {
        let copy = healthy.copy();
        copy.open().execute_batch(&healthy.with_sql_ids(sql)).unwrap_or_else(|error| panic!("cannot plant: {error}\n{sql}"));
        copy.audit(healthy.now)
    };
    for sql in streams::harmless() {
        let report = audited(&sql);
        assert!(report.clean, "{report:#?}\n{sql}");
    }
    for sql in streams::not_quiet() {
        let report = audited(&sql);
        assert!(report.violations.is_empty(), "{report:#?}\n{sql}");
        assert!(report.not_quiet.as_ref().is_some_and(|reason| !reason.starts_with("0 messages")), "{report:#?}\n{sql}");
    }
}

/// The reason why the audit did not find this fault. `None`: it did.
fn failure(healthy: &HealthyMall, fault: &PlantedFault) -> Option<String> {
    let copy = healthy.copy();
    let connection = copy.open();
    for table in fault.unguarded {
        remove_guards(&connection, table);
    }
    let changes = || connection.query_row("select total_changes()", [], |row| row.get::<_, i64>(0)).expect("a count");
    let (sql, before) = (healthy.with_sql_ids(&fault.sql), changes());
    if let Err(error) = connection.execute_batch(&sql) {
        return Some(format!("{}: cannot plant: {error}\n    {sql}", fault.id));
    }
    if changes() == before && !sql.starts_with("drop") {
        return Some(format!("{}: the fault changed no row\n    {sql}", fault.id));
    }
    drop(connection);
    let report = copy.audit(healthy.now);
    let shows = healthy.with_ids(fault.shows);
    let found = report.violations.iter().find(|violation| violation.id == fault.id);
    match found {
        None => Some(format!("{} is not among {:?} ({:?})\n    {sql}", fault.id, ids(&report), report.not_quiet)),
        Some(violation) if !violation.found.iter().any(|row| row.contains(&shows)) => {
            Some(format!("{} does not show {shows} but {:?}\n    {sql}", fault.id, violation.found))
        }
        Some(_) => None,
    }
}

fn ids(report: &AuditReport) -> Vec<&'static str> {
    report.violations.iter().map(|violation| violation.id).collect()
}

/// Rebuilds a table without its constraints.
fn remove_guards(connection: &Connection, table: &str) {
    let sql = format!("create table loose as select * from {table}; drop table {table}; alter table loose rename to {table};");
    connection.execute_batch(&sql).expect("the table is rebuilt");
}

/// The database files of a mall, to plant faults into.
pub struct MallFiles {
    folder: TempFolder,
}

impl MallFiles {
    pub fn new() -> MallFiles {
        MallFiles { folder: TempFolder::new() }
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("onrush.db")
    }

    pub fn book(&self) -> PathBuf {
        self.folder.path().join("test-provider.db")
    }

    fn open(&self) -> Connection {
        let connection = Connection::open(self.database()).expect("the copy opens");
        connection.pragma_update(None, "foreign_keys", false).expect("a pragma");
        connection.pragma_update(None, "ignore_check_constraints", true).expect("a pragma");
        connection.execute("attach database ?1 as book", [self.book().to_string_lossy()]).expect("the book opens");
        connection
    }

    fn audit(&self, now: Timestamp) -> AuditReport {
        audit::run_files(&self.database(), &self.book(), now).expect("the audit runs")
    }
}
