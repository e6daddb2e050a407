//! Processes that die where messages are numbered and published, and where a checkout's transactions are committed.

use crate::assert_nothing_lost;
use journeys::{
    backends::Backends,
    client::TIME_LIMIT,
    crash::{
        ScenarioMode, plan_crashes, run_all, run_with_crash, run_without_faults,
        scenarios::{CrashScenario, PreparedMall},
    },
    fleet::{Fleet, FleetShape},
    load::{LoadOptions, LoadTest, is_long},
    process::{DataDir, StartOptions},
    servers::shared,
};

const SHOPPERS: u32 = 24;

const STREAMS: [&str; 8] = ["orders", "stock", "coupons", "wallet", "payments", "catalog", "stores", "accounts"];
const STREAM_POINTS: [&str; 5] =
    ["sequencer.before_numbering", "sequencer.after_numbering", "relay.before_publish", "relay.after_publish", "relay.after_mark"];

/// Each stream once, and with them each point; all of both in a long run.
fn sampled_points() -> Vec<(&'static str, &'static str)> {
    let all = STREAMS
        .iter()
        .enumerate()
        .flat_map(|(n, service)| STREAM_POINTS.iter().enumerate().map(move |(m, point)| (n, m, *service, *point)));
    all.filter(|(n, m, ..)| is_long() || n % STREAM_POINTS.len() == *m).map(|(.., service, point)| (service, point)).collect()
}

/// The process with this service dies when it comes to a point for the second time, which may be while it starts; and is there again.
fn crash_and_restart(fleet: &mut Fleet, service: &str, point: &str, start: &StartOptions) {
    let process = fleet.process_of(service);
    fleet.kill(process);
    let armed = StartOptions { crash_point: Some(format!("{point}:2")), ..start.clone() };
    if fleet.try_start(process, &armed) {
        assert!(fleet.has_died_within(process, TIME_LIMIT), "nothing passes {point}");
    }
    fleet.start(process, start);
}

// F1, F18
#[test]
fn a_crash_in_sequencer_or_relay_loses_nothing() {
    let _servers = shared();
    let start = StartOptions::default();
    let (mut fleet, members) = Fleet::new_started(FleetShape::Split, &start, SHOPPERS);
    let load = LoadTest::prepare(fleet.addresses(), members, LoadOptions { coupons: 10, ..LoadOptions::default() });
    load.run_during(|| {
        for (service, point) in sampled_points() {
            crash_and_restart(&mut fleet, service, &format!("{service}.{point}"), &start);
            load.wait_for_answers(10);
        }
    });
    assert_nothing_lost(&fleet, &load, "died while numbering and publishing");
}

/// Where a claim is that is taken down: not written yet, written and not answered, settled and not committed, committed.
const CLAIM_POINTS: [&str; 4] = [
    "coupons.claims.before_write",
    "coupons.claims.after_write",
    "coupons.coupon.claim.before_commit",
    "coupons.coupon.claim.after_commit",
];

// F1, F8, C25
#[test]
fn a_crash_in_a_deferred_claim_loses_and_repeats_nothing() {
    let _servers = shared();
    let start = StartOptions { claim_strategy: Some("redis"), ..StartOptions::default() };
    let (mut fleet, members) = Fleet::new_started(FleetShape::Split, &start, SHOPPERS);
    let load =
        LoadTest::prepare(fleet.addresses(), members, LoadOptions { coupons: 10, is_claim_deferred: true, ..LoadOptions::default() });
    load.run_during(|| {
        for point in CLAIM_POINTS.repeat(if is_long() { 10 } else { 1 }) {
            crash_and_restart(&mut fleet, "coupons", point, &start);
            load.wait_for_answers(10);
        }
    });
    assert_nothing_lost(&fleet, &load, "died between claims and their settling");
}

/// Points of a checkout; a long run has all there are.
const CHECKOUT_POINTS: [(&str, ScenarioMode); 8] = [
    ("coupons.claim.after_commit", (CrashScenario::Everything, false)),
    ("orders.create.after_commit", (CrashScenario::Everything, false)),
    ("orders.pay.before_commit", (CrashScenario::PaidLater, false)),
    ("stock.stock.reserve.before_commit", (CrashScenario::Everything, false)),
    ("wallet.wallet.debit.after_commit", (CrashScenario::Everything, false)),
    ("orders.payment.approved.before_commit", (CrashScenario::Everything, false)),
    ("coupons.stock.slip.after_commit", (CrashScenario::Everything, true)),
    ("payments.provider.after_call", (CrashScenario::Provider, false)),
];

// F1, F8
#[test]
fn a_crash_in_a_checkout_on_postgresql_leaves_nothing_partial() {
    let _servers = shared();
    // How plays end is learned on SQLite: it is the same everywhere.
    let fault_free = run_without_faults(&PreparedMall::build(DataDir::new()), |scenario| {
        is_long() || CHECKOUT_POINTS.iter().any(|(_, (sampled, _))| *sampled == scenario)
    });
    let points: Vec<(String, ScenarioMode)> = if is_long() {
        let (plan, _) = plan_crashes(&fault_free);
        plan.iter().flat_map(|(point, scenario)| point.names().into_iter().map(|name| (name, *scenario))).collect()
    } else {
        CHECKOUT_POINTS.iter().map(|(name, scenario)| ((*name).to_owned(), *scenario)).collect()
    };
    let mall = PreparedMall::build(DataDir::on_backends(Backends::one_database()));
    let (mall, fault_free) = (&mall, &fault_free);
    let work = points
        .into_iter()
        .map(|(name, scenario)| move || run_with_crash(mall, &name, true, scenario, 1, &fault_free.outcomes[&scenario.0]))
        .collect();
    let failures = run_all(work);
    assert!(failures.is_empty(), "{} of the points:\n{}", failures.len(), failures.join("\n"));
}
