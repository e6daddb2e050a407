//! The process dies at every point where a checkout can be torn apart: before and after each commit of each operation, of each hop, and
//! around each call of the provider. Started again, every order comes to the end it would have had, what was acknowledged is there, and a
//! repeat under the same key is one order with the same answer. (F1, F3, F8; row 60.)
//!
//! A point that no play passes fails the test. What only choreographed checkouts pass is played choreographed.

use journeys::{
    crash::{all_of, crash, plan, plays::Mall, points::Point, untroubled},
    process::Place,
};

// F1, F8, row 60
#[test]
fn a_process_that_dies_anywhere_leaves_nothing_half_done() {
    let mall = Mall::furnished(Place::new());
    let untroubled = untroubled(&mall, |_| true);
    let (plan, unplayed) = plan(&untroubled);
    assert!(unplayed.is_empty(), "no play passes {unplayed:?}");
    let mut work = Vec::new();
    for (point, play) in &plan {
        for name in point.names() {
            let (mall, ends) = (&mall, &untroubled.ends[&play.0]);
            work.push(move || crash(mall, &name, matches!(point, Point::Hop(_)), *play, 1, ends));
        }
    }
    let failures = all_of(work);
    assert!(failures.is_empty(), "{} of the points:\n{}", failures.len(), failures.join("\n"));
}

// F3
#[test]
fn a_process_that_dies_again_and_again_while_it_recovers_gets_there_in_the_end() {
    let mall = Mall::furnished(Place::new());
    let untroubled = untroubled(&mall, |_| true);
    let hops = [
        "stock.stock.reserve",
        "orders.coupon.held",
        "wallet.wallet.debit",
        "orders.payment.approved",
        "coupons.coupon.use",
        "payments.payment.cancel",
        "coupons.stock.slip",
        "payments.stock.slip",
        "orders.payments.slip",
    ];
    let mut work = Vec::new();
    for hop in hops {
        let play = *untroubled.hops.get(hop).unwrap_or_else(|| panic!("no play passes {hop}"));
        let (mall, ends) = (&mall, &untroubled.ends[&play.0]);
        work.push(move || crash(mall, &format!("{hop}.before_commit"), true, play, 10, ends));
    }
    let failures = all_of(work);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
