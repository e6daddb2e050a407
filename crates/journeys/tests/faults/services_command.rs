//! `onrush services` against running processes shows the tasks of each process, and the processes that are gone.

use journeys::{
    client::TIME_LIMIT,
    fleet::{Fleet, FleetShape},
    process::StartOptions,
    servers::shared,
};
use kit::ports::Stopwatch;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A killed process is listed until its leases end after three seconds. The rest is reserve for a busy machine.
const LEASES_END_WITHIN: Duration = Duration::from_secs(10);

type Listed = BTreeMap<String, Vec<String>>;

/// Polls the listing until it satisfies `is_shown`, and returns it.
#[track_caller]
fn wait_until_shown(fleet: &Fleet, process: usize, within: Duration, is_shown: impl Fn(&Listed) -> bool) -> Listed {
    let time = Stopwatch::start();
    loop {
        let shown = fleet.listed_services(process);
        if is_shown(&shown) {
            return shown;
        }
        assert!(time.elapsed() < within, "not within {within:?}: {shown:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The processes named by a service's leases, each with its tasks.
fn lease_holders(lines: &[String]) -> BTreeMap<&str, &str> {
    lines.iter().filter_map(|line| line.strip_prefix("process ")?.split_once("  ")).collect()
}

/// All processes that hold leases.
fn process_names(shown: &Listed) -> BTreeSet<&str> {
    shown.values().flat_map(|lines| lease_holders(lines).into_keys()).collect()
}

/// The process that answers at an address.
fn answering_process(line: &str) -> Option<&str> {
    line.strip_prefix("http://")?.split_once("  process ")?.1.split(',').next()
}

/// True: the sequencer and all partitions of the service are assigned.
fn is_fully_assigned(lines: &[String]) -> bool {
    let done: Vec<&str> = lease_holders(lines).into_values().collect();
    let lanes: BTreeSet<&str> = done.iter().flat_map(|done| done.split(';').next()).flat_map(|lanes| lanes.split(' ')).collect();
    done.iter().any(|done| done.contains("sequencer")) && (lanes.contains("0") == lanes.contains("1"))
}

#[test]
fn replicas_are_listed_and_a_killed_one_disappears() {
    let _servers = shared();
    let start = StartOptions::default();
    let (mut fleet, _) = Fleet::new_started(FleetShape::Replicas(3), &start, 1);
    let is_shared = |shown: &Listed| shown.len() == contracts::SERVICES.len() && shown.values().all(|lines| is_fully_assigned(lines));
    let is_shared_by = |shown: &Listed, count| is_shared(shown) && shown.values().all(|lines| lease_holders(lines).len() == count);
    let before = wait_until_shown(&fleet, 0, TIME_LIMIT, |shown| is_shared_by(shown, 3));
    assert_eq!(process_names(&before).len(), 3, "each process has one name: {before:#?}");
    assert!(before["stock"].iter().any(|line| line.contains("lanes ")), "{before:#?}");

    fleet.kill(1);
    let left = wait_until_shown(&fleet, 0, LEASES_END_WITHIN, |shown| process_names(shown).len() == 2);
    assert!(process_names(&left).is_subset(&process_names(&before)), "{before:#?} {left:#?}");
    // The others have taken over its tasks.
    let after = wait_until_shown(&fleet, 0, TIME_LIMIT, |shown| is_shared_by(shown, 2));
    assert_eq!(process_names(&after), process_names(&left));
}

#[test]
fn split_processes_are_listed_even_when_dead() {
    let _servers = shared();
    let start = StartOptions::default();
    let (mut fleet, _) = Fleet::new_started(FleetShape::Split, &start, 1);
    // The process that answers for a service also holds its leases.
    let is_confirmed = |lines: &Vec<String>| {
        let (leases, answering) = (lease_holders(lines), lines.iter().find_map(|line| answering_process(line)));
        leases.len() == 1 && answering.is_some_and(|process| leases.contains_key(process)) && is_fully_assigned(lines)
    };
    let shown =
        wait_until_shown(&fleet, 0, TIME_LIMIT, |shown| shown.len() == contracts::SERVICES.len() && shown.values().all(is_confirmed));
    for (service, lines) in &shown {
        assert_eq!(lines[0] == "here, by these settings", fleet.services(0).contains(&service.as_str()), "{service}: {lines:?}");
    }

    let dead = fleet.process_of("wallet");
    fleet.kill(dead);
    let is_gone = |lines: &Vec<String>| {
        lines.iter().any(|line| line.contains("no answer")) && lines.iter().any(|line| line == "no process runs it now")
    };
    let gone = wait_until_shown(&fleet, 0, LEASES_END_WITHIN, |shown| fleet.services(dead).iter().all(|service| is_gone(&shown[*service])));
    assert!(is_confirmed(&gone["orders"]), "the other processes are still listed: {gone:#?}");

    // With no process left, the command still lists everything and succeeds.
    for process in (0..fleet.len()).filter(|process| *process != dead) {
        fleet.kill(process);
    }
    wait_until_shown(&fleet, 0, LEASES_END_WITHIN, |shown| shown.values().all(is_gone));
}
