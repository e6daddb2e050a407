//! Browsers and several processes: one cookie for all of them, with Redis between them, without it, and where accounts run elsewhere.

use crate::support::*;
use accounts::{Accounts, AccountsSettings};
use kit::{
    Kit, Service,
    redis::Redis,
    testing::{App, Puppet, Shape, TestRedis},
};
use serde_json::json;
use std::sync::Arc;

/// A process of its own: what it keeps in Redis goes through its own connection.
fn with(redis: Option<Redis>) -> impl Fn(&Kit) -> Vec<Arc<dyn Service>> {
    move |kit| services(&sharing(kit, redis.clone()))
}

fn sharing(kit: &Kit, redis: Option<Redis>) -> Kit {
    let mut kit = kit.clone();
    kit.redis = redis;
    kit
}

async fn two(one: Option<Redis>, other: Option<Redis>) -> (App, App) {
    let one = App::builder().on_postgres().await.partitions(4).start(with(one)).await;
    let other = one.beside(with(other)).await;
    sign_up(&one, "minji@example.com").await;
    (one, other)
}

async fn sign_out(app: &App, cookie: &str) {
    let _ = from_our_page(app.delete("/v1/web-sessions/current")).header("cookie", cookie).send().await.expect(204);
}

// A13, row 28
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_is_known_everywhere_and_forgotten_everywhere() {
    let redis = TestRedis::start().await;
    for (first, second) in [(Some(redis.patient()), Some(redis.patient())), (None, None)] {
        let (one, other) = two(first, second).await;
        let (gone, kept) = (web_sign_in(&one, "minji@example.com").await, web_sign_in(&other, "minji@example.com").await);
        for app in [&one, &other] {
            assert!(is_known(app, &gone).await && is_known(app, &kept).await);
        }
        sign_out(&one, &gone).await;
        assert!(!is_known(&one, &gone).await);
        soon(async || !is_known(&other, &gone).await).await;
        assert!(is_known(&other, &kept).await && is_known(&one, &kept).await, "another session is not concerned");
    }
}

// A13, row 28: the process that ends the session cannot reach the Redis in which others have copies of it
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_in_redis_keeps_no_session_alive() {
    let redis = TestRedis::start().await;
    let (one, other) = two(None, Some(redis.patient())).await;
    let cookie = web_sign_in(&one, "minji@example.com").await;
    assert!(is_known(&other, &cookie).await);
    let copies = async || {
        let keys: Vec<String> = redis.patient().call(kit::redis::cmd("KEYS").arg("*copy*session:web*")).await.expect("it answers");
        keys.len()
    };
    assert_eq!(copies().await, 1);
    sign_out(&one, &cookie).await;
    soon(async || !is_known(&other, &cookie).await).await;
    assert_eq!(copies().await, 1, "it is still there");
}

// A13, F15: Redis was emptied, and is gone
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_redis_signs_nobody_out() {
    let mut redis = TestRedis::start().await;
    let (one, other) = two(Some(redis.patient()), Some(redis.patient())).await;
    let cookie = web_sign_in(&one, "minji@example.com").await;
    let is_known_to_both = async || is_known(&one, &cookie).await && is_known(&other, &cookie).await;
    assert!(is_known_to_both().await);
    redis.patient().call::<()>(&kit::redis::cmd("FLUSHALL")).await.expect("it answers");
    assert!(is_known_to_both().await);
    redis.kill();
    assert!(is_known_to_both().await);
    let new = web_sign_in(&other, "minji@example.com").await;
    assert!(is_known(&one, &new).await);
    sign_out(&one, &cookie).await;
    soon(async || !is_known(&other, &cookie).await).await;
    redis.restart().await;
    assert!(!is_known(&one, &cookie).await && !is_known(&other, &cookie).await);
    assert!(is_known(&one, &new).await && is_known(&other, &new).await);
}

// A13, rows 28 and 35: four processes, one of which runs accounts
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_without_accounts_know_browsers_too() {
    let redis = TestRedis::start().await;
    for redis in [None, Some(redis.patient())] {
        let build = |kit: &Kit| -> Vec<Arc<dyn Service>> {
            let kit = sharing(kit, redis.clone());
            let others = contracts::SERVICES.iter().filter(|name| **name != "accounts").map(|name| Puppet::new(&kit, name));
            others.chain([Arc::new(Accounts::new(kit.clone(), AccountsSettings::default())) as Arc<dyn Service>]).collect()
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
        // By whichever process it comes in.
        let kept = cookies.pop().expect("four browsers");
        for cookie in &cookies {
            sign_out(&app, cookie).await;
            soon(async || statuses(cookie).await == [401; 4]).await;
            for answer in app.get("/v1/me").header("cookie", cookie).send_to_each().await {
                assert!(answer.headers["set-cookie"].to_str().is_ok_and(|cleared| cleared.ends_with("Max-Age=0")));
            }
        }
        assert_eq!(statuses(&kept).await, [200; 4]);
        app.stop().await;
    }
}
