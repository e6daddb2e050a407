//! Refused imports, and the state after a killed import.

use crate::copy::solo_mall::{RunningMall, SoloMall, counts_of_file, counts_of_postgres, run_command, settings};
use testkit::{Faults, TestDatabase};

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_mall_is_neither_joined_nor_overwritten() {
    let (solo, database) = (SoloMall::build().await, TestDatabase::create().await);
    run_command(&mut solo.import(&database)).expect_code(0);
    let counts = counts_of_postgres(&database).await;
    run_command(&mut solo.import(&database)).expect_code(2).assert_shows("is imported there already, row for row");
    let (other, taken) = (SoloMall::build().await, database);
    run_command(&mut other.import(&taken))
        .expect_code(2)
        .assert_shows("there is a mall in that database already")
        .assert_shows("is not empty");
    assert_eq!(counts_of_postgres(&taken).await, counts);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_refused_while_a_side_is_in_use() {
    let (solo, database) = (SoloMall::build().await, TestDatabase::create().await);
    let running = RunningMall::open(&settings(solo.path()), Faults::default()).await;
    run_command(&mut solo.import(&database)).expect_code(2).assert_shows("is in use by another onrush process");
    running.stop().await;

    let serving = RunningMall::open(&solo.on_postgres(&database), Faults::default()).await;
    run_command(&mut solo.import(&database)).expect_code(2).assert_shows("a process serves").assert_shows("stop it first");
    serving.stop().await;
    // The process that served it has opened a mall there, with a store.
    run_command(&mut solo.import(&database)).expect_code(2).assert_shows("there is a mall in that database already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_import_leaves_no_rows_and_can_run_again() {
    let (solo, database) = (SoloMall::build().await, TestDatabase::create().await);
    let killed = run_command(solo.import(&database).env("ONRUSH_CRASH_POINT", "import.before_commit"));
    assert_eq!(killed.code, -1, "it was not killed: {}\n{}", killed.out, killed.err);
    let left = counts_of_postgres(&database).await;
    assert!(!left.is_empty() && left.values().all(|rows| *rows == 0), "{left:?}");
    run_command(&mut solo.import(&database)).expect_code(0);
    assert_eq!(counts_of_postgres(&database).await, counts_of_file(&solo.database()));
}

/// Services in separate databases are committed one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_killed_between_two_commits_can_be_completed() {
    let (solo, common, own) = (SoloMall::build().await, TestDatabase::create().await, TestDatabase::create().await);
    let import = || {
        let mut command = solo.import(&common);
        command.env("ONRUSH_DATABASES", format!("orders={}", own.url()));
        command
    };
    let killed = run_command(import().env("ONRUSH_CRASH_POINT", "import.after_commit"));
    assert_eq!(killed.code, -1, "it was not killed: {}\n{}", killed.out, killed.err);
    let rows = |counts: std::collections::BTreeMap<String, i64>| counts.values().sum::<i64>();
    let (first, second) = (rows(counts_of_postgres(&common).await), rows(counts_of_postgres(&own).await));
    assert!((first == 0) != (second == 0), "one of them was committed: {first} rows and {second}");

    run_command(&mut import()).expect_code(0).assert_shows("the same on both sides");
    let mut both = counts_of_postgres(&common).await;
    both.extend(counts_of_postgres(&own).await);
    assert_eq!(both, counts_of_file(&solo.database()));
    run_command(&mut import()).expect_code(2).assert_shows("is imported there already");
}

/// A value that only SQLite can store is named, and no row is copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_postgresql_cannot_store_is_named() {
    let (solo, database) = (SoloMall::build().await, TestDatabase::create().await);
    solo.open().execute("update accounts_members set name='Kim' || char(0) || 'Minji'", []).expect("SQLite takes it");
    run_command(&mut solo.import(&database)).expect_code(2).assert_shows("table accounts_members, column name").assert_shows("U+0000");
    assert!(counts_of_postgres(&database).await.values().all(|rows| *rows == 0));
}
