//! SIGTERM to one process after the other while the others go on.

use crate::assert_kept;
use journeys::{
    client::Request,
    fleet::{Fleet, Shape},
    process::Start,
    rush::{Load, Rush, ask_once},
    servers::{End, Service, alone, shared},
};
use std::{sync::atomic::Ordering, time::Duration};

const SHOPPERS: u32 = 36;
/// What runs by the database's clock of what somebody holds who is not there any more.
const NOW: &str = "cast(extract(epoch from clock_timestamp()) * 1000000 as BIGINT)";

/// Leases of these services that run and that none of the processes which are there has.
fn leases_kept(fleet: &Fleet, services: &[&str]) -> Vec<(String, i64)> {
    let running = |service: &&str| {
        let sql = format!("select count(*) from {service}.{service}_leases where until>{NOW}");
        ((*service).to_owned(), fleet.place.ground().number(service, &sql))
    };
    services.iter().map(running).filter(|(_, count)| *count > 0).collect()
}

/// What this process was asked before it was told to stop is answered by it: orders that take a moment, and one whose provider is silent for
/// some seconds.
fn stop_with_orders_under_way(fleet: &mut Fleet, rush: &Rush, seat: usize) {
    let address = fleet.address(seat);
    let mut orders: Vec<Request> = rush.members().iter().take(6).map(|member| rush.order_at_provider(member, "slow")).collect();
    orders.push(rush.order_at_provider(&rush.members()[6], "timeout_after_charge"));
    std::thread::scope(|scope| {
        let asked: Vec<_> = orders.iter().map(|order| scope.spawn(move || ask_once(address, order))).collect();
        // They are on their way by then, and take 300 ms at least.
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(fleet.stop(seat), Some(503), "readiness goes first");
        for answer in asked {
            answer.join().expect("no panic").expect("it was under way and is answered").expect(201);
        }
    });
}

fn restarted_one_after_the_other(shape: Shape) {
    let _servers = shared();
    let start = Start::default();
    let (mut fleet, members) = Fleet::opened(shape, &start, SHOPPERS);
    let rush = Rush::furnish(fleet.doors(), members, Load::default());
    rush.during(|| {
        for seat in 0..fleet.len() {
            rush.goes_on(10);
            stop_with_orders_under_way(&mut fleet, &rush, seat);
            if shape == Shape::Split {
                let services = fleet.services(seat);
                assert_eq!(leases_kept(&fleet, &services), [], "process {seat} has ended and left leases behind");
            }
            fleet.start(seat, &start);
        }
        rush.goes_on(20);
    });
    assert_eq!(rush.doors.met().torn.load(Ordering::SeqCst), 0, "an answer was cut off");
    assert_kept(&fleet, &rush, "restarted one after the other");
    for seat in 0..fleet.len() {
        fleet.stop(seat);
    }
    assert_eq!(leases_kept(&fleet, contracts::SERVICES), [], "all have ended and left leases behind");
}

// F31
#[test]
fn a_rolling_restart_of_replicas_fails_nobody() {
    restarted_one_after_the_other(Shape::Replicas(3));
}

// F31
#[test]
fn a_rolling_restart_of_processes_apart_fails_nobody() {
    restarted_one_after_the_other(Shape::Split);
}

// F31: whoever waits for what does not come is answered before the process has to go
#[test]
fn a_process_that_is_told_to_stop_lets_nobody_wait_in_vain() {
    let _servers = alone();
    let start = Start::default();
    let (mut fleet, members) = Fleet::opened(Shape::Split, &start, SHOPPERS);
    let rush = Rush::furnish(fleet.doors(), members, Load { coupons: 10, ..Load::default() });
    rush.during(|| rush.goes_on(20));
    let (front, orders) = (fleet.with("accounts"), fleet.with("orders"));
    // The first step of these is silent for longer than a process that stops has left: one asks orders, the other one through a gateway.
    Service::Kafka.stop(End::Kill);
    let requests = [orders, front].map(|seat| (fleet.address(seat), rush.order_at_provider(&rush.members()[0], "approve")));
    std::thread::scope(|scope| {
        let [direct, forwarded] = requests.each_ref().map(|(address, request)| scope.spawn(move || ask_once(*address, request)));
        std::thread::sleep(Duration::from_millis(500));
        fleet.stop(front);
        let answer = forwarded.join().expect("no panic").expect("it is told something").expect(503);
        assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
        fleet.stop(orders);
        let answer = direct.join().expect("no panic").expect("it is told something").expect(201);
        assert_eq!(answer.body["state"], "PENDING");
    });
    Service::Kafka.start();
    fleet.start_all(&start);
    let mut client = rush.doors.client();
    for (_, request) in &requests {
        client.ask(request);
    }
    assert_kept(&fleet, &rush, "waited in vain");
}
