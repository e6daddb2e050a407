//! kill -9 of random processes at random times under load.

use crate::assert_nothing_lost;
use journeys::{
    backends::Backends,
    fleet::{Fleet, FleetShape},
    load::{LoadTest, LoadTestOptions, is_long},
    process::StartOptions,
    servers::shared,
};
use kit::ports::{Stopwatch, random_bytes};
use std::{sync::atomic::Ordering, time::Duration};

const SHOPPERS: u32 = 36;

fn random_below(below: usize) -> usize {
    usize::from(u16::from_le_bytes(random_bytes())) % below
}

fn kill_at_random(mut fleet: Fleet, start: &StartOptions, options: LoadTestOptions) {
    let members = fleet.seed_and_start(start, SHOPPERS);
    let load = LoadTest::prepare(fleet.addresses(), members, options);
    let (kills, time) = if is_long() { (300, Duration::from_secs(600)) } else { (8, Duration::ZERO) };
    load.run_during(|| {
        let (running, mut killed) = (Stopwatch::start(), 0);
        while killed < kills || running.elapsed() < time {
            std::thread::sleep(Duration::from_millis(50 + random_below(400) as u64));
            let process = random_below(fleet.len());
            fleet.kill(process);
            killed += 1;
            // Every third time, kills a second process before the first is back.
            if killed % 3 == 0 {
                fleet.kill((process + 1) % fleet.len());
                killed += 1;
            }
            fleet.start_all(start);
            if killed % 4 == 0 {
                fleet.data_dir.assert_no_violations("right after a restart");
            }
        }
        load.wait_for_answers(20);
    });
    assert!(load.addresses.counts().connection_errors.load(Ordering::SeqCst) > 0, "the kills hit nothing: there was no load");
    assert_nothing_lost(&fleet, &load, "killed at random");
}

// F2
#[test]
fn acknowledged_work_survives_kill_9_of_replicas() {
    let _servers = shared();
    kill_at_random(Fleet::new(FleetShape::Replicas(3)), &StartOptions::default(), LoadTestOptions::default());
}

// F2, C25: one process accepts the deferred claims, another settles them
#[test]
fn deferred_claims_survive_kill_9_of_replicas() {
    let _servers = shared();
    let start = StartOptions { claim_strategy: Some("redis"), ..StartOptions::default() };
    let fleet = Fleet::on_backends(FleetShape::Replicas(3), Backends::split(&[]));
    kill_at_random(fleet, &start, LoadTestOptions { is_claim_deferred: true, ..LoadTestOptions::default() });
}

// F2
#[test]
fn acknowledged_work_survives_kill_9_of_split_processes() {
    let _servers = shared();
    kill_at_random(Fleet::new(FleetShape::Split), &StartOptions::default(), LoadTestOptions::default());
}

// F2
#[test]
fn acknowledged_choreographies_survive_kill_9_when_split() {
    let _servers = shared();
    kill_at_random(
        Fleet::new(FleetShape::Split),
        &StartOptions { choreographed: true, ..StartOptions::default() },
        LoadTestOptions::default(),
    );
}
