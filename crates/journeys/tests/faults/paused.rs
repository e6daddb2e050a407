//! Processes that are paused past the end of their leases, and resume after others took over.

use crate::{assert_nothing_lost, wait_for_checkouts};
use journeys::{
    backends::Backends,
    fleet::{Fleet, FleetShape},
    load::{LoadTest, LoadTestOptions, is_long},
    process::StartOptions,
    servers::shared,
};
use std::time::Duration;

const SHOPPERS: u32 = 24;
/// Longer than a lease.
const PAUSE: Duration = Duration::from_secs(5);

/// Pauses these processes one after the other.
fn pause_past_leases(mut fleet: Fleet, processes: &[usize], is_taken_over: bool) {
    // A paused process never answers, so clients need a short time limit.
    let options = LoadTestOptions { coupons: 10, wait: 1, answer_timeout: Duration::from_secs(3), ..LoadTestOptions::default() };
    let members = fleet.seed_and_start(&StartOptions::default(), SHOPPERS);
    let load = LoadTest::prepare(fleet.addresses(), members, options);
    load.run_during(|| {
        for process in processes.repeat(if is_long() { 10 } else { 1 }) {
            load.wait_for_answers(10);
            fleet.server(process).pause();
            std::thread::sleep(PAUSE);
            if is_taken_over {
                wait_for_checkouts(&fleet, "no process took over from the paused one");
                load.wait_for_answers(10);
            }
            fleet.server(process).resume();
        }
        load.wait_for_answers(20);
    });
    assert_nothing_lost(&fleet, &load, "paused and resumed");
}

// F20
#[test]
fn a_resumed_replica_repeats_nothing() {
    let _servers = shared();
    pause_past_leases(Fleet::new(FleetShape::Replicas(2)), &[0, 1], true);
}

// F20, F18: the resumed replica also publishes for a moment
#[test]
fn a_resumed_replica_over_kafka_repeats_nothing() {
    let _servers = shared();
    pause_past_leases(Fleet::on_backends(FleetShape::Replicas(2), Backends::split(&[])), &[0, 1], true);
}

// F20
#[test]
fn a_paused_split_process_resumes() {
    let _servers = shared();
    let fleet = Fleet::new(FleetShape::Split);
    let processes = ["stock", "orders"].map(|service| fleet.process_of(service));
    pause_past_leases(fleet, &processes, false);
}
