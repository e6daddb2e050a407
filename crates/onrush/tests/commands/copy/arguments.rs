//! Wrong arguments are refused by name, before the command changes anything.

use crate::copy::solo_mall::{onrush, run, run_command};
use testkit::{TempFolder, TestDatabase};

#[test]
fn missing_arguments_are_named() {
    let folder = TempFolder::new();
    let name = folder.path().display().to_string();
    run(&["import", "--from", &name]).expect_code(2).assert_shows("set --database-url");
    run(&["import"]).expect_code(2).assert_shows("--from");
    run(&["migrate", "--from", &name]).expect_code(2).assert_shows("--to");
    run(&["migrate", "--to", "postgres://nobody@127.0.0.1:1/x"]).expect_code(2).assert_shows("--from");
    run(&["import", "--from", &name, "--database-url", "mysql://x"]).expect_code(2).assert_shows("database_url: must be a URL");
    run(&["export", "--data-dir", &name, "--to", &format!("{name}/x.db")])
        .expect_code(2)
        .assert_shows("there is no mall in")
        .assert_shows("--data-dir");
    run(&["export"]).expect_code(2).assert_shows("--to");
    let url = "postgres://nobody@127.0.0.1:1/x";
    run(&["import", "--from", &name, "--database-url", url]).expect_code(2).assert_shows("has no file onrush.db");
    run(&["import", "--from", &format!("{name}/gone"), "--database-url", url]).expect_code(2).assert_shows("there is nothing at");
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0, "no file was created");
}

#[test]
fn an_export_overwrites_nothing() {
    let folder = TempFolder::new();
    let name = folder.path().display().to_string();
    run(&["migrate", "--data-dir", &name]).expect_code(0).assert_shows("up to date");
    let file = folder.path().join("kept");
    std::fs::write(&file, "dear").expect("it is written");
    run(&["export", "--data-dir", &name, "--to", &file.display().to_string()]).expect_code(2).assert_shows("exists already");
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "dear");
    let nowhere = folder.path().join("no/such/folder/x.db").display().to_string();
    run(&["export", "--data-dir", &name, "--to", &nowhere]).expect_code(2).assert_shows("no/such/folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_creates_the_tables_and_can_run_again() {
    let database = TestDatabase::create().await;
    let migrate = || run_command(onrush(&["migrate"]).env("ONRUSH_DATABASE_URL", database.url()).env("ONRUSH_SECRET", "5".repeat(64)));
    migrate().expect_code(0).assert_shows("up to date");
    migrate().expect_code(0).assert_shows("up to date");
    let client = database.open_client().await;
    let row = client.query_one("select count(*) from orders.orders_heads", &[]).await.expect("the tables are there");
    assert_eq!(row.get::<_, i64>(0), 4, "a stream of four partitions");
}
