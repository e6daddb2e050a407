//! Runs scenarios against a process that crashes at a given point.
//!
//! Owns the list of crash points, which is derived from the code: operations from `OPERATION` constants, hops from the reads of services,
//! provider calls from `crash_point`.

pub mod crash_client;
pub mod crash_points;
pub mod scenarios;

use crash_client::CrashClient;
use crash_points::CrashPoint;
use parking_lot::Mutex;
use scenarios::{CrashScenario, PreparedMall};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Scenarios that run in parallel. Each waits for the disk more than it computes.
const PARALLEL_RUNS: usize = 3;

/// A scenario, and true for choreographed checkouts.
pub type ScenarioMode = (CrashScenario, bool);

/// Outcomes without a fault (answers and order states, equal in both saga modes), and a scenario for every hop.
pub struct FaultFreeRuns {
    pub outcomes: BTreeMap<CrashScenario, Vec<String>>,
    pub hops: BTreeMap<String, ScenarioMode>,
}

/// Runs the wanted scenarios without a fault, on SQLite, in both saga modes.
pub fn run_without_faults(mall: &PreparedMall, wanted: impl Fn(CrashScenario) -> bool) -> FaultFreeRuns {
    let mut found = FaultFreeRuns { outcomes: BTreeMap::new(), hops: BTreeMap::new() };
    let both_modes =
        [false, true].into_iter().flat_map(|choreographed| CrashScenario::ALL.iter().map(move |scenario| (*scenario, choreographed)));
    for (scenario, choreographed) in both_modes.filter(|(scenario, _)| wanted(*scenario)) {
        let data_dir = mall.data_dir.copy();
        let mut client = CrashClient::start(&data_dir, scenario.start(true, choreographed));
        scenario.run(mall, &mut client);
        client.wait_until_orders_rest();
        let outcome = client.outcome();
        drop(client);
        // G3
        let expected = found.outcomes.entry(scenario).or_insert_with(|| outcome.clone());
        assert!(
            !scenario.is_deterministic() || *expected == outcome,
            "{scenario:?} ends differently when it is choreographed: {outcome:?}, not {expected:?}"
        );
        for hop in crash_points::hops_made_in(&data_dir) {
            found.hops.entry(hop).or_insert((scenario, choreographed));
        }
    }
    found
}

/// Assigns a scenario to every crash point. Second: the points that no scenario reaches.
pub fn plan_crashes(fault_free: &FaultFreeRuns) -> (Vec<(CrashPoint, ScenarioMode)>, Vec<CrashPoint>) {
    let (mut plan, mut unreached) = (Vec::new(), Vec::new());
    for point in crash_points::all() {
        let scenario = match &point {
            CrashPoint::Operation(name) => scenarios::scenario_of_operation(name).map(|scenario| (scenario, false)),
            CrashPoint::Hop(name) => fault_free.hops.get(name).copied().or_else(|| Some((scenarios::scenario_of_hop(name)?, false))),
            CrashPoint::Call(_) => Some((CrashScenario::Provider, false)),
        };
        match scenario {
            Some(scenario) => plan.push((point, scenario)),
            None => unreached.push(point),
        }
    }
    (plan, unreached)
}

/// Runs a scenario until the process crashes at this point, restarts it, and completes the scenario. `Err`: the difference from the
/// fault-free run.
pub fn run_with_crash(
    mall: &PreparedMall,
    name: &str,
    hop_by_hop: bool,
    (scenario, choreographed): ScenarioMode,
    max_deaths: u32,
    expected: &[String],
) -> Result<(), String> {
    let data_dir = mall.data_dir.copy();
    let mut start = scenario.start(hop_by_hop, choreographed);
    start.crash_point = Some(name.to_owned());
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut client = CrashClient::start(&data_dir, start);
        client.allow_deaths(max_deaths);
        scenario.run(mall, &mut client);
        client.wait_until_orders_rest();
        client.wait_for_late_deaths();
        client.wait_until_orders_rest();
        if scenario.is_deterministic() {
            assert_eq!(client.outcome(), expected, "the outcome differs from the fault-free run");
        }
        client.assert_answers_repeat();
        assert!(client.deaths >= 1, "no scenario passes this point");
        data_dir.assert_clean(name);
        client.deaths
    }));
    match outcome {
        Ok(deaths) if deaths < max_deaths => Err(format!("{name}: {deaths} deaths, not {max_deaths}")),
        Ok(_) => Ok(()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("{name} in {scenario:?}: {}\n{}", text.unwrap_or_default(), data_dir.log()))
        }
    }
}

/// Runs all jobs, some in parallel. Returns the failures.
pub fn run_all(work: Vec<impl Fn() -> Result<(), String> + Sync>) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL_RUNS {
            scope.spawn(|| {
                while let Some(job) = work.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if let Err(failure) = job() {
                        failures.lock().push(failure);
                    }
                }
            });
        }
    });
    failures.into_inner()
}
