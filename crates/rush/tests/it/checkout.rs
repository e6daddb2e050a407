use crate::stub_server::{Faults, directory, options, run, start, violated};
use rush::{CheckoutScenario, RushReport, Scenario, report::RushVerdict};
use std::time::Duration;

const BUYERS: usize = 120;

fn run_checkout(name: &str, faults: Faults) -> RushReport {
    let checkout = CheckoutScenario { stock: 20, ..CheckoutScenario::default() };
    let directory = directory(name, BUYERS);
    run(&options(&start(faults), Scenario::Checkout(checkout), &directory))
}

#[test]
fn a_correct_server_sells_exactly_its_stock() {
    let report = run_checkout("checkout-honest", Faults::default());
    assert_eq!(report.verdict, RushVerdict::Clean);
    let totals = &report.totals;
    assert_eq!((totals.issued, totals.paid, totals.out_of_stock, totals.oversold), (Some(120), Some(20), Some(100), Some(0)));
    assert_eq!(totals.lost_acknowledgements, Some(0));
}

#[test]
fn an_oversell_is_found() {
    let report = run_checkout("checkout-over", Faults { oversell: 3, ..Faults::default() });
    assert_eq!(report.totals.oversold, Some(3));
    assert_eq!(violated(&report), ["oversell", "stock-books"]);
}

#[test]
fn a_unit_that_stays_held_is_found() {
    let directory = directory("checkout-held", BUYERS);
    let server = start(Faults { leaves_one_held: true, ..Faults::default() });
    let mut options = options(&server, Scenario::Checkout(CheckoutScenario { stock: 20, ..CheckoutScenario::default() }), &directory);
    options.patience = Duration::from_millis(300);
    let report = run(&options);
    assert_eq!(violated(&report), ["stock-books"]);
}

#[test]
fn a_sale_that_stops_early_is_found() {
    let report = run_checkout("checkout-under", Faults { oversell: -1, ..Faults::default() });
    assert_eq!(violated(&report), ["exactly-sold"]);
}
