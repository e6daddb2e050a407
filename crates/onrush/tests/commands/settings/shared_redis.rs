//! Malls that share a Redis server.

use kit::http::layers;
use onrush::{
    mall::Mall,
    settings::{RawSettings, Settings},
};
use testkit::TempFolder;
use tower::ServiceExt;

/// Failed sign-ins per account before further ones get 429.
const ATTEMPTS: usize = 5;

async fn open(folder: &TempFolder, prefix: &str) -> Mall {
    let redis = std::env::var("ONRUSH_TEST_REDIS").expect("set ONRUSH_TEST_REDIS, or run ./scripts/services run -- cargo test …");
    let (data_dir, redis_prefix) = (Some(folder.path().to_owned()), Some(prefix.to_owned()));
    let raw = RawSettings { data_dir, redis: Some(redis), redis_prefix, ..RawSettings::default() };
    Mall::open(&Settings::load(&raw).expect("the settings are good")).await.expect("the mall opens")
}

/// Tries a wrong password. Returns the status.
async fn guess(mall: &Mall) -> u16 {
    let body = r#"{"email": "minji@example.com", "password": "a-wild-guess-2026"}"#;
    let request = http::Request::post("/v1/sessions")
        .header("content-type", "application/json")
        .body(axum::body::Body::from(body))
        .expect("a request");
    layers(mall.process.router.clone()).oneshot(request).await.expect("it answers").status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn malls_with_different_prefixes_do_not_see_each_other() {
    let folders = [TempFolder::new(), TempFolder::new(), TempFolder::new()];
    // The name of a temporary folder is unique.
    let prefix = |name: &str| format!("test{}:{name}:", folders[0].path().display());
    let (one, other) = (prefix("one"), prefix("other"));
    let first = open(&folders[0], &one).await;
    for _ in 0..ATTEMPTS {
        assert_eq!(guess(&first).await, 401);
    }
    assert_eq!(guess(&first).await, 429);
    let (same, another) = (open(&folders[1], &one).await, open(&folders[2], &other).await);
    assert_eq!(guess(&same).await, 429, "malls with the same prefix share their counts");
    assert_eq!(guess(&another).await, 401, "a mall with another prefix has its own count");
    for mall in [first, same, another] {
        mall.process.stop().await;
    }
}
