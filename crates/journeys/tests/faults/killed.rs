//! kill -9 at random of random processes under load.

use crate::assert_kept;
use journeys::{
    fleet::{Fleet, Shape},
    ground::Ground,
    process::Start,
    rush::{Load, Rush, is_long},
    servers::shared,
};
use kit::ports::{Stopwatch, random_bytes};
use std::{sync::atomic::Ordering, time::Duration};

const SHOPPERS: u32 = 36;

fn any(below: usize) -> usize {
    usize::from(u16::from_le_bytes(random_bytes())) % below
}

fn killed_at_random(mut fleet: Fleet, start: &Start, load: Load) {
    let members = fleet.open(start, SHOPPERS);
    let rush = Rush::furnish(fleet.doors(), members, load);
    let (kills, time) = if is_long() { (300, Duration::from_secs(600)) } else { (8, Duration::ZERO) };
    rush.during(|| {
        let (lasting, mut killed) = (Stopwatch::start(), 0);
        while killed < kills || lasting.elapsed() < time {
            std::thread::sleep(Duration::from_millis(50 + any(400) as u64));
            let seat = any(fleet.len());
            fleet.kill(seat);
            killed += 1;
            // Sometimes a second one goes before the first is back.
            if killed % 3 == 0 {
                fleet.kill((seat + 1) % fleet.len());
                killed += 1;
            }
            fleet.start_all(start);
            if killed % 4 == 0 {
                fleet.place.assert_in_order("right after a restart");
            }
        }
        rush.goes_on(20);
    });
    assert!(rush.doors.met().broken.load(Ordering::SeqCst) > 0, "the kills hit nothing: there was no load");
    assert_kept(&fleet, &rush, "killed at random");
}

// F2
#[test]
fn what_was_acknowledged_outlives_kill_9_of_replicas() {
    let _servers = shared();
    killed_at_random(Fleet::new(Shape::Replicas(3)), &Start::default(), Load::default());
}

// F2, C25: claims are taken down by one process and settled by another
#[test]
fn claims_that_were_taken_down_outlive_kill_9_of_replicas() {
    let _servers = shared();
    let start = Start { claim_strategy: Some("redis"), ..Start::default() };
    let fleet = Fleet::on(Shape::Replicas(3), Ground::apart(&[]));
    killed_at_random(fleet, &start, Load { claims_later: true, ..Load::default() });
}

// F2
#[test]
fn what_was_acknowledged_outlives_kill_9_of_processes_apart() {
    let _servers = shared();
    killed_at_random(Fleet::new(Shape::Split), &Start::default(), Load::default());
}

// F2
#[test]
fn what_was_acknowledged_outlives_kill_9_of_processes_apart_with_choreographed_checkouts() {
    let _servers = shared();
    killed_at_random(Fleet::new(Shape::Split), &Start { choreographed: true, ..Start::default() }, Load::default());
}
