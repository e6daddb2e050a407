//! The connection while the server is down, hangs, is emptied or rejects writes (F15, F16).

use crate::redis::support::{Server, address, eventually, flush, manual_clock, never_open, redis};
use kit::{
    breaker::{BreakerSettings, BreakerState},
    ports::SystemClock,
    redis::{Redis, RedisError, RedisSettings, Script, cmd},
};
use std::{sync::Arc, time::Duration};

async fn ping(redis: &Redis) -> Result<String, RedisError> {
    redis.call(&cmd("PING")).await
}

/// Calls until the breaker is open. Every call must fail as an outage.
async fn fail_until_open(redis: &Redis) {
    for _ in 0..100 {
        if redis.breaker().state() == BreakerState::Open {
            return;
        }
        let failed = ping(redis).await;
        assert!(matches!(failed, Err(RedisError::Unavailable(_))), "{failed:?}");
    }
    panic!("the breaker does not open");
}

#[tokio::test]
async fn redis_may_start_after_the_process() {
    let mut server = Server::start().await;
    server.kill();
    let (clock, shared_clock) = manual_clock();
    let redis = server.connect(BreakerSettings::default(), shared_clock);
    assert_eq!(redis.breaker().state(), BreakerState::Closed);
    fail_until_open(&redis).await;
    server.restart().await;
    assert!(ping(&redis).await.is_err(), "the breaker is open");
    eventually("Redis is used again", || async {
        clock.advance(BreakerSettings::default().open_for);
        ping(&redis).await.is_ok() && ping(&redis).await.is_ok() && redis.breaker().state() == BreakerState::Closed
    })
    .await;
}

// F16
#[tokio::test]
async fn a_hanging_server_opens_the_breaker() {
    let server = Server::start().await;
    let (clock, shared_clock) = manual_clock();
    let redis = server.connect(BreakerSettings::default(), shared_clock);
    assert_eq!(ping(&redis).await.unwrap(), "PONG");
    server.freeze();
    // Each call returns, or the test would not end.
    fail_until_open(&redis).await;
    let open = ping(&redis).await.unwrap_err();
    assert!(open.to_string().contains("not tried"), "{open}");
    clock.advance(BreakerSettings::default().open_for);
    assert_eq!(redis.breaker().state(), BreakerState::HalfOpen);
    assert!(ping(&redis).await.is_err(), "still hanging");
    assert_eq!(redis.breaker().state(), BreakerState::Open);
    server.thaw();
    eventually("Redis is used again", || async {
        clock.advance(BreakerSettings::default().open_for);
        ping(&redis).await.is_ok() && redis.breaker().state() == BreakerState::Closed
    })
    .await;
}

// F15
#[tokio::test]
async fn scripts_survive_restarts_and_flushes() {
    let mut server = Server::start().await;
    let redis = server.connect(never_open(), Arc::new(SystemClock));
    let script = Script::new("return redis.call('INCR', KEYS[1])");
    let count = async || redis.run::<i64>(&script.key("count")).await;
    assert_eq!(count().await.unwrap(), 1);
    assert_eq!(count().await.unwrap(), 2);
    let all = server.patient_client();
    flush(&all).await;
    all.call::<()>(cmd("SCRIPT").arg("FLUSH")).await.unwrap();
    assert_eq!(count().await.unwrap(), 1, "the script is loaded again");
    server.restart().await;
    eventually("reconnected to the empty server", || async { count().await.is_ok() }).await;
    assert!(count().await.unwrap() > 1);
}

// F15
#[tokio::test]
async fn a_server_demoted_to_replica_counts_as_down() {
    let server = Server::start().await;
    let (_clock, shared_clock) = manual_clock();
    let redis = server.connect(BreakerSettings::default(), shared_clock);
    // The named master does not exist.
    server.patient_client().call::<()>(cmd("REPLICAOF").arg("127.0.0.1").arg(1)).await.unwrap();
    let mut write = cmd("SET");
    write.arg("a").arg(1);
    let refused = redis.call::<()>(&write).await;
    assert!(matches!(&refused, Err(RedisError::Unavailable(text)) if text.to_uppercase().contains("READONLY")), "{refused:?}");
    for _ in 0..10 {
        redis.call::<()>(&write).await.unwrap_err();
    }
    assert_eq!(redis.breaker().state(), BreakerState::Open);
}

// F15
#[tokio::test]
async fn a_full_redis_refuses_writes_and_keeps_reading() {
    let server = Server::start().await;
    let (_clock, shared_clock) = manual_clock();
    let redis = server.connect(BreakerSettings::default(), shared_clock);
    let admin = server.patient_client();
    admin.call::<()>(cmd("CONFIG").arg("SET").arg("maxmemory-policy").arg("noeviction")).await.unwrap();
    admin.call::<()>(cmd("CONFIG").arg("SET").arg("maxmemory").arg("1")).await.unwrap();
    for _ in 0..20 {
        let refused = redis.call::<()>(cmd("SET").arg("a").arg(1)).await;
        assert!(matches!(refused, Err(RedisError::Refused(_))), "{refused:?}");
    }
    assert_eq!(redis.breaker().state(), BreakerState::Closed);
    assert_eq!(redis.call::<Option<i64>>(cmd("GET").arg("a")).await.unwrap(), None);
}

#[tokio::test]
async fn a_wrong_command_does_not_open_the_breaker() {
    let redis = redis();
    for _ in 0..20 {
        assert!(matches!(redis.call::<()>(&cmd("NO-SUCH-COMMAND")).await, Err(RedisError::Refused(_))));
        assert!(matches!(redis.call::<i64>(&cmd("PING")).await, Err(RedisError::Refused(_))), "not a number");
    }
    assert_eq!(redis.breaker().state(), BreakerState::Closed);
    assert_eq!(ping(&redis).await.unwrap(), "PONG");
}

#[tokio::test]
async fn a_refused_password_is_tried_again() {
    let server = Server::start().await;
    let admin = server.patient_client();
    let url = server.url().replace("redis://", "redis://:right@");
    let settings = RedisSettings { call_timeout: Duration::from_secs(10), prefix: String::new(), breaker: never_open() };
    admin.call::<()>(cmd("CONFIG").arg("SET").arg("requirepass").arg("other")).await.unwrap();
    let redis = Redis::connect(&url, settings, Arc::new(SystemClock)).unwrap();
    let refused = ping(&redis).await;
    assert!(matches!(refused, Err(RedisError::Unavailable(_))), "{refused:?}");
    assert!(!format!("{redis:?} {refused:?}").contains("right"), "the password is not shown");
    admin.call::<()>(cmd("CONFIG").arg("SET").arg("requirepass").arg("right")).await.unwrap();
    eventually("the new password is used", || async { ping(&redis).await.is_ok() }).await;
}

#[tokio::test]
async fn a_malformed_address_is_refused_at_once() {
    for wrong in ["", "127.0.0.1:6379", "http://127.0.0.1", "redis://127.0.0.1:notaport"] {
        let refused = Redis::connect(wrong, RedisSettings::default(), Arc::new(SystemClock));
        assert!(matches!(refused, Err(RedisError::Address(_))), "{wrong}: {refused:?}");
    }
    Redis::connect(&address(), RedisSettings::default(), Arc::new(SystemClock)).unwrap();
}
