//! A process that dies at a point of its choice, and what is played until it does. Owns the points, which are made from the code:
//! operations from its `OPERATION` constants, hops from what services read, calls from `crash_point`.

pub mod crash_client;
pub mod crash_points;
pub mod scenarios;

use crash_client::CrashClient;
use crash_points::CrashPoint;
use scenarios::{CrashScenario, PreparedMall};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Processes that play at once; each waits for the disk more than it computes.
const PARALLEL_RUNS: usize = 3;

/// A play, and whether its checkouts are choreographed.
pub type ScenarioMode = (CrashScenario, bool);

/// How each play ends when nothing goes wrong: answers and orders, the same both ways. And which hops it passes.
pub struct FaultFreeRuns {
    pub outcomes: BTreeMap<CrashScenario, Vec<String>>,
    pub hops: BTreeMap<String, ScenarioMode>,
}

/// Plays everything that is wanted without a fault. On SQLite.
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

/// Every point with the play that passes it.
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

/// Plays until the process dies at this point, starts it again, and plays on. What is wrong afterwards, if anything.
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

/// Does all of it, some at a time; what went wrong.
pub fn run_all(work: Vec<impl Fn() -> Result<(), String> + Sync>) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL_RUNS {
            scope.spawn(|| {
                while let Some(job) = work.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if let Err(failure) = job() {
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap_or_else(PoisonError::into_inner)
}
