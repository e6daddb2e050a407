//! Processes that stand still for longer than their leases last, and wake among others who took their work over.

use crate::{assert_kept, checkouts_go_on};
use journeys::{
    fleet::{Fleet, Shape},
    ground::Ground,
    process::Start,
    rush::{Load, Rush, is_long},
    servers::shared,
};
use std::time::Duration;

const SHOPPERS: u32 = 24;
/// Longer than leases last.
const PAUSE: Duration = Duration::from_secs(5);

/// Lets these processes stand still, one after the other.
fn zombies(mut fleet: Fleet, seats: &[usize], others_take_over: bool) {
    // A process that stands still says nothing: clients have to lose patience.
    let load = Load { coupons: 10, wait: 1, answer_time: Duration::from_secs(3), ..Load::default() };
    let members = fleet.open(&Start::default(), SHOPPERS);
    let rush = Rush::furnish(fleet.doors(), members, load);
    rush.during(|| {
        for seat in seats.repeat(if is_long() { 10 } else { 1 }) {
            rush.goes_on(10);
            fleet.server(seat).pause();
            std::thread::sleep(PAUSE);
            if others_take_over {
                checkouts_go_on(&fleet, "nobody took over from a process that stands still");
                rush.goes_on(10);
            }
            fleet.server(seat).resume();
        }
        rush.goes_on(20);
    });
    assert_kept(&fleet, &rush, "stood still and woke");
}

// F20
#[test]
fn a_replica_that_wakes_after_its_leases_changes_nothing_twice() {
    let _servers = shared();
    zombies(Fleet::new(Shape::Replicas(2)), &[0, 1], true);
}

// F20, F18: the one that wakes publishes as well, for a moment
#[test]
fn a_replica_over_kafka_that_wakes_after_its_leases_changes_nothing_twice() {
    let _servers = shared();
    zombies(Fleet::on(Shape::Replicas(2), Ground::apart(&[])), &[0, 1], true);
}

// F20
#[test]
fn a_process_apart_that_stood_still_goes_on_where_it_was() {
    let _servers = shared();
    let fleet = Fleet::new(Shape::Split);
    let seats = ["stock", "orders"].map(|service| fleet.with(service));
    zombies(fleet, &seats, false);
}
