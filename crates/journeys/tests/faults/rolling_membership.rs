//! Processes that join and leave continuously.

use crate::{assert_nothing_lost, wait_for_checkouts};
use journeys::{
    fleet::{Fleet, FleetShape},
    load::{LoadTest, LoadTestOptions, is_long},
    process::StartOptions,
    servers::shared,
};
use kit::ports::Stopwatch;
use std::time::Duration;

const SHOPPERS: u32 = 24;

// F19
#[test]
fn checkouts_continue_while_replicas_come_and_go() {
    let _servers = shared();
    let start = StartOptions::default();
    let (mut fleet, members) = Fleet::new_started(FleetShape::Replicas(3), &start, SHOPPERS);
    let load = LoadTest::prepare(fleet.addresses(), members, LoadTestOptions { coupons: 10, ..LoadTestOptions::default() });
    let time = Duration::from_secs(if is_long() { 300 } else { 8 });
    load.run_during(|| {
        let (running, mut round) = (Stopwatch::start(), 0);
        while running.elapsed() < time {
            let process = 1 + round % 2;
            // Stops and crashes alternate.
            if round % 4 < 2 {
                fleet.stop(process);
            } else {
                fleet.kill(process);
            }
            std::thread::sleep(Duration::from_millis(200));
            fleet.start(process, &start);
            wait_for_checkouts(&fleet, "while processes come and go");
            load.wait_for_answers(5);
            round += 1;
        }
    });
    assert_nothing_lost(&fleet, &load, "came and went");
}
