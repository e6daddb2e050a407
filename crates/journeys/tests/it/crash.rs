//! Crashes a process at every point of a checkout: before and after each commit of each operation and each hop, and around each provider
//! call. After the restart every order ends as without the crash. Acknowledged work survives, and a repeat with the same key is one order
//! with the same answer. (F1, F3, F8; row 60.)
//!
//! A point that no scenario reaches fails the test. Points of choreographed checkouts run choreographed.

use journeys::{
    crash::{crash_points::CrashPoint, plan_crashes, run_all, run_with_crash, run_without_faults, scenarios::PreparedMall},
    process::DataDir,
};

// F1, F8, row 60
#[test]
fn a_crash_at_any_point_leaves_nothing_partial() {
    let mall = PreparedMall::build(DataDir::new());
    let fault_free = run_without_faults(&mall, |_| true);
    let (plan, unreached) = plan_crashes(&fault_free);
    assert!(unreached.is_empty(), "no scenario passes {unreached:?}");
    let mut work = Vec::new();
    for (point, scenario) in &plan {
        for name in point.names() {
            let (mall, outcomes) = (&mall, &fault_free.outcomes[&scenario.0]);
            work.push(move || run_with_crash(mall, &name, matches!(point, CrashPoint::Hop(_)), *scenario, 1, outcomes));
        }
    }
    let failures = run_all(work);
    assert!(failures.is_empty(), "{} of the points:\n{}", failures.len(), failures.join("\n"));
}

// F3
#[test]
fn repeated_crashes_during_recovery_end_in_recovery() {
    let mall = PreparedMall::build(DataDir::new());
    let fault_free = run_without_faults(&mall, |_| true);
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
        let scenario = *fault_free.hops.get(hop).unwrap_or_else(|| panic!("no scenario passes {hop}"));
        let (mall, outcomes) = (&mall, &fault_free.outcomes[&scenario.0]);
        work.push(move || run_with_crash(mall, &format!("{hop}.before_commit"), true, scenario, 10, outcomes));
    }
    let failures = run_all(work);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
