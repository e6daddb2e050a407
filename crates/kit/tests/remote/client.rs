use crate::stage::{Door, Mood, PATIENCE, Server, nobody};
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
    let door = Door::before(server.address, Mood::Open).await;
    let client = Client::new(ClientSettings::default());
    for _ in 0..10 {
        let response = client.send(request(&door.url(), "/v1/hello"), PATIENCE).await.expect("an answer");
        assert_eq!(response.body(), "hello");
    }
    assert_eq!(door.connections(), 1);
}

#[tokio::test]
async fn errors_say_whether_something_was_sent() {
    let server = server().await;
    let door = Door::before(server.address, Mood::Dying).await;
    let client = Client::new(ClientSettings { max_answer: 9_999, ..ClientSettings::default() });
    let ask = async |base: &str, path: &str, limit| client.send(request(base, path), limit).await.expect_err("it fails");

    let refused = ask(&nobody(), "/", PATIENCE).await;
    assert!(matches!(refused, ClientError::Connect(_)) && refused.nothing_was_sent(), "{refused}");
    let lost = ask(&door.url(), "/v1/hello", PATIENCE).await;
    assert!(matches!(lost, ClientError::Lost(_)) && !lost.nothing_was_sent(), "{lost}");
    door.set(Mood::Silent);
    let silent = ask(&door.url(), "/v1/hello", Duration::from_millis(100)).await;
    assert!(matches!(silent, ClientError::TimedOut(_)) && !silent.nothing_was_sent(), "{silent}");
    let long = ask(&server.url(), "/v1/long", PATIENCE).await;
    assert!(matches!(long, ClientError::TooLarge(9_999)), "{long}");
    let tls = ask(&server.url().replace("http:", "https:"), "/v1/hello", PATIENCE).await;
    assert!(tls.nothing_was_sent(), "{tls}");
}
