//! kill -9 at random moments under load. Every acknowledged claim and order survives, coupon numbers have no gap, and the audit is clean.
//! SIGTERM under load: open requests are answered. (F2, F31, I7.)
//!
//! `ONRUSH_LONG=1` kills for ten minutes. One process on SQLite; `tests/faults` has the other shapes.

use journeys::{
    fleet::readiness,
    load::{LoadTest, LoadTestOptions, is_long, send_once},
    process::{DataDir, StartOptions, TestProcess},
    retrying_client::Addresses,
};
use kit::ports::{Stopwatch, random_bytes};
use std::{sync::atomic::Ordering, time::Duration};

const SHOPPERS: u32 = 200;

fn load_options() -> LoadTestOptions {
    let pause = Duration::from_millis(if is_long() { 100 } else { 5 });
    LoadTestOptions { coupons: 150, connections: 8, pause, wait: 20, ..LoadTestOptions::default() }
}

/// Kills and restarts the server after random times: at least `kills` times, and for at least `time`.
fn kill_again_and_again(data_dir: &DataDir, addresses: &Addresses, mut server: TestProcess, kills: u32, time: Duration) -> TestProcess {
    let running = Stopwatch::start();
    let mut killed = 0;
    while killed < kills || running.elapsed() < time {
        std::thread::sleep(Duration::from_millis(50 + u64::from(u16::from_le_bytes(random_bytes())) % 400));
        server.kill();
        server = data_dir.start(&StartOptions { hop_by_hop: killed % 2 == 0, choreographed: killed % 4 < 2, ..StartOptions::default() });
        addresses.replace(vec![server.address]);
        killed += 1;
    }
    server
}

// F2
#[test]
fn acknowledged_work_survives_kill_9_under_load() {
    let data_dir = DataDir::new();
    let members = data_dir.seed(SHOPPERS);
    let server = data_dir.start(&StartOptions::default());
    let load = LoadTest::prepare(Addresses::new(vec![server.address]), members, load_options());
    let (kills, time) = if is_long() { (100, Duration::from_secs(600)) } else { (5, Duration::ZERO) };
    let _server = load.run_during(|| kill_again_and_again(&data_dir, &load.addresses, server, kills, time));
    assert!(load.addresses.counts().connection_errors.load(Ordering::SeqCst) > 0, "the kills hit nothing: there was no load");
    data_dir.assert_clean("killed under load");
    load.verify();
    data_dir.assert_clean("after all repeats");
}

// F31, I7
#[test]
fn sigterm_under_load_loses_nothing() {
    let data_dir = DataDir::new();
    let members = data_dir.seed(SHOPPERS);
    let server = data_dir.start(&StartOptions::default());
    let load = LoadTest::prepare(Addresses::new(vec![server.address]), members, load_options());
    let _server = load.run_during(|| stop_with_slow_orders_under_way(&data_dir, &load, server));
    assert!(load.addresses.counts().connection_errors.load(Ordering::SeqCst) > 0, "no request failed, so there was no load");
    assert_eq!(load.addresses.counts().truncated.load(Ordering::SeqCst), 0, "an answer was truncated");
    load.verify_answers_repeat();
    data_dir.assert_clean("started again");
}

fn stop_with_slow_orders_under_way(data_dir: &DataDir, load: &LoadTest, mut server: TestProcess) -> TestProcess {
    let address = server.address;
    std::thread::sleep(Duration::from_millis(150));
    std::thread::scope(|scope| {
        // Each takes 300 ms, so all are open when the signal arrives.
        let slow = load.members().iter().take(10).map(|member| load.order_at_provider(member, "slow"));
        let slow: Vec<_> = slow.map(|order| scope.spawn(move || send_once(address, &order))).collect();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(readiness(address), Some(200));
        server.terminate();
        std::thread::sleep(Duration::from_millis(40));
        assert_ne!(readiness(address), Some(200), "readiness fails first");
        assert!(!server.is_dead(), "the server waits for open requests");
        for answer in slow {
            let answer = answer.join().expect("no panic").expect("the open request is answered").expect(201);
            assert_eq!(answer.body["state"], "PAID");
        }
    });
    let status = server.wait_for_exit(Duration::from_secs(20)).expect("the server exits in time");
    assert_eq!(status.code(), Some(0), "{}", data_dir.log());
    data_dir.assert_clean("stopped under load");
    let server = data_dir.start(&StartOptions::default());
    load.addresses.replace(vec![server.address]);
    server
}
