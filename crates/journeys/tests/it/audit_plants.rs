//! Every invariant of the audit is proven able to fail: for each one data that break it are planted into a copy of a healthy mall.
//!
//! I-C4 (first come, from what clients saw) is not among them: it is checked from the answers, by `rush::check::history`, and proven able to
//! fail there, by `a_winner_begun_after_a_refusal_is_found`.

mod mall;
mod money;
mod orders;
mod places;
mod stream;

use contracts::Timestamp;
use kit::testing::TempFolder;
use mall::Healthy;
use onrush::audit::{self, Report};
use rusqlite::Connection;
use std::{collections::BTreeSet, path::PathBuf};

/// Data that break one invariant.
pub struct Plant {
    id: &'static str,
    /// Tables that lose their keys, checks, indexes and triggers first, for they would not take the plant.
    loosen: &'static [&'static str],
    /// `{paid}` and other places of [`mall::PLACES`] stand for what is in the healthy mall. The provider's book is attached as `book`.
    sql: String,
    /// A text that the finding must show.
    shows: &'static str,
}

pub fn plant(id: &'static str, loosen: &'static [&'static str], sql: impl Into<String>, shows: &'static str) -> Plant {
    Plant { id, loosen, sql: sql.into(), shows }
}

fn plants() -> Vec<Plant> {
    [places::plants(), money::plants(), orders::plants(), stream::plants()].into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_invariant_can_fail() {
    let healthy = mall::build().await;
    let report = healthy.copy().audit(healthy.now);
    assert!(report.clean, "a plant proves nothing in a mall that is not healthy: {report:#?}");

    let checked: BTreeSet<&str> = audit::checks().iter().map(|check| check.id).collect();
    assert_eq!(report.checked, checked.len(), "an id is used twice, or a check was left out");
    let planted: BTreeSet<&str> = plants().iter().map(|plant| plant.id).collect();
    assert_eq!(checked, planted, "each check has a plant, each plant a check");

    let failures: Vec<String> = plants().iter().filter_map(|plant| failure(&healthy, plant)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_and_epochs_alone_are_nothing_to_complain_of() {
    let healthy = mall::build().await;
    let audited = |sql: &str| {
        let copy = healthy.copy();
        copy.open().execute_batch(&healthy.named(sql)).unwrap_or_else(|error| panic!("cannot plant: {error}\n{sql}"));
        copy.audit(healthy.now)
    };
    for sql in stream::harmless() {
        let report = audited(&sql);
        assert!(report.clean, "{report:#?}\n{sql}");
    }
    for sql in stream::unrests() {
        let report = audited(&sql);
        assert!(report.violations.is_empty(), "{report:#?}\n{sql}");
        assert!(report.not_quiet.as_ref().is_some_and(|unrest| !unrest.starts_with("0 messages")), "{report:#?}\n{sql}");
    }
}

/// What is wrong with the audit of a mall with this plant, if anything.
fn failure(healthy: &Healthy, plant: &Plant) -> Option<String> {
    let copy = healthy.copy();
    let connection = copy.open();
    for table in plant.loosen {
        loosen(&connection, table);
    }
    let changes = || connection.query_row("select total_changes()", [], |row| row.get::<_, i64>(0)).expect("a count");
    let (sql, before) = (healthy.named(&plant.sql), changes());
    if let Err(error) = connection.execute_batch(&sql) {
        return Some(format!("{}: cannot plant: {error}\n    {sql}", plant.id));
    }
    if changes() == before && !sql.starts_with("drop") {
        return Some(format!("{}: the plant changed nothing\n    {sql}", plant.id));
    }
    drop(connection);
    let report = copy.audit(healthy.now);
    let shows = healthy.shown(plant.shows);
    let found = report.violations.iter().find(|violation| violation.id == plant.id);
    match found {
        None => Some(format!("{} is not among {:?} ({:?})\n    {sql}", plant.id, ids(&report), report.not_quiet)),
        Some(violation) if !violation.found.iter().any(|row| row.contains(&shows)) => {
            Some(format!("{} does not show {shows} but {:?}\n    {sql}", plant.id, violation.found))
        }
        Some(_) => None,
    }
}

fn ids(report: &Report) -> Vec<&'static str> {
    report.violations.iter().map(|violation| violation.id).collect()
}

/// Rebuilds a table without everything that guards it.
fn loosen(connection: &Connection, table: &str) {
    let sql = format!("create table loose as select * from {table}; drop table {table}; alter table loose rename to {table};");
    connection.execute_batch(&sql).expect("the table is rebuilt");
}

/// The files of a mall that may be spoiled.
pub struct Files {
    folder: TempFolder,
}

impl Files {
    pub fn new() -> Files {
        Files { folder: TempFolder::new() }
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

    fn audit(&self, now: Timestamp) -> Report {
        audit::run_files(&self.database(), &self.book(), now).expect("the audit runs")
    }
}
