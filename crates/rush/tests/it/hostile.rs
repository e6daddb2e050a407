use crate::stub_server::{Faults, directory, options, run, start, violated};
use rush::{HostileScenario, Scenario, report::RushVerdict};
use serde_json::Value;

fn hostile() -> Scenario {
    Scenario::Hostile(HostileScenario { products: 30, coupons: 2, searchers: 4, idle: 3 })
}

// H1
#[test]
fn claims_beside_hostile_clients_are_compared_and_checked() {
    let directory = directory("hostile", 100);
    let report = run(&options(&start(Faults::default()), hostile(), &directory));
    assert_eq!(report.verdict, RushVerdict::Clean);
    let phase = |name: &str| report.phases.iter().find(|phase| phase.name == name).unwrap();
    let (alone, beside) = (phase("claim alone"), phase("claim beside"));
    assert_eq!((alone.iterations, beside.iterations), (200, 200), "each of 100 shoppers claims two coupons twice");
    assert_eq!((report.totals.issued, report.totals.over_issued, report.totals.lost_acknowledgements), (Some(400), Some(0), Some(0)));
    assert_eq!(phase("add products").iterations, 30);
    assert_eq!(report.claims_ratio, Some(beside.per_second / alone.per_second));

    let ends = |name: &str| &beside.operations.iter().find(|operation| operation.name == name).unwrap().ends;
    assert!(ends("search")[0].0 == "ok" && ends("search")[0].1 > 10, "{:?}", ends("search"));
    assert_eq!(ends("idle"), &[("ok".to_owned(), 3)]);
    assert_eq!((ends("sign up")[0].0.as_str(), ends("order without paying")[0].0.as_str()), ("weak-password", "ok"));
    assert!(ends("refused").iter().any(|(label, _)| label == "unauthenticated"), "{:?}", ends("refused"));
    assert_eq!(alone.operations.len(), 1, "alone means alone");

    let json: Value = serde_json::from_str(&std::fs::read_to_string(directory.join("report.json")).unwrap()).unwrap();
    assert_eq!(json["claims_ratio"].as_f64(), report.claims_ratio);
    assert!(std::fs::read_to_string(directory.join("report.html")).unwrap().contains("claims beside hostile clients"));
}

#[test]
fn a_repeated_number_beside_hostile_clients_is_found() {
    let directory = directory("hostile-numbers", 50);
    let report = run(&options(&start(Faults { same_number: true, ..Faults::default() }), hostile(), &directory));
    assert!(violated(&report).contains(&"numbers"), "{:?}", report.checks);
}
