//! `onrush repair`, on both databases.

use crate::solo_mall::{CommandOutput, onrush, run_command};
use kit::testing::{TempFolder, TestDatabase};
use rusqlite::Connection;

/// The same course of commands on a mall whose tables are there.
fn check_repair(repair: &dyn Fn(&[&str]) -> CommandOutput) {
    let begin = ["begin", "--reader", "orders", "--source", "stock", "--first", "5"];
    repair(&begin).expect(0).assert_shows("orders begins with message 5 of stock");
    // A position is never changed.
    repair(&begin).expect(2).assert_shows("orders has a position in stock:1:0 already");
    repair(&["begin", "--reader", "accounts", "--source", "stock", "--first", "5"]).expect(2).assert_shows("reads no stream of");
    repair(&["begin", "--reader", "nobody", "--source", "stock", "--first", "5"]).expect(2).assert_shows("there is no service “nobody”");
    // With the first message nothing was lost, and nothing is to be decided.
    repair(&["begin", "--reader", "wallet", "--source", "orders", "--first", "1"]).expect(2).assert_shows("--first");
    repair(&["find-place", "--reader", "orders", "--source", "stock"]).expect(0).assert_shows("its place in 1 partitions");
    repair(&["publish-again", "--source", "stock"]).expect(0).assert_shows("published again");
}

// F22
#[test]
fn a_reader_is_told_where_to_begin_and_that_stays_on_record() {
    let folder = TempFolder::new();
    let name = folder.path().display().to_string();
    let at = |args: &[&str]| run_command(onrush(args).args(["--data-dir", &name]));
    at(&["migrate"]).expect(0);
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
async fn on_postgres_too() {
    let database = TestDatabase::create().await;
    let with = |args: &[&str]| run_command(onrush(args).env("ONRUSH_DATABASE_URL", database.url()).env("ONRUSH_SECRET", "5".repeat(64)));
    with(&["migrate"]).expect(0);
    check_repair(&|args| with(&[&["repair"], args].concat()));
    assert_eq!(database.number("select seq from orders.orders_positions where source='stock'").await, 4);
    assert_eq!(database.number("select to_seq from orders.orders_deliveries where source='stock' and from_seq=0").await, 4);
}
