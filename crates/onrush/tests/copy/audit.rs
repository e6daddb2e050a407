//! The audit of PostgreSQL: what only exists there, it sees too.

use crate::solo_mall::{Solo, run_command};
use kit::testing::TestDatabase;

async fn imported() -> (Solo, TestDatabase) {
    let (solo, database) = (Solo::build().await, TestDatabase::create().await);
    run_command(&mut solo.import(&database)).expect(0);
    run_command(&mut solo.command(&["dead-letters", "redrive"], &database)).expect(0);
    run_command(&mut solo.command(&["audit"], &database)).expect(0).assert_shows("0 violated: clean");
    (solo, database)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_in_postgresql_is_found_there() {
    let (solo, database) = imported().await;
    let client = database.bystander().await;
    let faults = [
        ("drop trigger wallet_entries_append_only on wallet.wallet_entries", "trigger wallet_entries_append_only is missing"),
        ("alter table wallet.wallet_transactions disable trigger user", "trigger wallet_transactions_no_truncate is missing"),
        ("update stock.stock_items set reserved=reserved+1", "I-S3 VIOLATED"),
        ("update wallet.wallet_entries set hash='\\x00'::bytea where n=1", "cannot audit"),
    ];
    for (sql, assert_shows) in &faults[..3] {
        client.batch_execute(sql).await.expect("it is planted");
        run_command(&mut solo.command(&["audit"], &database)).expect(1).assert_shows(assert_shows);
    }
    let (sql, assert_shows) = faults[3];
    client.batch_execute(sql).await.expect("it is planted");
    run_command(&mut solo.command(&["audit"], &database)).expect(2).assert_shows(assert_shows);
}

/// A message without a number, and one that nobody has read in whatever partition, are under way.
#[tokio::test(flavor = "multi_thread")]
async fn messages_under_way_are_no_quiet_moment() {
    let (solo, database) = imported().await;
    let client = database.bystander().await;
    let audit = || run_command(&mut solo.command(&["audit", "--patience", "0"], &database));
    let pending = "insert into orders.orders_pending (partition, key, kind, data, at)
                   values (3, '00000000-0000-0000-0000-000000000001', 'stock.commit', '{}', 0)";
    client.batch_execute(pending).await.expect("it is planted");
    audit().expect(1).assert_shows("messages under way");
    // The sequencer would do this.
    let numbered = "insert into orders.orders_outbox (epoch, partition, seq, key, kind, data, at)
                    select 2, partition, 1, key, kind, data, at from orders.orders_pending; delete from orders.orders_pending";
    client.batch_execute(numbered).await.expect("it is planted");
    audit().expect(1).assert_shows("messages under way");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_with_databases_of_their_own_are_audited_together() {
    let (solo, common) = (Solo::build().await, TestDatabase::create().await);
    let (orders, wallet) = (TestDatabase::create().await, TestDatabase::create().await);
    let own = format!("orders={},wallet={}", orders.url(), wallet.url());
    run_command(solo.import(&common).env("ONRUSH_DATABASES", &own)).expect(0);
    run_command(solo.command(&["dead-letters", "redrive"], &common).env("ONRUSH_DATABASES", &own)).expect(0);
    let audit = || run_command(solo.command(&["audit"], &common).env("ONRUSH_DATABASES", &own));
    audit().expect(0).assert_shows("0 violated: clean");
    // Only seen by who looks at both: the wallet paid for an order that payments knows nothing of.
    let client = common.bystander().await;
    client
        .batch_execute("update payments.payments_payments set captured_at=null, state='FAILED', code='x' where state='APPROVED'")
        .await
        .expect("planted");
    audit().expect(1).assert_shows("I-P3 VIOLATED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_a_mall_is_no_clean_one() {
    let (solo, database) = (Solo::build().await, TestDatabase::create().await);
    run_command(&mut solo.command(&["audit"], &database)).expect(2).assert_shows("there is no mall in that database");
}
