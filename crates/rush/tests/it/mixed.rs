use crate::stub_server::{Faults, directory, options, run, start, violated};
use rush::{BaselineScenario, MixedScenario, Scenario, report::RushVerdict};
use std::time::Duration;

#[test]
fn mixed_reads_claims_and_orders_are_checked_separately() {
    let directory = directory("mixed", 100);
    let mixed = MixedScenario { quantity: 30, stock: 20, ..MixedScenario::default() };
    let report = run(&options(&start(Faults::default()), Scenario::Mixed(mixed.clone()), &directory));
    assert_eq!(report.verdict, RushVerdict::Clean);
    let iterations: Vec<u64> =
        report.phases[0].operations.iter().map(|operation| operation.ends.iter().map(|(_, count)| count).sum()).collect();
    assert_eq!(iterations, [200, 100, 100, 100], "60 % reads, 20 % claims, 20 % orders");
    assert_eq!((report.totals.issued, report.totals.paid), (Some(30), Some(20)));

    let faulty = Faults { over_issue: 1, oversell: 1, ..Faults::default() };
    let report = run(&options(&start(faulty), Scenario::Mixed(mixed), &directory));
    let found = violated(&report);
    assert!(found.contains(&"over-issue") && found.contains(&"oversell"), "{found:?}");
}

#[test]
fn the_baseline_counts_only_successful_answers() {
    let directory = directory("floor", 1);
    let baseline = |path: &str| Scenario::Baseline(BaselineScenario { path: path.to_owned(), duration: Duration::from_millis(200) });
    let server = start(Faults::default());
    let report = run(&options(&server, baseline("/hello"), &directory));
    assert_eq!(report.verdict, RushVerdict::Clean);
    assert!(report.phases[0].per_second > 100.0);
    assert_eq!(violated(&run(&options(&server, baseline("/nowhere"), &directory))), ["all-ok"]);
}
