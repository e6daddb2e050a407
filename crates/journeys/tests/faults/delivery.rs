//! What must not keep messages from their readers.

use crate::{assert_kept, checkouts_go_on};
use journeys::{
    fleet::{Fleet, Shape},
    process::Start,
    rush::{Load, Rush},
    servers::shared,
};
use kit::testing::TestDatabase;

const SHOPPERS: u32 = 20;

/// Transactions that have written and do not end: in a database of somebody else, in another service's schema, and, worst, in a schema of
/// ours with a message that has drawn its id, and will never be.
const HANGING: [(&str, &str); 3] = [
    ("elsewhere", "create table hanging (n bigint); insert into hanging values (1)"),
    ("wallet", "create table wallet.hanging (n bigint); insert into wallet.hanging values (1)"),
    ("orders", "insert into orders.orders_pending (partition, key, kind, data, at) values (0, gen_random_uuid(), 'hanging', '{}', 0)"),
];

fn delivery_goes_on(shape: Shape) {
    let _servers = shared();
    let (fleet, members) = Fleet::opened(shape, &Start::default(), SHOPPERS);
    let rush = Rush::furnish(fleet.doors(), members, Load { coupons: 10, ..Load::default() });
    let ground = fleet.place.ground();
    let (elsewhere, hanging) = ground.runtime().block_on(async {
        let (elsewhere, mut hanging) = (TestDatabase::create().await, Vec::new());
        for (place, sql) in HANGING {
            let database = if place == "elsewhere" { &elsewhere } else { ground.database_of(place) };
            let bystander = database.bystander().await;
            bystander.batch_execute(&format!("set idle_in_transaction_session_timeout=0; begin; {sql}")).await.expect("it runs");
            hanging.push(bystander);
        }
        (elsewhere, hanging)
    });
    rush.during(|| {
        rush.goes_on(80);
        checkouts_go_on(&fleet, "beside transactions that hang");
    });
    // Still open: the audit finds everything delivered beside them.
    assert_kept(&fleet, &rush, "beside long transactions");
    ground.runtime().block_on(async {
        for bystander in &hanging {
            bystander.batch_execute("select 1; rollback").await.expect("it was open all the time");
        }
    });
    drop(elsewhere);
    fleet.place.assert_clean("long transactions rolled back");
}

// F13
#[test]
fn a_long_transaction_anywhere_keeps_no_message_of_replicas_waiting() {
    delivery_goes_on(Shape::Replicas(2));
}

// F13
#[test]
fn a_long_transaction_anywhere_keeps_no_message_apart_waiting() {
    delivery_goes_on(Shape::Split);
}
