//! The product's load driver against three replicas. It creates the mall, reads back every promise, checks the totals, and runs the audit.

use journeys::{
    process::binary,
    servers::{BackendServer, shared},
};
use serde_json::{Value, json};
use std::{path::Path, process::Command};
use testkit::TempFolder;

/// Runs a scenario over three processes. Returns the totals of its report.
fn run_driver(scenario: &[&str]) -> Value {
    let folder = TempFolder::new();
    let database = BackendServer::Postgres.address();
    let mut command = Command::new(binary());
    command.arg("rush").args(scenario).args(["--replicas", "3", "--concurrency", "128", "--no-floor", "--database-url", &database]);
    let output = command.arg("--out").arg(folder.path()).output().expect("the binary is there");
    let output_text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output_text}\n{}", String::from_utf8_lossy(&output.stderr));
    let report = read(&folder.path().join("report.json"));
    assert_eq!(report["verdict"], "clean", "{output_text}");
    let build = report["profile"]["name"].as_str().expect("the report names its build");
    assert!(output_text.contains(&format!("\n{build} build, ")), "{output_text}");
    for rule in ["lost_acknowledgements", "unknown_outcomes", "server_errors"] {
        assert_eq!(report["totals"][rule], 0, "{rule}: {output_text}");
    }
    report["totals"].clone()
}

fn read(file: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file).expect("the report is there")).expect("it is JSON")
}

// I-C1, C6, C25
#[test]
fn ten_thousand_claims_for_a_hundred_coupons() {
    let _servers = shared();
    let redis = BackendServer::Redis.address();
    for strategy in [&["--strategy", "group_commit"][..], &["--strategy", "redis", "--redis", &redis]] {
        let totals = run_driver(&[&["claims", "--members", "10000", "--quantity", "100"], strategy].concat());
        assert_eq!((&totals["issued"], &totals["over_issued"]), (&json!(100), &json!(0)), "{strategy:?}");
    }
}

// I-S1, S1
#[test]
fn two_thousand_orders_for_a_hundred_units() {
    let _servers = shared();
    let totals = run_driver(&["checkout", "--members", "2000", "--stock", "100"]);
    assert_eq!((&totals["paid"], &totals["oversold"], &totals["out_of_stock"]), (&json!(100), &json!(0), &json!(1_900)));
}
