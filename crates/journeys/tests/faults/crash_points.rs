//! Crashes while messages are numbered and published, and while a checkout's transactions commit.

use crate::assert_nothing_lost;
use journeys::{
    backends::Backends,
    client::TIME_LIMIT,
    crash::{
        ScenarioMode, plan_crashes, run_all, run_with_crash, run_without_faults,
        scenarios::{CrashScenario, PreparedMall},
    },
    fleet::{Fleet, FleetShape},
    load::{LoadTest, LoadTestOptions, is_long},
    process::{DataDir, StartOptions},
    servers::shared,
};

const SHOPPERS: u32 = 24;

const STREAM_POINTS: [&str; 5] =
    ["sequencer.before_numbering", "sequencer.after_numbering", "relay.before_publish", "relay.after_publish", "relay.after_mark"];

/// Pairs of stream and point: each stream and each point at least once. In a long run, all pairs.
fn sampled_points() -> Vec<(&'static str, &'static str)> {
    let all = contracts::SERVICES
        .iter()
        .enumerate()
        .flat_map(|(n, service)| STREAM_POINTS.iter().enumerate().map(move |(m, point)| (n, m, *service, *point)));
    all.filter(|(n, m, ..)| is_long() || n % STREAM_POINTS.len() == *m).map(|(.., service, point)| (service, point)).collect()
}

/// Crashes the process with this service at the second pass of a point, possibly during its start, and restarts it.
fn crash_and_restart(fleet: &mut Fleet, service: &str, point: &str, start: &StartOptions) {
    let process = fleet.process_of(service);
    fleet.kill(process);
    let armed = StartOptions { crash_point: Some(format!("{point}:2")), ..start.clone() };
    if fleet.try_start(process, &armed) {
        assert!(fleet.has_died_within(process, TIME_LIMIT), "the process never reaches {point}");
    }
    fleet.start(process, start);
}

// F1, F18
#[test]
fn a_crash_in_sequencer_or_relay_loses_nothing() {
    let _servers = shared();
    let start = StartOptions::default();
    let (mut fleet, members) = Fleet::new_started(FleetShape::Split, &start, SHOPPERS);
    let load = LoadTest::prepare(fleet.addresses(), members, LoadTestOptions { coupons: 10, ..LoadTestOptions::default() });
    load.run_during(|| {
        for (service, point) in sampled_points() {
            crash_and_restart(&mut fleet, service, &format!("{service}.{point}"), &start);
            load.wait_for_answers(10);
        }
    });
    assert_nothing_lost(&fleet, &load, "died while numbering and publishing");
}

/// Points of a deferred claim: before it is written, before it is answered, before and after the commit that settles it.
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
    let load = LoadTest::prepare(
        fleet.addresses(),
        members,
        LoadTestOptions { coupons: 10, is_claim_deferred: true, ..LoadTestOptions::default() },
    );
    load.run_during(|| {
        for point in CLAIM_POINTS.repeat(if is_long() { 10 } else { 1 }) {
            crash_and_restart(&mut fleet, "coupons", point, &start);
            load.wait_for_answers(10);
        }
    });
    assert_nothing_lost(&fleet, &load, "died between claims and their settling");
}

/// A sample of the checkout's points. A long run has all.
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
    // The expected outcomes come from SQLite, because they are the same on every database.
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
