//! Processes that come and go all the time.

use crate::{assert_kept, checkouts_go_on};
use journeys::{
    fleet::{Fleet, Shape},
    process::Start,
    rush::{Load, Rush, is_long},
    servers::shared,
};
use kit::ports::Stopwatch;
use std::time::Duration;

const SHOPPERS: u32 = 24;

// F19
#[test]
fn work_goes_on_while_replicas_come_and_go() {
    let _servers = shared();
    let start = Start::default();
    let (mut fleet, members) = Fleet::opened(Shape::Replicas(3), &start, SHOPPERS);
    let rush = Rush::furnish(fleet.doors(), members, Load { coupons: 10, ..Load::default() });
    let time = Duration::from_secs(if is_long() { 300 } else { 8 });
    rush.during(|| {
        let (lasting, mut round) = (Stopwatch::start(), 0);
        while lasting.elapsed() < time {
            let seat = 1 + round % 2;
            // One leaves as it should, the next one does not.
            if round % 4 < 2 {
                fleet.stop(seat);
            } else {
                fleet.kill(seat);
            }
            std::thread::sleep(Duration::from_millis(200));
            fleet.start(seat, &start);
            checkouts_go_on(&fleet, "while processes come and go");
            rush.goes_on(5);
            round += 1;
        }
    });
    assert_kept(&fleet, &rush, "came and went");
}
