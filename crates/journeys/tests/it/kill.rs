//! kill -9 under load, at moments nobody chose, again and again: every claim and every order that was acknowledged is there afterwards,
//! coupons are numbered without hole, and the audit is clean. And SIGTERM under load: what is under way finishes.
//! (F2, F31, I7.) `ONRUSH_LONG=1` kills for ten minutes. This is one process on SQLite; `tests/faults` has the other shapes.

use journeys::{
    fleet::ready,
    patient::Doors,
    process::{Place, Server, Start},
    rush::{Load, Rush, ask_once, is_long},
};
use kit::ports::{Stopwatch, random_bytes};
use std::{sync::atomic::Ordering, time::Duration};

const SHOPPERS: u32 = 200;

fn load() -> Load {
    let pause = Duration::from_millis(if is_long() { 100 } else { 5 });
    Load { coupons: 150, connections: 8, pause, wait: 20, ..Load::default() }
}

/// kill -9 after random times, `kills` times at least and for at least `time`; each time the server is started again.
fn kill_again_and_again(place: &Place, doors: &Doors, mut server: Server, kills: u32, time: Duration) -> Server {
    let lasting = Stopwatch::start();
    let mut killed = 0;
    while killed < kills || lasting.elapsed() < time {
        std::thread::sleep(Duration::from_millis(50 + u64::from(u16::from_le_bytes(random_bytes())) % 400));
        server.kill();
        server = place.start(&Start { hop_by_hop: killed % 2 == 0, choreographed: killed % 4 < 2, ..Start::default() });
        doors.are_now(vec![server.address]);
        killed += 1;
    }
    server
}

// F2
#[test]
fn what_was_acknowledged_outlives_kill_9_under_load() {
    let place = Place::new();
    let members = place.seed(SHOPPERS);
    let server = place.start(&Start::default());
    let rush = Rush::furnish(Doors::new(vec![server.address]), members, load());
    let (kills, time) = if is_long() { (100, Duration::from_secs(600)) } else { (5, Duration::ZERO) };
    let _server = rush.during(|| kill_again_and_again(&place, &rush.doors, server, kills, time));
    assert!(rush.doors.met().broken.load(Ordering::SeqCst) > 0, "the kills hit nothing: there was no load");
    place.assert_clean("killed under load");
    rush.verify();
    place.assert_clean("asked again");
}

// F31, I7
#[test]
fn sigterm_under_load_loses_nothing_and_ends_with_success() {
    let place = Place::new();
    let members = place.seed(SHOPPERS);
    let server = place.start(&Start::default());
    let rush = Rush::furnish(Doors::new(vec![server.address]), members, load());
    let _server = rush.during(|| stop_with_slow_orders_under_way(&place, &rush, server));
    assert!(rush.doors.met().broken.load(Ordering::SeqCst) > 0, "it was stopped without load");
    assert_eq!(rush.doors.met().torn.load(Ordering::SeqCst), 0, "an answer was cut off");
    rush.answers_still_hold();
    place.assert_clean("started again");
}

fn stop_with_slow_orders_under_way(place: &Place, rush: &Rush, mut server: Server) -> Server {
    let address = server.address;
    std::thread::sleep(Duration::from_millis(150));
    std::thread::scope(|scope| {
        // These take 300 ms each: they are under way when the signal comes.
        let slow = rush.members().iter().take(10).map(|member| rush.order_at_provider(member, "slow"));
        let slow: Vec<_> = slow.map(|order| scope.spawn(move || ask_once(address, &order))).collect();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(ready(address), Some(200));
        server.terminate();
        std::thread::sleep(Duration::from_millis(40));
        assert_ne!(ready(address), Some(200), "readiness goes first");
        assert!(!server.is_dead(), "it waits for what is under way");
        for answer in slow {
            let answer = answer.join().expect("no panic").expect("it was under way and is answered").expect(201);
            assert_eq!(answer.body["state"], "PAID");
        }
    });
    let status = server.ended(Duration::from_secs(20)).expect("it ends in time");
    assert_eq!(status.code(), Some(0), "{}", place.log());
    place.assert_clean("stopped under load");
    let server = place.start(&Start::default());
    rush.doors.are_now(vec![server.address]);
    server
}
