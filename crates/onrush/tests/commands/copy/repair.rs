//! `onrush repair`, on both databases.

use crate::copy::solo_mall::{CommandOutput, onrush, run_command};
use rusqlite::Connection;
use testkit::{TempFolder, TestDatabase};

/// Runs the same commands on a mall that has its tables.
fn check_repair(repair: &dyn Fn(&[&str]) -> CommandOutput) {
    let begin = ["begin", "--reader", "orders", "--source", "stock", "--first", "5"];
    repair(&begin).expect_code(0).assert_shows("orders begins with message 5 of stock");
    // An existing position never changes.
    repair(&begin).expect_code(2).assert_shows("orders has a position in stock:1:0 already");
    repair(&["begin", "--reader", "accounts", "--source", "stock", "--first", "5"]).expect_code(2).assert_shows("reads no stream of");
    repair(&["begin", "--reader", "nobody", "--source", "stock", "--first", "5"])
        .expect_code(2)
        .assert_shows("there is no service “nobody”");
    // A reader that begins with the first message loses nothing, so there is nothing to decide.
    repair(&["begin", "--reader", "wallet", "--source", "orders", "--first", "1"]).expect_code(2).assert_shows("--first");
    repair(&["find-place", "--reader", "orders", "--source", "stock"]).expect_code(0).assert_shows("its position in 1 partitions");
    repair(&["publish-again", "--source", "stock"]).expect_code(0).assert_shows("are published again");
}

// F22
#[test]
fn begin_sets_the_position_and_records_it_as_a_delivery() {
    let folder = TempFolder::new();
    let name = folder.path().display().to_string();
    let at = |args: &[&str]| run_command(onrush(args).args(["--data-dir", &name]));
    at(&["migrate"]).expect_code(0);
    check_repair(&|args| {
        let (command, rest) = args.split_first().expect("there is a command");
        run_command(onrush(&["repair", command, "--data-dir", &name]).args(rest))
    });
    let file = Connection::open(folder.path().join("onrush.db")).expect("the file is there");
    let found = |sql: &str| file.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).expect("there is one");
    assert_eq!(found("select seq, feed_offset is null from orders_positions where source='stock'"), (4, 1));
    assert_eq!(found("select from_seq, to_seq from orders_deliveries where source='stock'"), (0, 4));
}

// F22
#[tokio::test(flavor = "multi_thread")]
async fn repair_works_on_postgres_too() {
    let database = TestDatabase::create().await;
    let with = |args: &[&str]| run_command(onrush(args).env("ONRUSH_DATABASE_URL", database.url()).env("ONRUSH_SECRET", "5".repeat(64)));
    with(&["migrate"]).expect_code(0);
    check_repair(&|args| with(&[&["repair"], args].concat()));
    assert_eq!(database.number("select seq from orders.orders_positions where source='stock'").await, 4);
    assert_eq!(database.number("select to_seq from orders.orders_deliveries where source='stock' and from_seq=0").await, 4);
}
