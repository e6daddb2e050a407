//! SIGTERM to one process after the other while the others serve.

use crate::assert_nothing_lost;
use journeys::{
    client::{BlockingRequest, TIME_LIMIT},
    fleet::{Fleet, FleetShape},
    load::{LoadTest, LoadTestOptions, send_once},
    process::StartOptions,
    servers::{BackendServer, StopMode, exclusive, shared},
};
use kit::{breaker::BreakerSettings, ports::Stopwatch};
use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};

const SHOPPERS: u32 = 36;
/// The database's clock, in microseconds.
const DATABASE_NOW: &str = "cast(extract(epoch from clock_timestamp()) * 1000000 as BIGINT)";

/// Unexpired leases of these services. None of their processes runs any more.
fn unexpired_leases(fleet: &Fleet, services: &[&str]) -> Vec<(String, i64)> {
    let running = |service: &&str| {
        let sql = format!("select count(*) from {service}.{service}_leases where until>{DATABASE_NOW}");
        ((*service).to_owned(), fleet.data_dir.backends().number(service, &sql))
    };
    services.iter().map(running).filter(|(_, count)| *count > 0).collect()
}

/// Waits until the database has this many orders whose key begins with this text. Creating an order needs prices, which the stopping
/// process may have to answer.
fn wait_until_created(fleet: &Fleet, key: &str, count: i64) {
    let sql = format!("select count(*) from orders.orders_orders where idempotency_key like '{key}%'");
    let time = Stopwatch::start();
    while fleet.data_dir.backends().number("orders", &sql) < count {
        assert!(time.elapsed() < TIME_LIMIT, "the orders are not created");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until this process takes orders. After a restart, the breakers of its peers are open for a moment, and close after some trials in
/// a row.
fn wait_until_orders_pass(address: SocketAddr, load: &LoadTest) {
    let time = Stopwatch::start();
    let mut passed = 0;
    while passed < BreakerSettings::default().trials {
        let answer = send_once(address, &load.order_at_provider(&load.members()[7], "slow"));
        if answer.is_ok_and(|answer| answer.status == 201) {
            passed += 1;
        } else {
            passed = 0;
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(time.elapsed() < TIME_LIMIT, "no order passes");
    }
}

/// Stops a process with open requests: slow orders, and one whose provider is silent for seconds. The process must answer all of them.
fn stop_with_orders_under_way(fleet: &mut Fleet, load: &LoadTest, process: usize) {
    let address = fleet.address(process);
    wait_until_orders_pass(address, load);
    let key = format!("under-way-{process}-");
    let order = |n: usize| {
        let token = if n == 0 { "timeout_after_charge" } else { "slow" };
        load.order_at_provider(&load.members()[n], token).key(&format!("{key}{n}"))
    };
    let orders: Vec<BlockingRequest> = (0..7).map(order).collect();
    std::thread::scope(|scope| {
        let asked: Vec<_> = orders.iter().map(|order| scope.spawn(move || send_once(address, order))).collect();
        wait_until_created(fleet, &key, 7);
        assert_eq!(fleet.stop(process), Some(503), "readiness fails first");
        for answer in asked {
            answer.join().expect("no panic").expect("the open request is answered").expect(201);
        }
    });
}

fn restart_one_after_the_other(shape: FleetShape) {
    let _servers = shared();
    let start = StartOptions::default();
    let (mut fleet, members) = Fleet::new_started(shape, &start, SHOPPERS);
    let load = LoadTest::prepare(fleet.addresses(), members, LoadTestOptions::default());
    load.run_during(|| {
        for process in 0..fleet.len() {
            load.wait_for_answers(10);
            stop_with_orders_under_way(&mut fleet, &load, process);
            if shape == FleetShape::Split {
                let services = fleet.services(process);
                assert_eq!(unexpired_leases(&fleet, &services), [], "unexpired leases after process {process} exited");
            }
            fleet.start(process, &start);
        }
        load.wait_for_answers(20);
    });
    assert_eq!(load.addresses.counts().truncated.load(Ordering::SeqCst), 0, "an answer was truncated");
    assert_nothing_lost(&fleet, &load, "restarted one after the other");
    for process in 0..fleet.len() {
        fleet.stop(process);
    }
    assert_eq!(unexpired_leases(&fleet, contracts::SERVICES), [], "unexpired leases after all processes exited");
}

// F31
#[test]
fn a_rolling_restart_of_replicas_fails_no_request() {
    restart_one_after_the_other(FleetShape::Replicas(3));
}

// F31
#[test]
fn a_rolling_restart_of_split_processes_fails_no_request() {
    restart_one_after_the_other(FleetShape::Split);
}

// F31: long polls are answered before the process exits
#[test]
fn a_stopping_process_answers_long_polls() {
    let _servers = exclusive();
    let start = StartOptions::default();
    let (mut fleet, members) = Fleet::new_started(FleetShape::Split, &start, SHOPPERS);
    let load = LoadTest::prepare(fleet.addresses(), members, LoadTestOptions { coupons: 10, ..LoadTestOptions::default() });
    load.run_during(|| load.wait_for_answers(20));
    let (front, orders) = (fleet.process_of("accounts"), fleet.process_of("orders"));
    // Kafka is down, so the first step of these orders outlasts the shutdown. One request goes to orders directly, one through a gateway.
    BackendServer::Kafka.stop(StopMode::Kill);
    let requests = [orders, front].map(|process| (fleet.address(process), load.order_at_provider(&load.members()[0], "approve")));
    std::thread::scope(|scope| {
        let [direct, forwarded] = requests.each_ref().map(|(address, request)| scope.spawn(move || send_once(*address, request)));
        std::thread::sleep(Duration::from_millis(500));
        fleet.stop(front);
        let answer = forwarded.join().expect("no panic").expect("the client is answered").expect(503);
        assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
        fleet.stop(orders);
        let answer = direct.join().expect("no panic").expect("the client is answered").expect(201);
        assert_eq!(answer.body["state"], "PENDING");
    });
    BackendServer::Kafka.start();
    fleet.start_all(&start);
    let mut client = load.addresses.client();
    for (_, request) in &requests {
        client.send(request);
    }
    assert_nothing_lost(&fleet, &load, "long polls during shutdown");
}
