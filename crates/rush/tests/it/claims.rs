use crate::stub_server::{Faults, directory, options, run, start, violated};
use rush::{ClaimsScenario, RushReport, Scenario, report::RushVerdict};
use std::time::Duration;

const MEMBERS: usize = 200;

fn run_claims(name: &str, claims: ClaimsScenario, faults: Faults) -> RushReport {
    let directory = directory(name, MEMBERS);
    run(&options(&start(faults), Scenario::Claims(claims), &directory))
}

fn fifty() -> ClaimsScenario {
    ClaimsScenario { quantity: 50, ..ClaimsScenario::default() }
}

#[test]
fn a_correct_server_is_clean() {
    let report = run_claims("claims-honest", ClaimsScenario { ask_again: Duration::from_millis(100), ..fifty() }, Faults::default());
    assert_eq!(report.verdict, RushVerdict::Clean);
    let totals = &report.totals;
    assert_eq!((totals.issued, totals.over_issued, totals.lost_acknowledgements), (Some(50), Some(0), Some(0)));
    assert_eq!(report.phases[0].ends(), [("sold-out".to_owned(), 150), ("issued".to_owned(), 50)]);
    assert_eq!(report.phases[0].iterations, 200);
    assert!(report.phases[1].iterations > 0 && report.phases[1].name == "ask again");
    assert!(report.phases[0].latency.p50_us > 0 && report.phases[0].latency.max_us >= report.phases[0].latency.p999_us);
}

// C25
#[test]
fn deferred_claims_count_once_they_are_settled() {
    for defers_claims in [true, false] {
        let claims = ClaimsScenario { respond_async: true, strategy: Some("redis".into()), ..fifty() };
        let report = run_claims("claims-later", claims, Faults { defers_claims, ..Faults::default() });
        assert_eq!(report.verdict, RushVerdict::Clean);
        assert_eq!((report.totals.issued, report.totals.lost_acknowledgements), (Some(50), Some(0)));
        assert_eq!(report.phases[0].ends(), [("sold-out".to_owned(), 150), ("issued".to_owned(), 50)]);
        let follow_ups = if defers_claims { 600 } else { 0 };
        assert_eq!(report.phases[0].error_counts.follow_ups, follow_ups, "each is polled three times, or was settled at once");
    }
}

#[test]
fn a_waitlist_hands_out_tickets_in_order() {
    let report = run_claims("claims-waitlist", ClaimsScenario { waitlist: true, ..fifty() }, Faults::default());
    assert_eq!(report.verdict, RushVerdict::Clean);
    assert_eq!((report.totals.issued, report.totals.waiting), (Some(50), Some(150)));
    assert!(report.checks.iter().any(|check| check.id == "tickets"));
}

#[test]
fn an_over_issue_is_found() {
    let report = run_claims("claims-over", fifty(), Faults { over_issue: 2, ..Faults::default() });
    assert_eq!(report.totals.over_issued, Some(2));
    assert!(violated(&report).contains(&"over-issue"), "{:?}", report.checks);
}

#[test]
fn a_repeated_number_is_found() {
    let report = run_claims("claims-numbers", fifty(), Faults { same_number: true, ..Faults::default() });
    assert_eq!(violated(&report), ["numbers"]);
}

#[test]
fn a_refusal_while_coupons_are_left_is_found() {
    let report = run_claims("claims-undersell", fifty(), Faults { undersell_every: 10, ..Faults::default() });
    // Claims begun after a wrong refusal still got a coupon.
    assert_eq!(violated(&report), ["first-come"]);
}

#[test]
fn a_forgotten_claim_is_found_at_once_and_by_verify() {
    let faults = Faults { forgets_every: 10, ..Faults::default() };
    let (directory, server) = (directory("claims-forgets", MEMBERS), start(faults));
    let report = run(&options(&server, Scenario::Claims(fifty()), &directory));
    assert_eq!(violated(&report), ["lost-acknowledgements"]);
    assert_eq!(report.totals.lost_acknowledgements, Some(5));

    let acks = directory.join("acks.jsonl");
    let later = run(&options(&server, Scenario::Verify { acks: acks.clone() }, &directory));
    assert_eq!(violated(&later), ["lost-acknowledgements"]);

    let correct = start(Faults::default());
    let elsewhere = run(&options(&correct, Scenario::Verify { acks }, &directory));
    assert_eq!(elsewhere.totals.lost_acknowledgements, Some(50), "a server without data has lost everything");
}

#[test]
fn failures_of_the_server_are_violations() {
    let report = run_claims("claims-500", fifty(), Faults { fails_every: 20, ..Faults::default() });
    assert_eq!(report.totals.server_errors, 10);
    assert!(violated(&report).contains(&"server-errors"), "{:?}", report.checks);
}
