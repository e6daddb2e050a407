//! What happens to servers: PostgreSQL and Kafka are restarted and killed, Redis comes back empty.

use crate::assert_kept;
use journeys::{
    fleet::{Fleet, Shape},
    process::Start,
    rush::{Load, Rush, is_long},
    servers::{End, Service, alone},
};
use std::{sync::atomic::Ordering, time::Duration};

const SHOPPERS: u32 = 36;

/// How often each fault is done.
fn times() -> usize {
    if is_long() { 10 } else { 1 }
}

fn postgres_restarts(shape: Shape) {
    let _servers = alone();
    let (fleet, members) = Fleet::opened(shape, &Start::default(), SHOPPERS);
    let rush = Rush::furnish(fleet.doors(), members, Load::default());
    rush.during(|| {
        for end in [End::Orderly, End::Immediate, End::Kill].repeat(times()) {
            rush.goes_on(20);
            Service::Postgres.stop(end);
            // Everybody is told that it is not possible now; what else there is would end the rush.
            let before = rush.doors.met().unavailable.load(Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(500));
            Service::Postgres.start();
            let told = rush.doors.met().unavailable.load(Ordering::SeqCst) - before;
            assert!(told > 0, "nobody was told that the database is gone");
        }
        rush.goes_on(20);
    });
    assert_kept(&fleet, &rush, "PostgreSQL was restarted");
}

// F9
#[test]
fn replicas_outlive_restarts_of_postgresql() {
    postgres_restarts(Shape::Replicas(2));
}

// F9
#[test]
fn processes_apart_outlive_restarts_of_postgresql() {
    postgres_restarts(Shape::Split);
}

/// Messages of all streams that the broker does not have yet.
fn unpublished(fleet: &Fleet) -> i64 {
    let waiting = |service: &&str| {
        let sql = format!(
            "select cast((select count(*) from {service}.{service}_outbox) - (select coalesce(sum(seq), 0) from {service}.{service}_relay) as BIGINT)"
        );
        fleet.place.ground().number(service, &sql)
    };
    contracts::SERVICES.iter().map(waiting).sum()
}

// F17
#[test]
fn messages_wait_in_the_outbox_while_the_broker_is_away() {
    let _servers = alone();
    let (fleet, members) = Fleet::opened(Shape::Split, &Start::default(), SHOPPERS);
    // Orders are answered as they are: their messages go nowhere meanwhile.
    let rush = Rush::furnish(fleet.doors(), members, Load { wait: 1, ..Load::default() });
    rush.during(|| {
        for end in [End::Orderly, End::Kill].repeat(times()) {
            rush.goes_on(20);
            Service::Kafka.stop(end);
            // Orders are taken without the broker.
            rush.goes_on(10);
            assert!(unpublished(&fleet) > 0, "messages went on without the broker");
            Service::Kafka.start();
        }
        rush.goes_on(20);
    });
    assert_kept(&fleet, &rush, "the broker was restarted");
    assert_eq!(unpublished(&fleet), 0, "messages were left in the outbox");
}

// F17: a deploy, or a restart of everything, while the broker is away; the mall's first start among them
#[test]
fn processes_start_without_the_broker_and_catch_up_with_it() {
    let _servers = alone();
    let start = Start::default();
    let mut fleet = Fleet::new(Shape::Split);
    Service::Kafka.stop(End::Kill);
    let members = fleet.open(&start, SHOPPERS);
    Service::Kafka.start();
    let rush = Rush::furnish(fleet.doors(), members, Load { wait: 1, ..Load::default() });
    rush.during(|| {
        for _ in 0..times() {
            rush.goes_on(20);
            Service::Kafka.stop(End::Kill);
            for seat in 0..fleet.len() {
                fleet.stop(seat);
            }
            fleet.start_all(&start);
            // By processes that have never seen a broker.
            rush.goes_on(10);
            assert!(unpublished(&fleet) > 0, "messages went on without the broker");
            Service::Kafka.start();
        }
        rush.goes_on(20);
    });
    assert_kept(&fleet, &rush, "started without the broker");
    assert_eq!(unpublished(&fleet), 0, "messages were left in the outbox");
}

fn redis_goes_and_comes_back_empty(shape: Shape) {
    let _servers = alone();
    let mut fleet = match shape {
        Shape::Replicas(_) => Fleet::on(shape, journeys::ground::Ground::together().with_redis()),
        Shape::Split => Fleet::new(shape),
    };
    // Claims go through the gate in Redis: it must not give out more when it has forgotten what it gave.
    let members = fleet.open(&Start { claim_strategy: Some("redis"), ..Start::default() }, SHOPPERS);
    let rush = Rush::furnish(fleet.doors(), members, Load::default());
    rush.during(|| {
        for _ in 0..times() {
            // While the coupons are being claimed.
            rush.goes_on(10);
            Service::Redis.restart(End::Kill);
            rush.goes_on(20);
            Service::Redis.stop(End::Kill);
            // Nothing depends on it.
            rush.goes_on(20);
            Service::Redis.start();
        }
        rush.goes_on(20);
    });
    assert_kept(&fleet, &rush, "Redis was lost");
}

// F15
#[test]
fn replicas_need_no_redis_to_go_on() {
    redis_goes_and_comes_back_empty(Shape::Replicas(2));
}

// F15
#[test]
fn processes_apart_need_no_redis_to_go_on() {
    redis_goes_and_comes_back_empty(Shape::Split);
}
