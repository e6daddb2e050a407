//! Browser sessions on several processes: with Redis, without Redis, and on processes without accounts.

use crate::support::*;
use accounts::{Accounts, AccountsSettings};
use kit::{Kit, Module, redis::Redis};
use serde_json::json;
use std::sync::Arc;
use testkit::{App, Shape, StubService, TestRedis};

/// Services of a process with its own Redis connection.
fn services_with_redis(redis: Option<Redis>) -> impl Fn(&Kit) -> Vec<Arc<dyn Module>> {
    move |kit| services(&kit_with_redis(kit, redis.clone()))
}

fn kit_with_redis(kit: &Kit, redis: Option<Redis>) -> Kit {
    let mut kit = kit.clone();
    kit.redis = redis;
    kit
}

async fn two_processes(one: Option<Redis>, other: Option<Redis>) -> (App, App) {
    let one = App::builder().on_postgres().partitions(4).start(services_with_redis(one)).await;
    let other = one.start_another_process(services_with_redis(other)).await;
    sign_up(&one, "minji@example.com").await;
    (one, other)
}

async fn sign_out(app: &App, cookie: &str) {
    let _ = from_our_page(app.delete("/v1/web-sessions/current")).header("cookie", cookie).send().await.expect(204);
}

// A13, row 28
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_works_and_ends_on_all_processes() {
    let redis = TestRedis::start().await;
    for (first, second) in [(Some(redis.patient_client()), Some(redis.patient_client())), (None, None)] {
        let (one, other) = two_processes(first, second).await;
        let (gone, kept) = (web_sign_in(&one, "minji@example.com").await, web_sign_in(&other, "minji@example.com").await);
        for app in [&one, &other] {
            assert!(is_signed_in(app, &gone).await && is_signed_in(app, &kept).await);
        }
        sign_out(&one, &gone).await;
        assert!(!is_signed_in(&one, &gone).await);
        wait_until(async || !is_signed_in(&other, &gone).await).await;
        assert!(is_signed_in(&other, &kept).await && is_signed_in(&one, &kept).await, "another session is not concerned");
    }
}

// A13, row 28: the process that ends the session cannot reach the Redis that holds cached cached_copies of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_session_does_not_outlive_its_end() {
    let redis = TestRedis::start().await;
    let (one, other) = two_processes(None, Some(redis.patient_client())).await;
    let cookie = web_sign_in(&one, "minji@example.com").await;
    assert!(is_signed_in(&other, &cookie).await);
    let cached_copies = async || {
        let keys: Vec<String> = redis.patient_client().call(kit::redis::cmd("KEYS").arg("*copy*session:web*")).await.expect("it answers");
        keys.len()
    };
    assert_eq!(cached_copies().await, 1);
    sign_out(&one, &cookie).await;
    wait_until(async || !is_signed_in(&other, &cookie).await).await;
    assert_eq!(cached_copies().await, 1, "the copy is still there");
}

// A13, F15: Redis is emptied, then killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_redis_ends_no_session() {
    let mut redis = TestRedis::start().await;
    let (one, other) = two_processes(Some(redis.patient_client()), Some(redis.patient_client())).await;
    let cookie = web_sign_in(&one, "minji@example.com").await;
    let on_both = async || is_signed_in(&one, &cookie).await && is_signed_in(&other, &cookie).await;
    assert!(on_both().await);
    redis.patient_client().call::<()>(&kit::redis::cmd("FLUSHALL")).await.expect("it answers");
    assert!(on_both().await);
    redis.kill();
    assert!(on_both().await);
    let new = web_sign_in(&other, "minji@example.com").await;
    assert!(is_signed_in(&one, &new).await);
    sign_out(&one, &cookie).await;
    wait_until(async || !is_signed_in(&other, &cookie).await).await;
    redis.restart().await;
    assert!(!is_signed_in(&one, &cookie).await && !is_signed_in(&other, &cookie).await);
    assert!(is_signed_in(&one, &new).await && is_signed_in(&other, &new).await);
}

// A13, rows 28 and 35: four processes, of which one runs accounts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_work_on_processes_without_accounts() {
    let redis = TestRedis::start().await;
    for redis in [None, Some(redis.patient_client())] {
        let build = |kit: &Kit| -> Vec<Arc<dyn Module>> {
            let kit = kit_with_redis(kit, redis.clone());
            let others = contracts::SERVICES
                .iter()
                .filter(|name| **name != "accounts")
                .map(|name| Arc::new(StubService::new(&kit, name)) as Arc<dyn Module>);
            others.chain([Arc::new(Accounts::new(kit.clone(), AccountsSettings::default())) as Arc<dyn Module>]).collect()
        };
        let app = App::builder().start_in(Shape::Split, build).await;
        sign_up(&app, "minji@example.com").await;
        let body = json!({"email": "minji@example.com", "password": PASSWORD});
        let ours = app.post("/v1/web-sessions").header("host", "shop.example").header("origin", "https://shop.example").json(&body);
        let mut cookies: Vec<String> = Vec::new();
        for answer in ours.send_to_each().await {
            let given = answer.expect(200).headers["set-cookie"].to_str().expect("ASCII").to_owned();
            cookies.push(given.split(';').next().expect("a cookie").to_owned());
        }
        let statuses = async |cookie: &str| -> Vec<u16> {
            app.get("/v1/me").header("cookie", cookie).send_to_each().await.iter().map(|answer| answer.status).collect()
        };
        for cookie in &cookies {
            assert_eq!(statuses(cookie).await, [200; 4]);
            let edit = app.patch("/v1/me").header("cookie", cookie).json(&json!({"name": "Mallory"}));
            for answer in edit.header("sec-fetch-site", "cross-site").send_to_each().await {
                let _ = answer.expect_problem(403, "csrf");
            }
            let edit = app.patch("/v1/me").header("cookie", cookie).json(&json!({"name": "Jisoo"}));
            for answer in edit.header("sec-fetch-site", "same-origin").send_to_each().await {
                let _ = answer.expect(200);
            }
        }
        // Through any process.
        let kept = cookies.pop().expect("four browsers");
        for cookie in &cookies {
            sign_out(&app, cookie).await;
            wait_until(async || statuses(cookie).await == [401; 4]).await;
            for answer in app.get("/v1/me").header("cookie", cookie).send_to_each().await {
                assert!(answer.headers["set-cookie"].to_str().is_ok_and(|cleared| cleared.ends_with("Max-Age=0")));
            }
        }
        assert_eq!(statuses(&kept).await, [200; 4]);
        app.stop().await;
    }
}
