//! Rate limits shared by all instances.

use crate::redis::support::{Server, eventually, flush, instance, manual_clock, never_open, prefix, redis};
use axum::response::IntoResponse;
use contracts::Code;
use futures::future::join_all;
use kit::{
    auth::LoginAttempts,
    breaker::BreakerSettings,
    limits::{LimitSettings, Limits},
    ports::{Clock, SystemClock},
    redis::{Redis, cmd, rate_limit::RateLimit},
};
use std::{net::IpAddr, sync::Arc, time::Duration};

const HOUR: Duration = Duration::from_secs(3600);

fn limit(redis: &Redis, rate: &str) -> RateLimit {
    RateLimit::new(Some(redis.clone()), "test", Some(rate.parse().expect("a rate")), Arc::new(SystemClock))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn instances_share_the_count() {
    let prefix = prefix();
    let instances: Vec<RateLimit> = (0..2).map(|_| limit(&instance(&prefix), "1/hour burst 10")).collect();
    let tries = join_all((0..60).map(|number| {
        let limit = instances[number % 2].clone();
        async move { limit.take("somebody").await }
    }))
    .await;
    assert_eq!(tries.iter().filter(|one| one.is_ok()).count(), 10);
    for refused in tries.iter().filter_map(|one| one.as_ref().err()) {
        assert!(refused.wait > Duration::ZERO && refused.wait <= HOUR, "{refused}");
    }
    assert!(instances[1].check("somebody").await.is_err());
    assert!(instances[0].take("another subject").await.is_ok());
}

#[tokio::test]
async fn returned_attempts_are_not_counted() {
    let prefix = prefix();
    let (one, two) = (limit(&instance(&prefix), "1/hour burst 2"), limit(&instance(&prefix), "1/hour burst 2"));
    one.take("a").await.unwrap();
    one.take("a").await.unwrap();
    two.take("a").await.unwrap_err();
    one.give_back("a").await;
    two.check("a").await.unwrap();
    two.take("a").await.unwrap();
    one.take("a").await.unwrap_err();
    two.reset("a").await;
    for _ in 0..2 {
        one.take("a").await.expect("the other instance reset the count for both");
    }
    one.take("a").await.unwrap_err();
}

#[tokio::test]
async fn a_bucket_gains_tokens_by_the_time_of_redis() {
    let limit = limit(&redis(), "10/second burst 1");
    limit.take("a").await.unwrap();
    eventually("the bucket has a token again", || async { limit.take("a").await.is_ok() }).await;
}

#[tokio::test]
async fn keys_expire_when_full_and_hide_the_subject() {
    let prefix = prefix();
    let redis = instance(&prefix);
    limit(&redis, "1/hour burst 5").take("somebody@example.com 203.0.113.1").await.unwrap();
    let keys: Vec<String> = redis.call(cmd("KEYS").arg(format!("{prefix}*"))).await.unwrap();
    assert_eq!(keys.len(), 1);
    assert!(!keys[0].contains("example") && !keys[0].contains("203"), "{keys:?}");
    let left: i64 = redis.call(cmd("PTTL").arg(&keys[0])).await.unwrap();
    assert!(left > 0 && left <= 3_600_001, "{left}");
}

// L8: the server's clock was a day ahead for a moment
#[tokio::test]
async fn a_bucket_of_a_time_ahead_counts_as_full() {
    let prefix = prefix();
    let redis = instance(&prefix);
    let limit = limit(&redis, "30/hour burst 5");
    limit.take("a").await.unwrap();
    let keys: Vec<String> = redis.call(cmd("KEYS").arg(format!("{prefix}*"))).await.unwrap();
    let (seconds, _): (i64, i64) = redis.call(&cmd("TIME")).await.unwrap();
    redis.call::<()>(cmd("SET").arg(&keys[0]).arg((seconds + 24 * 3600) * 1_000_000)).await.unwrap();
    for _ in 0..5 {
        limit.take("a").await.expect("the bucket is full");
    }
    assert!(limit.take("a").await.unwrap_err().wait <= HOUR / 30);
}

// F15
#[tokio::test]
async fn without_redis_each_instance_limits_itself() {
    let mut server = Server::start().await;
    let (clock, shared_clock) = manual_clock();
    let new = || {
        let redis = server.connect(never_open(), Arc::new(SystemClock));
        RateLimit::new(Some(redis), "test", "1/hour burst 3".parse().ok(), Arc::clone(&shared_clock))
    };
    let (one, two) = (new(), new());
    one.take("a").await.unwrap();
    two.take("a").await.unwrap();
    server.kill();
    // Each instance knows its own attempt: one of three.
    for limit in [&one, &two] {
        let passed = join_all((0..5).map(|_| limit.take("a"))).await.into_iter().filter(Result::is_ok).count();
        assert_eq!(passed, 2);
        limit.reset("b").await;
        limit.give_back("a").await;
        limit.take("a").await.expect("one attempt was returned");
        assert_eq!(limit.take("a").await.unwrap_err().wait, HOUR);
    }
    clock.advance(HOUR);
    one.take("a").await.expect("the local bucket gained a token");
    server.restart().await;
    let redis = server.patient_client();
    eventually("the count is shared again", || async {
        one.take("b").await.unwrap();
        one.give_back("b").await;
        one.take("c").await.ok();
        redis.call::<i64>(&cmd("DBSIZE")).await.is_ok_and(|keys| keys > 0)
    })
    .await;
}

// F15
#[tokio::test]
async fn an_emptied_redis_restarts_the_count() {
    let server = Server::start().await;
    let redis = server.patient_client();
    let limit = limit(&redis, "1/hour burst 1");
    limit.take("a").await.unwrap();
    limit.take("a").await.unwrap_err();
    flush(&redis).await;
    limit.take("a").await.unwrap();
    limit.take("a").await.unwrap_err();
}

fn logins(redis: Redis) -> LoginAttempts {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    LoginAttempts::new(Arc::new(Limits::new(&LimitSettings::default(), Some(&redis), &clock)), Some(redis))
}

// row 30, across instances
#[tokio::test]
async fn wrong_passwords_count_at_every_instance() {
    let prefix = prefix();
    let (one, two) = (logins(instance(&prefix)), logins(instance(&prefix)));
    let address: IpAddr = [203, 0, 113, 1].into();
    for number in 0..5 {
        let logins = if number % 2 == 0 { &one } else { &two };
        logins.begin("a@example.com", address).await.expect("five attempts are allowed").failed().await;
    }
    for logins in [&one, &two] {
        let problem = logins.begin("a@example.com", address).await.expect_err("the sixth attempt is rejected");
        assert_eq!(problem.code(), Code::TooManyAttempts);
        let response = problem.into_response();
        let seconds: u32 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=600).contains(&seconds), "{seconds}");
    }
    one.begin("b@example.com", address).await.expect("another account is not limited").not_verified().await;
}

// H2, M10, across instances
#[tokio::test]
async fn an_address_is_known_at_every_instance() {
    let prefix = prefix();
    let (one, two) = (logins(instance(&prefix)), logins(instance(&prefix)));
    let address: IpAddr = [203, 0, 113, 1].into();
    one.begin("owner@example.com", address).await.expect("it is the first").succeeded().await.expect("it is the first");
    for number in 0..100 {
        two.begin(&format!("member{number}@example.com"), address).await.expect("a hundred are allowed").failed().await;
    }
    for logins in [&one, &two] {
        assert!(logins.begin("stranger@example.com", address).await.is_err());
        logins.begin("owner@example.com", address).await.expect("the owner is known here").succeeded().await.expect("few sessions");
    }
}

// F16
#[tokio::test]
async fn a_hanging_redis_does_not_lift_the_limit() {
    let server = Server::start().await;
    let (_clock, clock) = manual_clock();
    let redis = server.connect(BreakerSettings::default(), Arc::clone(&clock));
    let limit = RateLimit::new(Some(redis), "test", "1/hour burst 4".parse().ok(), clock);
    limit.take("a").await.unwrap();
    server.freeze();
    let passed = join_all((0..20).map(|_| limit.take("a"))).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(passed, 3);
    server.thaw();
}
