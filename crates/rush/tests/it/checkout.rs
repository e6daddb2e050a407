use crate::world::{Faults, directory, options, run, start, violated};
use rush::{Checkout, Report, Scenario, report::Verdict};
use std::time::Duration;

const BUYERS: usize = 120;

fn play(name: &str, faults: Faults) -> Report {
    let checkout = Checkout { stock: 20, ..Checkout::default() };
    let directory = directory(name, BUYERS);
    run(&options(&start(faults), Scenario::Checkout(checkout), &directory))
}

#[test]
fn an_honest_server_sells_exactly_its_stock() {
    let report = play("checkout-honest", Faults::default());
    assert_eq!(report.verdict, Verdict::Clean);
    let totals = &report.totals;
    assert_eq!((totals.issued, totals.paid, totals.out_of_stock, totals.oversold), (Some(120), Some(20), Some(100), Some(0)));
    assert_eq!(totals.lost_acknowledgements, Some(0));
}

#[test]
fn an_oversell_is_found() {
    let report = play("checkout-over", Faults { oversell: 3, ..Faults::default() });
    assert_eq!(report.totals.oversold, Some(3));
    assert_eq!(violated(&report), ["oversell", "stock-books"]);
}

#[test]
fn a_unit_that_stays_held_is_found() {
    let directory = directory("checkout-held", BUYERS);
    let server = start(Faults { keeps_one_held: true, ..Faults::default() });
    let mut options = options(&server, Scenario::Checkout(Checkout { stock: 20, ..Checkout::default() }), &directory);
    options.patience = Duration::from_millis(300);
    let report = run(&options);
    assert_eq!(violated(&report), ["stock-books"]);
}

#[test]
fn a_sale_that_stops_early_is_found() {
    let report = play("checkout-under", Faults { oversell: -1, ..Faults::default() });
    assert_eq!(violated(&report), ["exactly-sold"]);
}
