//! Faults of the production shapes, done to real processes on real servers: what was acknowledged is still there, repeats get the answers
//! they got, the audit is clean, and everything is at rest within half a minute. `ONRUSH_LONG=1` goes on for minutes.

mod comings;
mod crowds;
mod delivery;
mod killed;
mod lost_answers;
mod moved;
mod paused;
mod points;
mod rolling;
mod servers;
mod whereabouts;

use journeys::{client::PATIENCE, fleet::Fleet, rush::Rush};
use kit::ports::Stopwatch;
use std::time::Duration;

/// Orders that are paid: their checkouts have come through every service.
fn paid(fleet: &Fleet) -> i64 {
    fleet.place.ground().number("orders", "select count(*) from orders.orders_orders where state='PAID'")
}

/// Waits until checkouts come to their end again.
fn checkouts_go_on(fleet: &Fleet, story: &str) {
    let (time, before) = (Stopwatch::start(), paid(fleet));
    while paid(fleet) <= before {
        assert!(time.elapsed() < PATIENCE, "no checkout comes to its end: {story}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// After the last fault: at rest, in order, everybody's answers hold, and asking again changed nothing.
#[track_caller]
fn assert_kept(fleet: &Fleet, rush: &Rush, story: &str) {
    fleet.place.assert_clean(story);
    rush.verify();
    fleet.place.assert_clean(&format!("{story}, asked again"));
}
