use crate::world::{Faults, directory, options, run, start, violated};
use rush::{Floor, Mixed, Scenario, report::Verdict};
use std::time::Duration;

#[test]
fn reads_claims_and_orders_mix_and_are_judged_apart() {
    let directory = directory("mixed", 100);
    let mixed = Mixed { quantity: 30, stock: 20, ..Mixed::default() };
    let report = run(&options(&start(Faults::default()), Scenario::Mixed(mixed.clone()), &directory));
    assert_eq!(report.verdict, Verdict::Clean);
    let turns: Vec<u64> = report.phases[0].operations.iter().map(|operation| operation.ends.iter().map(|(_, count)| count).sum()).collect();
    assert_eq!(turns, [200, 100, 100, 100], "60 % reads, 20 % claims, 20 % orders");
    assert_eq!((report.totals.issued, report.totals.paid), (Some(30), Some(20)));

    let faulty = Faults { over_issue: 1, oversell: 1, ..Faults::default() };
    let report = run(&options(&start(faulty), Scenario::Mixed(mixed), &directory));
    let found = violated(&report);
    assert!(found.contains(&"over-issue") && found.contains(&"oversell"), "{found:?}");
}

#[test]
fn the_floor_counts_only_good_answers() {
    let directory = directory("floor", 1);
    let floor = |path: &str| Scenario::Floor(Floor { path: path.to_owned(), duration: Duration::from_millis(200) });
    let server = start(Faults::default());
    let report = run(&options(&server, floor("/hello"), &directory));
    assert_eq!(report.verdict, Verdict::Clean);
    assert!(report.phases[0].per_second > 100.0);
    assert_eq!(violated(&run(&options(&server, floor("/nowhere"), &directory))), ["all-ok"]);
}
