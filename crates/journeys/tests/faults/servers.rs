//! Restarts and kills of PostgreSQL and Kafka, and loss of all data in Redis.

use crate::assert_nothing_lost;
use journeys::{
    fleet::{Fleet, FleetShape},
    load::{LoadTest, LoadTestOptions, is_long},
    process::StartOptions,
    servers::{BackendServer, StopMode, exclusive},
};
use std::{sync::atomic::Ordering, time::Duration};

const SHOPPERS: u32 = 36;

/// Number of rounds of each fault.
fn rounds() -> usize {
    if is_long() { 10 } else { 1 }
}

fn restart_postgres(shape: FleetShape) {
    let _servers = exclusive();
    let (fleet, members) = Fleet::new_started(shape, &StartOptions::default(), SHOPPERS);
    let load = LoadTest::prepare(fleet.addresses(), members, LoadTestOptions::default());
    load.run_during(|| {
        for mode in [StopMode::Graceful, StopMode::Immediate, StopMode::Kill].repeat(rounds()) {
            load.wait_for_answers(20);
            BackendServer::Postgres.stop(mode);
            // Clients get 503 during the outage. Any other failure would panic in the client.
            let before = load.addresses.counts().unavailable.load(Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(500));
            BackendServer::Postgres.start();
            let unavailable = load.addresses.counts().unavailable.load(Ordering::SeqCst) - before;
            assert!(unavailable > 0, "no client got 503 during the outage");
        }
        load.wait_for_answers(20);
    });
    assert_nothing_lost(&fleet, &load, "PostgreSQL was restarted");
}

// F9
#[test]
fn replicas_survive_postgresql_restarts() {
    restart_postgres(FleetShape::Replicas(2));
}

// F9
#[test]
fn split_processes_survive_postgresql_restarts() {
    restart_postgres(FleetShape::Split);
}

/// Messages of all streams that are not on Kafka yet.
fn unpublished(fleet: &Fleet) -> i64 {
    let waiting = |service: &&str| {
        let sql = format!(
            "select cast((select count(*) from {service}.{service}_outbox) - (select coalesce(sum(seq), 0) from {service}.{service}_relay) as BIGINT)"
        );
        fleet.data_dir.backends().number(service, &sql)
    };
    contracts::SERVICES.iter().map(waiting).sum()
}

// F17
#[test]
fn messages_wait_in_the_outbox_during_a_broker_outage() {
    let _servers = exclusive();
    let (fleet, members) = Fleet::new_started(FleetShape::Split, &StartOptions::default(), SHOPPERS);
    // Orders answer before they rest, because their messages are not delivered during the outage.
    let load = LoadTest::prepare(fleet.addresses(), members, LoadTestOptions { wait: 1, ..LoadTestOptions::default() });
    load.run_during(|| {
        for mode in [StopMode::Graceful, StopMode::Kill].repeat(rounds()) {
            load.wait_for_answers(20);
            BackendServer::Kafka.stop(mode);
            // Orders are accepted without the broker.
            load.wait_for_answers(10);
            assert!(unpublished(&fleet) > 0, "messages left the outbox without the broker");
            BackendServer::Kafka.start();
        }
        load.wait_for_answers(20);
    });
    assert_nothing_lost(&fleet, &load, "the broker was restarted");
    assert_eq!(unpublished(&fleet), 0, "messages were left in the outbox");
}

// F17: all processes restart during a broker outage, and the mall starts for the first time in one
#[test]
fn processes_start_without_the_broker_and_catch_up() {
    let _servers = exclusive();
    let start = StartOptions::default();
    let mut fleet = Fleet::new(FleetShape::Split);
    BackendServer::Kafka.stop(StopMode::Kill);
    let members = fleet.seed_and_start(&start, SHOPPERS);
    BackendServer::Kafka.start();
    let load = LoadTest::prepare(fleet.addresses(), members, LoadTestOptions { wait: 1, ..LoadTestOptions::default() });
    load.run_during(|| {
        for _ in 0..rounds() {
            load.wait_for_answers(20);
            BackendServer::Kafka.stop(StopMode::Kill);
            for process in 0..fleet.len() {
                fleet.stop(process);
            }
            fleet.start_all(&start);
            // These processes have never connected to a broker.
            load.wait_for_answers(10);
            assert!(unpublished(&fleet) > 0, "messages left the outbox without the broker");
            BackendServer::Kafka.start();
        }
        load.wait_for_answers(20);
    });
    assert_nothing_lost(&fleet, &load, "started without the broker");
    assert_eq!(unpublished(&fleet), 0, "messages were left in the outbox");
}

fn redis_is_lost(shape: FleetShape) {
    let _servers = exclusive();
    let mut fleet = match shape {
        FleetShape::Replicas(_) => Fleet::on_backends(shape, journeys::backends::Backends::one_database().with_redis()),
        FleetShape::Split => Fleet::new(shape),
    };
    // Claims pass the gate in Redis, which must not issue more coupons after it lost its data.
    let members = fleet.seed_and_start(&StartOptions { claim_strategy: Some("redis"), ..StartOptions::default() }, SHOPPERS);
    let load = LoadTest::prepare(fleet.addresses(), members, LoadTestOptions::default());
    load.run_during(|| {
        for _ in 0..rounds() {
            // During the claims.
            load.wait_for_answers(10);
            BackendServer::Redis.restart(StopMode::Kill);
            load.wait_for_answers(20);
            BackendServer::Redis.stop(StopMode::Kill);
            // Everything works without Redis.
            load.wait_for_answers(20);
            BackendServer::Redis.start();
        }
        load.wait_for_answers(20);
    });
    assert_nothing_lost(&fleet, &load, "Redis was lost");
}

// F15
#[test]
fn replicas_survive_a_lost_redis() {
    redis_is_lost(FleetShape::Replicas(2));
}

// F15
#[test]
fn split_processes_survive_a_lost_redis() {
    redis_is_lost(FleetShape::Split);
}
