//! Rate limits shared by all instances.

use crate::redis::support::{Server, eventually, flush, instance, manual_clock, never_open, prefix, redis};
use axum::response::IntoResponse;
use contracts::Code;
use futures::future::join_all;
use kit::{
    auth::LoginAttempts,
    breaker::BreakerSettings,
    ports::{Clock, SystemClock},
    redis::{Redis, rate_limit::RateLimit},
};
use std::{net::IpAddr, sync::Arc, time::Duration};

const HOUR: Duration = Duration::from_secs(3600);

fn limit(redis: &Redis, limit: u32, window: Duration) -> RateLimit {
    RateLimit::new(Some(redis.clone()), "test", limit, window, Arc::new(SystemClock))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn instances_share_the_count() {
    let prefix = prefix();
    let instances: Vec<RateLimit> = (0..2).map(|_| limit(&instance(&prefix), 10, HOUR)).collect();
    let tries = join_all((0..60).map(|number| {
        let limit = instances[number % 2].clone();
        async move { limit.take("somebody").await }
    }))
    .await;
    assert_eq!(tries.iter().filter(|one| one.is_ok()).count(), 10);
    for refused in tries.iter().filter_map(|one| one.as_ref().err()) {
        assert!(refused.wait > Duration::ZERO && refused.wait <= HOUR, "{refused}");
    }
    assert!(instances[0].take("another subject").await.is_ok());
}

#[tokio::test]
async fn returned_attempts_are_not_counted() {
    let prefix = prefix();
    let (one, two) = (limit(&instance(&prefix), 2, HOUR), limit(&instance(&prefix), 2, HOUR));
    one.take("a").await.unwrap();
    one.take("a").await.unwrap();
    two.take("a").await.unwrap_err();
    one.give_back("a").await;
    two.take("a").await.unwrap();
    one.take("a").await.unwrap_err();
    two.reset("a").await;
    for _ in 0..2 {
        one.take("a").await.expect("the other instance reset the count for both");
    }
    one.take("a").await.unwrap_err();
}

#[tokio::test]
async fn the_window_slides() {
    let limit = limit(&redis(), 1, Duration::from_millis(100));
    limit.take("a").await.unwrap();
    eventually("the first attempt has left the window", || async { limit.take("a").await.is_ok() }).await;
}

#[tokio::test]
async fn keys_expire_with_the_window_and_hide_the_subject() {
    let prefix = prefix();
    let redis = instance(&prefix);
    limit(&redis, 5, HOUR).take("somebody@example.com 203.0.113.1").await.unwrap();
    let keys: Vec<String> = redis.call(kit::redis::cmd("KEYS").arg(format!("{prefix}*"))).await.unwrap();
    assert_eq!(keys.len(), 1);
    assert!(!keys[0].contains("example") && !keys[0].contains("203"), "{keys:?}");
    let left: i64 = redis.call(kit::redis::cmd("PTTL").arg(&keys[0])).await.unwrap();
    assert!(left > 0 && left <= 3_600_001, "{left}");
}

#[tokio::test]
async fn a_limit_of_zero_rejects_everything() {
    assert!(limit(&redis(), 0, HOUR).take("a").await.is_err());
}

// F15
#[tokio::test]
async fn without_redis_each_instance_limits_itself() {
    let mut server = Server::start().await;
    let (clock, shared_clock) = manual_clock();
    let new = || RateLimit::new(Some(server.connect(never_open(), Arc::new(SystemClock))), "test", 3, HOUR, Arc::clone(&shared_clock));
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
    one.take("a").await.expect("the local window slides");
    server.restart().await;
    let redis = server.patient_client();
    eventually("the count is shared again", || async {
        one.take("b").await.unwrap();
        one.give_back("b").await;
        one.take("c").await.ok();
        redis.call::<i64>(&kit::redis::cmd("DBSIZE")).await.is_ok_and(|keys| keys > 0)
    })
    .await;
}

// F15
#[tokio::test]
async fn an_emptied_redis_restarts_the_count() {
    let server = Server::start().await;
    let redis = server.patient_client();
    let limit = limit(&redis, 1, HOUR);
    limit.take("a").await.unwrap();
    limit.take("a").await.unwrap_err();
    flush(&redis).await;
    limit.take("a").await.unwrap();
    limit.take("a").await.unwrap_err();
}

// row 30, across instances
#[tokio::test]
async fn wrong_passwords_count_at_every_instance() {
    let prefix = prefix();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (one, two) =
        (LoginAttempts::shared(Some(instance(&prefix)), Arc::clone(&clock)), LoginAttempts::shared(Some(instance(&prefix)), clock));
    let address: IpAddr = [203, 0, 113, 1].into();
    for number in 0..5 {
        let logins = if number % 2 == 0 { &one } else { &two };
        logins.begin("a@example.com", address).await.expect("five attempts are allowed");
    }
    for logins in [&one, &two] {
        let problem = logins.begin("a@example.com", address).await.expect_err("the sixth attempt is rejected");
        assert_eq!(problem.code(), Code::TooManyAttempts);
        let response = problem.into_response();
        let seconds: u32 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=600).contains(&seconds), "{seconds}");
    }
    one.begin("b@example.com", address).await.expect("another account is not limited");
    // Five attempts and these two. A right password resets the count on all instances.
    two.succeeded("a@example.com", address).await;
    one.begin("a@example.com", address).await.expect("the count was reset");
    one.not_verified("a@example.com", address).await;
}

// F16
#[tokio::test]
async fn a_hanging_redis_does_not_lift_the_limit() {
    let server = Server::start().await;
    let (_clock, clock) = manual_clock();
    let redis = server.connect(BreakerSettings::default(), Arc::clone(&clock));
    let limit = RateLimit::new(Some(redis), "test", 4, HOUR, clock);
    limit.take("a").await.unwrap();
    server.freeze();
    let passed = join_all((0..20).map(|_| limit.take("a"))).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(passed, 3);
    server.thaw();
}
