//! SIGTERM to one process after the other while the others go on.

use crate::assert_kept;
use journeys::{
    fleet::{Fleet, Shape},
    process::Start,
    rush::{Load, Rush},
    servers::shared,
};
use std::sync::atomic::Ordering;

const SHOPPERS: u32 = 36;
/// What runs by the database's clock of what somebody holds who is not there any more.
const NOW: &str = "cast(extract(epoch from clock_timestamp()) * 1000000 as BIGINT)";

/// Leases of these services that run and that none of the processes which are there has.
fn leases_kept(fleet: &Fleet, services: &[&str]) -> Vec<(String, i64)> {
    let running = |service: &&str| {
        let sql = format!("select count(*) from {service}.{service}_leases where until>{NOW}");
        ((*service).to_owned(), fleet.place.ground().number(service, &sql))
    };
    services.iter().map(running).filter(|(_, count)| *count > 0).collect()
}

fn restarted_one_after_the_other(shape: Shape) {
    let _servers = shared();
    let start = Start::default();
    let (mut fleet, members) = Fleet::opened(shape, &start, SHOPPERS);
    let rush = Rush::furnish(fleet.doors(), members, Load::default());
    rush.during(|| {
        for seat in 0..fleet.len() {
            rush.goes_on(10);
            assert_ne!(fleet.stop(seat), Some(200), "readiness goes first");
            if shape == Shape::Split {
                let services = fleet.services(seat);
                assert_eq!(leases_kept(&fleet, &services), [], "process {seat} has ended and left leases behind");
            }
            fleet.start(seat, &start);
        }
        rush.goes_on(20);
    });
    assert_eq!(rush.doors.met().torn.load(Ordering::SeqCst), 0, "an answer was cut off");
    assert_kept(&fleet, &rush, "restarted one after the other");
    for seat in 0..fleet.len() {
        fleet.stop(seat);
    }
    assert_eq!(leases_kept(&fleet, contracts::SERVICES), [], "all have ended and left leases behind");
}

// F31
#[test]
fn a_rolling_restart_of_replicas_fails_nobody() {
    restarted_one_after_the_other(Shape::Replicas(3));
}

// F31
#[test]
fn a_rolling_restart_of_processes_apart_fails_nobody() {
    restarted_one_after_the_other(Shape::Split);
}
