//! `onrush services` beside running processes: whoever looks after a mall sees which process does what, and who is gone.

use journeys::{
    client::PATIENCE,
    fleet::{Fleet, Shape},
    process::Start,
    servers::shared,
};
use kit::ports::Stopwatch;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A process that was killed is shown until its leases end, after three seconds; with room for a busy machine.
const GONE_WITHIN: Duration = Duration::from_secs(10);

type Shown = BTreeMap<String, Vec<String>>;

/// Looks until it is shown, and says what was.
#[track_caller]
fn eventually(fleet: &Fleet, seat: usize, within: Duration, is_shown: impl Fn(&Shown) -> bool) -> Shown {
    let time = Stopwatch::start();
    loop {
        let shown = fleet.whereabouts(seat);
        if is_shown(&shown) {
            return shown;
        }
        assert!(time.elapsed() < within, "not within {within:?}: {shown:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The processes that a service's leases name, each with what it does.
fn by_leases(lines: &[String]) -> BTreeMap<&str, &str> {
    lines.iter().filter_map(|line| line.strip_prefix("process ")?.split_once("  ")).collect()
}

/// All processes that have leases.
fn names(shown: &Shown) -> BTreeSet<&str> {
    shown.values().flat_map(|lines| by_leases(lines).into_keys()).collect()
}

/// The process that answers at an address.
fn who_answers(line: &str) -> Option<&str> {
    line.strip_prefix("http://")?.split_once("  process ")?.1.split(',').next()
}

/// Everything that a service has is done by somebody.
fn is_all_done(lines: &[String]) -> bool {
    let done: Vec<&str> = by_leases(lines).into_values().collect();
    let lanes: BTreeSet<&str> = done.iter().flat_map(|done| done.split(';').next()).flat_map(|lanes| lanes.split(' ')).collect();
    done.iter().any(|done| done.contains("sequencer")) && (lanes.contains("0") == lanes.contains("1"))
}

#[test]
fn replicas_are_shown_with_what_each_does_and_the_killed_one_vanishes() {
    let _servers = shared();
    let start = Start::default();
    let (mut fleet, _) = Fleet::opened(Shape::Replicas(3), &start, 1);
    let shares = |shown: &Shown| shown.len() == contracts::SERVICES.len() && shown.values().all(|lines| is_all_done(lines));
    let is_shown_of = |shown: &Shown, count| shares(shown) && shown.values().all(|lines| by_leases(lines).len() == count);
    let before = eventually(&fleet, 0, PATIENCE, |shown| is_shown_of(shown, 3));
    assert_eq!(names(&before).len(), 3, "each process has one name: {before:#?}");
    assert!(before["stock"].iter().any(|line| line.contains("lanes ")), "{before:#?}");

    fleet.kill(1);
    let left = eventually(&fleet, 0, GONE_WITHIN, |shown| names(shown).len() == 2);
    assert!(names(&left).is_subset(&names(&before)), "{before:#?} {left:#?}");
    // What it did the others do now.
    let after = eventually(&fleet, 0, PATIENCE, |shown| is_shown_of(shown, 2));
    assert_eq!(names(&after), names(&left));
}

#[test]
fn processes_apart_are_shown_at_their_addresses_also_those_that_do_not_answer() {
    let _servers = shared();
    let start = Start::default();
    let (mut fleet, _) = Fleet::opened(Shape::Split, &start, 1);
    // Who answers for a service is who has its leases.
    let is_told_twice = |lines: &Vec<String>| {
        let (leases, answering) = (by_leases(lines), lines.iter().find_map(|line| who_answers(line)));
        leases.len() == 1 && answering.is_some_and(|process| leases.contains_key(process)) && is_all_done(lines)
    };
    let shown = eventually(&fleet, 0, PATIENCE, |shown| shown.len() == contracts::SERVICES.len() && shown.values().all(is_told_twice));
    for (service, lines) in &shown {
        assert_eq!(lines[0] == "here, by these settings", fleet.services(0).contains(&service.as_str()), "{service}: {lines:?}");
    }

    let dead = fleet.with("wallet");
    fleet.kill(dead);
    let is_gone = |lines: &Vec<String>| {
        lines.iter().any(|line| line.contains("no answer")) && lines.iter().any(|line| line == "no process runs it now")
    };
    let gone = eventually(&fleet, 0, GONE_WITHIN, |shown| fleet.services(dead).iter().all(|service| is_gone(&shown[*service])));
    assert!(is_told_twice(&gone["orders"]), "the others are still there: {gone:#?}");

    // With nobody left to ask it still says so, and fails not.
    for seat in (0..fleet.len()).filter(|seat| *seat != dead) {
        fleet.kill(seat);
    }
    eventually(&fleet, 0, GONE_WITHIN, |shown| shown.values().all(is_gone));
}
