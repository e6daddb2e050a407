//! Requests that fail on the way are neither lost nor counted twice.

use crate::stub_server::{Faults, directory, options, run, start, violated};
use rush::{CheckoutScenario, ClaimsScenario, RushError, Scenario, report::RushVerdict};
use std::time::Duration;

#[test]
fn claims_with_a_lost_answer_are_resolved_later() {
    let directory = directory("drops", 200);
    let server = start(Faults { drops_every: 7, ..Faults::default() });
    let report = run(&options(&server, Scenario::Claims(ClaimsScenario { quantity: 150, ..ClaimsScenario::default() }), &directory));
    assert_eq!(report.verdict, RushVerdict::Clean);
    let claim = &report.phases[0];
    assert!(claim.error_counts.unknown >= 20, "{:?}", claim.error_counts);
    assert!(claim.error_counts.follow_ups > 0, "an already-issued after a lost answer causes a follow-up");
    assert_eq!((report.totals.issued, report.totals.unknown_outcomes), (Some(150), 0));
}

#[test]
fn an_order_repeated_with_its_key_is_one_order() {
    let directory = directory("order-drops", 100);
    let server = start(Faults { drops_every: 5, ..Faults::default() });
    let report = run(&options(&server, Scenario::Checkout(CheckoutScenario { stock: 100, ..CheckoutScenario::default() }), &directory));
    assert_eq!(report.verdict, RushVerdict::Clean);
    assert!(report.phases[1].error_counts.unknown > 0);
    assert_eq!(report.totals.paid, Some(100));
}

#[test]
fn shed_requests_are_counted_and_sent_again() {
    let directory = directory("sheds", 100);
    let server = start(Faults { sheds_every: 4, ..Faults::default() });
    let report = run(&options(&server, Scenario::Claims(ClaimsScenario { quantity: 100, ..ClaimsScenario::default() }), &directory));
    assert_eq!(report.verdict, RushVerdict::Clean);
    assert!(report.totals.shed >= 25, "{:?}", report.totals);
    assert_eq!(report.totals.issued, Some(100));
    assert!(report.phases[0].repeated.is_some());
}

#[test]
fn promises_of_a_stopped_server_are_unread() {
    let directory = directory("gone", 20);
    let server = start(Faults::default());
    run(&options(&server, Scenario::Claims(ClaimsScenario { quantity: 5, ..ClaimsScenario::default() }), &directory));
    let mut later = options(&server, Scenario::Verify { acks: directory.join("acks.jsonl") }, &directory);
    // A port without a listener: bound and released.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    later.url = format!("http://{free}");
    later.patience = Duration::from_millis(100);
    let report = run(&later);
    assert_eq!(violated(&report), ["lost-acknowledgements"]);
    assert_eq!(report.phases[0].error_counts.gave_up, 5);
    assert!(report.phases[0].error_counts.not_sent > 0 && report.phases[0].error_counts.unknown == 0);
}

#[test]
fn a_dead_server_does_not_use_up_every_patience() {
    let directory = directory("dead", 200);
    let server = start(Faults::default());
    run(&options(&server, Scenario::Claims(ClaimsScenario { quantity: 200, ..ClaimsScenario::default() }), &directory));
    let mut later = options(&server, Scenario::Verify { acks: directory.join("acks.jsonl") }, &directory);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    later.url = format!("http://{free}");
    later.patience = Duration::from_millis(400);
    later.concurrency = 2;
    let report = run(&later);
    assert_eq!(report.phases[0].error_counts.gave_up, 200);
    assert!(
        report.phases[0].seconds < 8.0,
        "200 shoppers in pairs, each with the full patience, would take 40 s: {}",
        report.phases[0].seconds
    );
}

#[test]
fn too_few_shoppers_are_refused_before_any_request() {
    let directory = directory("few", 3);
    let mut options = options(&start(Faults::default()), Scenario::Claims(ClaimsScenario::default()), &directory);
    options.members = Some(4);
    assert!(matches!(rush::run(&options, &mut Vec::new()), Err(RushError::TooFewShoppers { found: 3, wanted: 4, .. })));
}
