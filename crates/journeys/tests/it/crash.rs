//! The process dies at every point where a checkout can be torn apart: before and after each commit of each operation, of each hop, and
//! around each call of the provider. Started again, every order comes to the end it would have had, what was acknowledged is there, and a
//! repeat under the same key is one order with the same answer. (F1, F3, F8; row 60.)
//!
//! The points are made from the code: operations from its `OPERATION` constants, hops from what services read, calls from `crash_point`.
//! A point that no play passes fails the test. What only choreographed checkouts pass is played choreographed.

mod actor;
mod plays;
mod points;

use crate::process::Place;
use actor::Actor;
use plays::{Mall, Play};
use points::Point;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Processes that play at once; each waits for the disk more than it computes.
const AT_ONCE: usize = 3;

/// A play, and whether its checkouts are choreographed.
type Staged = (Play, bool);

/// How each play ends when nothing goes wrong: answers and orders, the same both ways. And which hops it passes.
struct Untroubled {
    ends: BTreeMap<Play, Vec<String>>,
    hops: BTreeMap<String, Staged>,
}

fn untroubled(mall: &Mall) -> Untroubled {
    let mut found = Untroubled { ends: BTreeMap::new(), hops: BTreeMap::new() };
    for (play, choreographed) in [false, true].into_iter().flat_map(|way| Play::ALL.iter().map(move |play| (*play, way))) {
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
fn plan(untroubled: &Untroubled) -> (Vec<(Point, Staged)>, Vec<Point>) {
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
fn crash(mall: &Mall, name: &str, hop_by_hop: bool, (play, choreographed): Staged, deep: u32, ends: &[String]) -> Result<(), String> {
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

fn all_of(work: Vec<impl Fn() -> Result<(), String> + Sync>) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(job) = work.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if let Err(failure) = job() {
                        failures.lock().expect("nobody panics with it").push(failure);
                    }
                }
            });
        }
    });
    failures.into_inner().expect("nobody panics with it")
}

// F1, F8, row 60
#[test]
fn a_process_that_dies_anywhere_leaves_nothing_half_done() {
    let mall = Mall::furnished();
    let untroubled = untroubled(&mall);
    let (plan, unplayed) = plan(&untroubled);
    assert!(unplayed.is_empty(), "no play passes {unplayed:?}");
    let mut work = Vec::new();
    for (point, play) in &plan {
        for name in point.names() {
            let (mall, ends) = (&mall, &untroubled.ends[&play.0]);
            work.push(move || crash(mall, &name, matches!(point, Point::Hop(_)), *play, 1, ends));
        }
    }
    let failures = all_of(work);
    assert!(failures.is_empty(), "{} of the points:\n{}", failures.len(), failures.join("\n"));
}

// F3
#[test]
fn a_process_that_dies_again_and_again_while_it_recovers_gets_there_in_the_end() {
    let mall = Mall::furnished();
    let untroubled = untroubled(&mall);
    let hops = [
        "stock.stock.reserve",
        "orders.coupon.held",
        "wallet.wallet.debit",
        "orders.payment.approved",
        "coupons.coupon.use",
        "payments.payment.cancel",
        "coupons.stock.slip",
        "payments.stock.slip",
        "orders.payments.slip",
    ];
    let mut work = Vec::new();
    for hop in hops {
        let play = *untroubled.hops.get(hop).unwrap_or_else(|| panic!("no play passes {hop}"));
        let (mall, ends) = (&mall, &untroubled.ends[&play.0]);
        work.push(move || crash(mall, &format!("{hop}.before_commit"), true, play, 10, ends));
    }
    let failures = all_of(work);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A place where something was played, for finding out what happened there.
fn rows<T>(place: &Place, sql: &str, read: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    let connection = rusqlite::Connection::open(place.path().join("onrush.db")).expect("the database opens");
    let mut statement = connection.prepare(sql).expect("the query is right");
    let rows = statement.query_map([], |row| read(row)).expect("the query runs");
    rows.collect::<Result<_, _>>().expect("the rows can be read")
}
