//! Fault tests of the production shapes, with real processes on real servers. Acknowledged work survives, repeats get the same answers,
//! the audit is clean, and the mall rests within half a minute. `ONRUSH_LONG=1` runs for minutes.

mod crash_points;
mod import_to_split;
mod killed;
mod load_driver;
mod long_transactions;
mod lost_answers;
mod paused;
mod rolling;
mod rolling_membership;
mod servers;
mod services_command;

use journeys::{client::TIME_LIMIT, fleet::Fleet, load::LoadTest};
use kit::ports::Stopwatch;
use std::time::Duration;

/// Number of paid orders. Each paid checkout has passed every service.
fn paid(fleet: &Fleet) -> i64 {
    fleet.data_dir.backends().number("orders", "select count(*) from orders.orders_orders where state='PAID'")
}

/// Waits until one more checkout is paid.
fn wait_for_checkouts(fleet: &Fleet, context: &str) {
    let (time, before) = (Stopwatch::start(), paid(fleet));
    while paid(fleet) <= before {
        assert!(time.elapsed() < TIME_LIMIT, "no checkout comes to its end: {context}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// After the last fault: the mall rests, the audit is clean, all answers repeat, and the repeats changed nothing.
#[track_caller]
fn assert_nothing_lost(fleet: &Fleet, load: &LoadTest, context: &str) {
    fleet.data_dir.assert_clean(context);
    load.verify();
    fleet.data_dir.assert_clean(&format!("{context}, after all repeats"));
}
