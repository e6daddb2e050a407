use crate::remote::support::{FaultyProxy, ProxyMode, Server, TIME_LIMIT, unused_address};
use axum::{Router, routing::get};
use bytes::Bytes;
use http::Request;
use kit::http::client::{Client, ClientError, ClientSettings};
use std::time::Duration;

async fn server() -> Server {
    Server::start(Router::new().route("/v1/hello", get(async || "hello")).route("/v1/long", get(async || "x".repeat(10_000)))).await
}

fn request(base: &str, path: &str) -> Request<Bytes> {
    Request::get(format!("{base}{path}")).body(Bytes::new()).expect("a request")
}

#[tokio::test]
async fn connections_are_kept() {
    let server = server().await;
    let proxy = FaultyProxy::before(server.address, ProxyMode::PassThrough).await;
    let client = Client::new(ClientSettings::default());
    for _ in 0..10 {
        let response = client.send(request(&proxy.url(), "/v1/hello"), TIME_LIMIT).await.expect("an answer");
        assert_eq!(response.body(), "hello");
    }
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn errors_say_whether_something_was_sent() {
    let server = server().await;
    let proxy = FaultyProxy::before(server.address, ProxyMode::Disconnect).await;
    let client = Client::new(ClientSettings { max_answer: 9_999, ..ClientSettings::default() });
    let ask = async |base: &str, path: &str, limit| client.send(request(base, path), limit).await.expect_err("the request fails");

    let refused = ask(&unused_address(), "/", TIME_LIMIT).await;
    assert!(matches!(refused, ClientError::Connect(_)) && refused.nothing_was_sent(), "{refused}");
    let lost = ask(&proxy.url(), "/v1/hello", TIME_LIMIT).await;
    assert!(matches!(lost, ClientError::Lost(_)) && !lost.nothing_was_sent(), "{lost}");
    proxy.set(ProxyMode::Silent);
    let silent = ask(&proxy.url(), "/v1/hello", Duration::from_millis(100)).await;
    assert!(matches!(silent, ClientError::TimedOut(_)) && !silent.nothing_was_sent(), "{silent}");
    let long = ask(&server.url(), "/v1/long", TIME_LIMIT).await;
    assert!(matches!(long, ClientError::TooLarge(9_999)), "{long}");
    let tls = ask(&server.url().replace("http:", "https:"), "/v1/hello", TIME_LIMIT).await;
    assert!(tls.nothing_was_sent(), "{tls}");
}
