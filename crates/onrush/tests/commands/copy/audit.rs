//! The audit of PostgreSQL, including faults that only PostgreSQL can have.

use crate::copy::solo_mall::{SoloMall, run_command};
use testkit::TestDatabase;

async fn imported() -> (SoloMall, TestDatabase) {
    let (solo, database) = (SoloMall::build().await, TestDatabase::create().await);
    run_command(&mut solo.import(&database)).expect_code(0);
    run_command(&mut solo.command(&["dead-letters", "redrive"], &database)).expect_code(0);
    run_command(&mut solo.command(&["audit"], &database)).expect_code(0).assert_shows("0 violated: clean");
    (solo, database)
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_in_postgresql_are_found() {
    let (solo, database) = imported().await;
    let client = database.open_client().await;
    let faults = [
        ("drop trigger wallet_entries_append_only on wallet.wallet_entries", "trigger wallet_entries_append_only is missing"),
        ("alter table wallet.wallet_transactions disable trigger user", "trigger wallet_transactions_no_truncate is missing"),
        ("update stock.stock_items set reserved=reserved+1", "I-S3 VIOLATED"),
        ("update wallet.wallet_entries set hash='\\x00'::bytea where n=1", "cannot audit"),
    ];
    for (sql, shown) in &faults[..3] {
        client.batch_execute(sql).await.expect("it is planted");
        run_command(&mut solo.command(&["audit"], &database)).expect_code(1).assert_shows(shown);
    }
    let (sql, shown) = faults[3];
    client.batch_execute(sql).await.expect("it is planted");
    run_command(&mut solo.command(&["audit"], &database)).expect_code(2).assert_shows(shown);
}

/// A message without a number is under way, and so is an unread message in any partition.
#[tokio::test(flavor = "multi_thread")]
async fn with_messages_under_way_it_is_not_quiet() {
    let (solo, database) = imported().await;
    let client = database.open_client().await;
    let audit = || run_command(&mut solo.command(&["audit", "--patience", "0"], &database));
    let pending = "insert into orders.orders_pending (partition, key, kind, data, at)
                   values (3, '00000000-0000-0000-0000-000000000001', 'stock.commit', '{}', 0)";
    client.batch_execute(pending).await.expect("it is planted");
    audit().expect_code(3).assert_shows("0 violated: NOT QUIET").assert_shows("messages under way").assert_shows("start it");
    // As the sequencer does.
    let numbered = "insert into orders.orders_outbox (epoch, partition, seq, key, kind, data, at)
                    select 2, partition, 1, key, kind, data, at from orders.orders_pending; delete from orders.orders_pending";
    client.batch_execute(numbered).await.expect("it is planted");
    audit().expect_code(3).assert_shows("0 violated: NOT QUIET").assert_shows("messages under way").assert_shows("start it");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_with_databases_of_their_own_are_audited_together() {
    let (solo, common) = (SoloMall::build().await, TestDatabase::create().await);
    let (orders, wallet) = (TestDatabase::create().await, TestDatabase::create().await);
    let own = format!("orders={},wallet={}", orders.url(), wallet.url());
    run_command(solo.import(&common).env("ONRUSH_DATABASES", &own)).expect_code(0);
    run_command(solo.command(&["dead-letters", "redrive"], &common).env("ONRUSH_DATABASES", &own)).expect_code(0);
    let audit = || run_command(solo.command(&["audit"], &common).env("ONRUSH_DATABASES", &own));
    audit().expect_code(0).assert_shows("0 violated: clean");
    // Visible only across both services: the wallet paid for an order without a payment.
    let client = common.open_client().await;
    client
        .batch_execute("update payments.payments_payments set captured_at=null, state='FAILED', code='x' where state='APPROVED'")
        .await
        .expect("planted");
    audit().expect_code(1).assert_shows("I-P3 VIOLATED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_a_mall_is_not_clean() {
    let (solo, database) = (SoloMall::build().await, TestDatabase::create().await);
    run_command(&mut solo.command(&["audit"], &database)).expect_code(2).assert_shows("there is no mall in that database");
}
