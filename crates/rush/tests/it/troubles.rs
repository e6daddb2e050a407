//! What a client meets in bad weather must neither be lost nor counted twice.

use crate::world::{Faults, directory, options, run, start, violated};
use rush::{Checkout, Claims, RushError, Scenario, report::Verdict};
use std::time::Duration;

#[test]
fn answers_that_break_off_are_unknown_and_asked_after() {
    let directory = directory("drops", 200);
    let server = start(Faults { drops_every: 7, ..Faults::default() });
    let report = run(&options(&server, Scenario::Claims(Claims { quantity: 150, ..Claims::default() }), &directory));
    assert_eq!(report.verdict, Verdict::Clean);
    let claim = &report.phases[0];
    assert!(claim.troubles.unknown >= 20, "{:?}", claim.troubles);
    assert!(claim.troubles.follow_ups > 0, "an already-issued after a lost answer is asked after");
    assert_eq!((report.totals.issued, report.totals.unknown_outcomes), (Some(150), 0));
}

#[test]
fn an_order_repeated_with_its_key_is_one_order() {
    let directory = directory("order-drops", 100);
    let server = start(Faults { drops_every: 5, ..Faults::default() });
    let report = run(&options(&server, Scenario::Checkout(Checkout { stock: 100, ..Checkout::default() }), &directory));
    assert_eq!(report.verdict, Verdict::Clean);
    assert!(report.phases[1].troubles.unknown > 0);
    assert_eq!(report.totals.paid, Some(100));
}

#[test]
fn shed_requests_are_counted_apart_and_sent_again() {
    let directory = directory("sheds", 100);
    let server = start(Faults { sheds_every: 4, ..Faults::default() });
    let report = run(&options(&server, Scenario::Claims(Claims { quantity: 100, ..Claims::default() }), &directory));
    assert_eq!(report.verdict, Verdict::Clean);
    assert!(report.totals.shed >= 25, "{:?}", report.totals);
    assert_eq!(report.totals.issued, Some(100));
    assert!(report.phases[0].repeated.is_some());
}

#[test]
fn a_server_that_is_gone_leaves_unread_promises() {
    let directory = directory("gone", 20);
    let server = start(Faults::default());
    run(&options(&server, Scenario::Claims(Claims { quantity: 5, ..Claims::default() }), &directory));
    let mut later = options(&server, Scenario::Verify { acks: directory.join("acks.jsonl") }, &directory);
    // A port nobody listens on: bound and let go.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    later.url = format!("http://{free}");
    later.patience = Duration::from_millis(100);
    let report = run(&later);
    assert_eq!(violated(&report), ["lost-acknowledgements"]);
    assert_eq!(report.phases[0].troubles.gave_up, 5);
    assert!(report.phases[0].troubles.not_sent > 0 && report.phases[0].troubles.unknown == 0);
}

#[test]
fn a_dead_server_does_not_cost_every_shopper_all_patience() {
    let directory = directory("dead", 200);
    let server = start(Faults::default());
    run(&options(&server, Scenario::Claims(Claims { quantity: 200, ..Claims::default() }), &directory));
    let mut later = options(&server, Scenario::Verify { acks: directory.join("acks.jsonl") }, &directory);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    later.url = format!("http://{free}");
    later.patience = Duration::from_millis(400);
    later.concurrency = 2;
    let report = run(&later);
    assert_eq!(report.phases[0].troubles.gave_up, 200);
    assert!(
        report.phases[0].seconds < 8.0,
        "200 shoppers in pairs, each with all its patience, would take 40 s: {}",
        report.phases[0].seconds
    );
}

#[test]
fn too_few_shoppers_are_refused_before_anything_is_sent() {
    let directory = directory("few", 3);
    let mut options = options(&start(Faults::default()), Scenario::Claims(Claims::default()), &directory);
    options.members = Some(4);
    assert!(matches!(rush::run(&options, &mut Vec::new()), Err(RushError::TooFewShoppers { found: 3, wanted: 4, .. })));
}
