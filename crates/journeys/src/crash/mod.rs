//! A process that dies at a point of its choice, and what is played until it does. Owns the points, which are made from the code:
//! operations from its `OPERATION` constants, hops from what services read, calls from `crash_point`.

pub mod actor;
pub mod plays;
pub mod points;

use actor::Actor;
use plays::{Mall, Play};
use points::Point;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Processes that play at once; each waits for the disk more than it computes.
const AT_ONCE: usize = 3;

/// A play, and whether its checkouts are choreographed.
pub type Staged = (Play, bool);

/// How each play ends when nothing goes wrong: answers and orders, the same both ways. And which hops it passes.
pub struct Untroubled {
    pub ends: BTreeMap<Play, Vec<String>>,
    pub hops: BTreeMap<String, Staged>,
}

/// Plays everything that is wanted without a fault. On SQLite.
pub fn untroubled(mall: &Mall, wanted: impl Fn(Play) -> bool) -> Untroubled {
    let mut found = Untroubled { ends: BTreeMap::new(), hops: BTreeMap::new() };
    let both_ways = [false, true].into_iter().flat_map(|way| Play::ALL.iter().map(move |play| (*play, way)));
    for (play, choreographed) in both_ways.filter(|(play, _)| wanted(*play)) {
        let place = mall.place.copy();
        let mut actor = Actor::enter(&place, play.start(true, choreographed));
        play.play(mall, &mut actor);
        actor.rest();
        let ends = actor.story();
        drop(actor);
        // G3
        let expected = found.ends.entry(play).or_insert_with(|| ends.clone());
        assert!(
            !play.is_certain() || *expected == ends,
            "{play:?} ends in another way when it is choreographed: {ends:?}, not {expected:?}"
        );
        for hop in points::hops_of(&place) {
            found.hops.entry(hop).or_insert((play, choreographed));
        }
    }
    found
}

/// Every point with the play that passes it.
pub fn plan(untroubled: &Untroubled) -> (Vec<(Point, Staged)>, Vec<Point>) {
    let (mut plan, mut unplayed) = (Vec::new(), Vec::new());
    for point in points::all() {
        let play = match &point {
            Point::Operation(name) => plays::of_operation(name).map(|play| (play, false)),
            Point::Hop(name) => untroubled.hops.get(name).copied().or_else(|| Some((plays::of_hop(name)?, false))),
            Point::Call(_) => Some((Play::Provider, false)),
        };
        match play {
            Some(play) => plan.push((point, play)),
            None => unplayed.push(point),
        }
    }
    (plan, unplayed)
}

/// Plays until the process dies at this point, starts it again, and plays on. What is wrong afterwards, if anything.
pub fn crash(mall: &Mall, name: &str, hop_by_hop: bool, (play, choreographed): Staged, deep: u32, ends: &[String]) -> Result<(), String> {
    let place = mall.place.copy();
    let mut start = play.start(hop_by_hop, choreographed);
    start.crash_point = Some(name.to_owned());
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut actor = Actor::enter(&place, start);
        actor.dies(deep);
        play.play(mall, &mut actor);
        actor.rest();
        actor.meets_its_end();
        actor.rest();
        if play.is_certain() {
            assert_eq!(actor.story(), ends, "it ended in another way");
        }
        actor.holds_its_word();
        assert!(actor.deaths >= 1, "no play passes this point");
        place.assert_clean(name);
        actor.deaths
    }));
    match outcome {
        Ok(deaths) if deaths < deep => Err(format!("{name}: {deaths} deaths, not {deep}")),
        Ok(_) => Ok(()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("{name} in {play:?}: {}\n{}", text.unwrap_or_default(), place.log()))
        }
    }
}

/// Does all of it, some at a time; what went wrong.
pub fn all_of(work: Vec<impl Fn() -> Result<(), String> + Sync>) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
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
