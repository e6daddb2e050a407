//! Copies in both directions: no row is lost, and both sides can be served.

use crate::copy::solo_mall::{RunningMall, SoloMall, count, counts_of_file, counts_of_postgres, onrush, run_command, settings, text};
use rusqlite::Connection;
use serde_json::json;
use testkit::{Faults, TempFolder, TestDatabase};

#[tokio::test(flavor = "multi_thread")]
async fn a_solo_mall_moves_to_postgresql_and_continues_there() {
    let (solo, database) = (SoloMall::build().await, TestDatabase::create().await);
    let before = counts_of_file(&solo.database());
    let imported =
        run_command(&mut solo.import(&database)).expect_code(0).assert_shows("rows in").assert_shows("are the same on both sides");
    // The order of the dead letter violates I-O4 on both sides, until a redrive.
    assert_eq!(imported.out.matches("I-O4 VIOLATED").count(), 2, "{}", imported.out);
    imported.assert_shows("export ONRUSH_SECRET=");
    assert_eq!(counts_of_postgres(&database).await, before);

    let mut list = solo.command(&["dead-letters", "list"], &database);
    run_command(&mut list).expect_code(0).assert_shows(&solo.dead_lettered).assert_shows("1 dead letters");
    run_command(&mut solo.command(&["dead-letters", "redrive"], &database)).expect_code(0).assert_shows("1 marked");
    run_command(&mut list).expect_code(0).assert_shows("0 dead letters");
    run_command(&mut solo.command(&["audit"], &database)).expect_code(0).assert_shows("0 violated: clean");

    let running = RunningMall::open(&solo.on_postgres(&database), Faults::default()).await;
    for (order, state) in [(&solo.paid, "PAID"), (&solo.dead_lettered, "PAID"), (&solo.unpaid, "AWAITING_PAYMENT")] {
        let (status, shown) = running.get(&format!("/v1/orders/{order}"), &solo.token).await;
        assert_eq!((status, shown["state"].as_str()), (200, Some(state)), "{shown}");
    }
    let renewed = running.post("/v1/sessions/refresh", "", json!({"refresh_token": solo.refresh_token})).await;
    let new = running.order(&text(&renewed["access_token"]), &solo.sku, &[]).await;
    assert_eq!(new["state"], "PAID");
    run_command(&mut solo.command(&["audit"], &database)).expect_code(0).assert_shows("0 violated: clean");
    running.stop().await;

    // Numbers of the new epoch begin at 1, and no message of the old epoch was read again.
    let client = database.open_client().await;
    let row = client.query_one("select max(epoch), min(seq) filter (where epoch=2) from orders.orders_outbox", &[]).await.expect("it runs");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (2, 1));
    let old = "select count(*), coalesce(max(to_seq),0) from stock.stock_deliveries where source='orders' and epoch=1";
    let row = client.query_one(old, &[]).await.expect("it runs");
    let sql = "select count(*), coalesce(max(to_seq),0) from stock_deliveries where source='orders' and epoch=1";
    let (deliveries, last): (i64, i64) = solo.open().query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("it runs");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (deliveries, last));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_file_can_be_served_and_imported() {
    let (solo, database) = (SoloMall::build().await, TestDatabase::create().await);
    run_command(&mut solo.import(&database)).expect_code(0);
    run_command(&mut solo.command(&["dead-letters", "redrive"], &database)).expect_code(0);
    // The export delivers the messages that this process leaves undelivered.
    let running = RunningMall::open(&solo.on_postgres(&database), Faults::default()).await;
    assert_eq!(running.order(&solo.token, &solo.sku, &[]).await["state"], "PAID");
    running.stop().await;
    let folder = TempFolder::new();
    let file = folder.path().join("onrush.db");
    let name = file.display().to_string();
    run_command(&mut solo.command(&["export", "--to", &name], &database)).expect_code(0).assert_shows("0 violated: clean");
    assert_eq!(counts_of_file(&file), counts_of_postgres(&database).await);
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 1, "no other file remains");

    // Into a second PostgreSQL, from the file itself.
    let second = TestDatabase::create().await;
    let mut import = onrush(&["migrate", "--from", &name, "--to", &second.url()]);
    run_command(import.env("ONRUSH_DATA_DIR", solo.path().join("elsewhere"))).expect_code(0).assert_shows("the same on both sides");
    assert_eq!(counts_of_postgres(&second).await, counts_of_file(&file));

    // One process serves the file.
    std::fs::copy(solo.path().join("secret.key"), folder.path().join("secret.key")).expect("the key is copied");
    let running = RunningMall::open(&settings(folder.path()), Faults::default()).await;
    let (status, shown) = running.get(&format!("/v1/orders/{}", solo.paid), &solo.token).await;
    assert_eq!((status, shown["state"].as_str()), (200, Some("PAID")));
    assert_eq!(running.order(&solo.token, &solo.sku, &[]).await["state"], "PAID");
    running.stop().await;
    run_command(&mut onrush(&["audit", "--data-dir", &folder.path().display().to_string()]))
        .expect_code(0)
        .assert_shows("0 violated: clean");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_exported_from_a_running_solo_mall_is_complete() {
    let solo = SoloMall::build().await;
    let running = RunningMall::open(&settings(solo.path()), Faults::default()).await;
    let folder = TempFolder::new();
    let file = folder.path().join("onrush.db");
    let mut export = onrush(&["export", "--data-dir", &solo.name(), "--to", &file.display().to_string()]);
    // The order of the dead letter violates I-O4.
    run_command(&mut export).expect_code(1).assert_shows("the same on both sides").assert_shows("I-O4 VIOLATED");
    running.stop().await;
    assert_eq!(counts_of_file(&file), counts_of_file(&solo.database()));
    let epochs = |path: &std::path::Path| count(&Connection::open(path).expect("it opens"), "orders_stream");
    assert_eq!(epochs(&file), epochs(&solo.database()));
}

/// An import first delivers the messages that a process left undelivered.
#[tokio::test(flavor = "multi_thread")]
async fn undelivered_messages_are_delivered_first() {
    let (solo, database) = (SoloMall::build().await, TestDatabase::create().await);
    let faults = Faults::planned();
    for reader in ["stock", "wallet"] {
        faults.hold(reader, "stock.release");
        faults.hold(reader, "order.cancelled");
    }
    let running = RunningMall::open(&settings(solo.path()), faults).await;
    running.post(&format!("/v1/orders/{}/cancellation", solo.unpaid), &solo.token, json!({})).await;
    running.stop().await;
    let undelivered = "select (select max(seq) from orders_outbox)-(select max(seq) from stock_positions where source='orders')";
    assert!(solo.open().query_row(undelivered, [], |row| row.get::<_, i64>(0)).expect("it runs") > 0, "the test holds no message back");

    run_command(&mut solo.import(&database)).expect_code(0).assert_shows("the same on both sides");
    let client = database.open_client().await;
    let held = client.query_one("select count(*) from stock.stock_holds where state='ACTIVE'", &[]).await.expect("it runs");
    assert_eq!(held.get::<_, i64>(0), 0, "the stock of the cancelled order is free");
}
