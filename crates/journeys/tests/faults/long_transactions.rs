//! Long transactions that must not delay messages.

use crate::{assert_nothing_lost, wait_for_checkouts};
use journeys::{
    fleet::{Fleet, FleetShape},
    load::{LoadTest, LoadTestOptions},
    process::StartOptions,
    servers::shared,
};
use testkit::TestDatabase;

const SHOPPERS: u32 = 20;

/// Uncommitted writes: in a foreign database, in another service's schema, and in the outbox of orders. The last is the worst, because it
/// has drawn a message id and never commits.
const HANGING: [(&str, &str); 3] = [
    ("elsewhere", "create table hanging (n bigint); insert into hanging values (1)"),
    ("wallet", "create table wallet.hanging (n bigint); insert into wallet.hanging values (1)"),
    ("orders", "insert into orders.orders_pending (partition, key, kind, data, at) values (0, gen_random_uuid(), 'hanging', '{}', 0)"),
];

fn delivery_continues(shape: FleetShape) {
    let _servers = shared();
    let (fleet, members) = Fleet::new_started(shape, &StartOptions::default(), SHOPPERS);
    let load = LoadTest::prepare(fleet.addresses(), members, LoadTestOptions { coupons: 10, ..LoadTestOptions::default() });
    let backends = fleet.data_dir.backends();
    let (elsewhere, hanging) = backends.runtime().block_on(async {
        let (elsewhere, mut hanging) = (TestDatabase::create().await, Vec::new());
        for (schema, sql) in HANGING {
            let database = if schema == "elsewhere" { &elsewhere } else { backends.database_of(schema) };
            let bystander = database.open_client().await;
            bystander.batch_execute(&format!("set idle_in_transaction_session_timeout=0; begin; {sql}")).await.expect("the command runs");
            hanging.push(bystander);
        }
        (elsewhere, hanging)
    });
    load.run_during(|| {
        load.wait_for_answers(80);
        wait_for_checkouts(&fleet, "with hanging transactions");
    });
    // They are still open. The audit finds that everything was delivered regardless.
    assert_nothing_lost(&fleet, &load, "with long transactions");
    backends.runtime().block_on(async {
        for bystander in &hanging {
            bystander.batch_execute("select 1; rollback").await.expect("the transaction is still open");
        }
    });
    drop(elsewhere);
    fleet.data_dir.assert_clean("long transactions rolled back");
}

// F13
#[test]
fn long_transactions_do_not_delay_replicas() {
    delivery_continues(FleetShape::Replicas(2));
}

// F13
#[test]
fn long_transactions_do_not_delay_split_processes() {
    delivery_continues(FleetShape::Split);
}
