//! Requests and answers that a gateway forwards unchanged, and those it rejects.

use crate::remote::support::{Installation, START, Server, get, json, problem, send, unused_address};
use axum::{
    Router,
    extract::Request as Incoming,
    response::{IntoResponse, Response},
    routing::any,
};
use bytes::Bytes;
use contracts::MemberId;
use http::{Method, Request, StatusCode};
use kit::{
    auth::Role,
    http::{BODY_LIMIT, STRANGER_BODY_LIMIT},
    ports::new_id,
};
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A service that answers with the received request, and a counter of requests.
async fn echo() -> (Server, Arc<AtomicUsize>) {
    let count: Arc<AtomicUsize> = Arc::default();
    let counted = Arc::clone(&count);
    let handler = async move |request: Incoming| -> Response {
        counted.fetch_add(1, Ordering::SeqCst);
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
        if parts.uri.query() == Some("empty") {
            return StatusCode::NO_CONTENT.into_response();
        }
        let said = json!({
            "method": parts.method.as_str(), "target": parts.uri.to_string(), "length": body.len(),
            "host": parts.headers["host"].to_str().expect("ASCII"), "authorized": parts.headers.contains_key("authorization"),
        });
        let headers = [("location", "/v1/things/7"), ("x-test", "kept"), ("content-type", "application/json")];
        (StatusCode::CREATED, headers, said.to_string()).into_response()
    };
    (Server::start(Router::new().route("/{*path}", any(handler))).await, count)
}

#[tokio::test]
async fn method_target_body_status_and_headers_go_through() {
    let (service, _) = echo().await;
    let gateway = Installation::new(&format!("things={}", service.url())).start_gateway().await;
    for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let url = format!("{}/v1/things/a%2Fb?x=1&y=%20&x=2", gateway.url());
        let body = if method == Method::GET { Bytes::new() } else { Bytes::from(vec![b'x'; STRANGER_BODY_LIMIT]) };
        let length = body.len();
        let response = send(Request::builder().method(&method).uri(url).body(body).expect("a request")).await.expect("an answer");
        assert_eq!(response.status(), 201);
        assert_eq!(
            (&response.headers()["location"], &response.headers()["x-test"]),
            (&"/v1/things/7".parse().unwrap(), &"kept".parse().unwrap())
        );
        let host = service.address.to_string();
        let target = "/v1/things/a%2Fb?x=1&y=%20&x=2";
        let expected = json!({"method": method.as_str(), "target": target, "length": length, "host": host, "authorized": false});
        assert_eq!(json(&response), expected);
    }
}

#[tokio::test]
async fn only_documented_operations_are_forwarded() {
    let (service, count) = echo().await;
    let gateway = Installation::new(&format!("things={}", service.url())).start_gateway().await;
    for path in ["/internal/v1/secret", "/internal/v1/calls/things/x", "/v1/other", "/v1/things/1/x", "/"] {
        assert_eq!(problem(&get(format!("{}{path}", gateway.url())).await), (404, 1020), "{path}");
    }
    let request = Request::post(format!("{}/v1/mine", gateway.url())).body(Bytes::new()).expect("a request");
    assert_eq!(problem(&send(request).await.expect("an answer")), (405, 1012));
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn answers_without_a_body_stay_so() {
    let (service, _) = echo().await;
    let gateway = Installation::new(&format!("things={}", service.url())).start_gateway().await;
    let empty = get(format!("{}/v1/things/1?empty", gateway.url())).await;
    assert_eq!((empty.status().as_u16(), empty.body().len()), (204, 0));
    let full = get(format!("{}/v1/things/1", gateway.url())).await;
    let head = Request::head(format!("{}/v1/things/1", gateway.url())).body(Bytes::new()).expect("a request");
    let head = send(head).await.expect("an answer");
    assert_eq!((head.status().as_u16(), head.body().len()), (201, 0));
    // One byte longer, because the body names the method: HEAD instead of GET.
    let length = |response: &http::Response<Bytes>| response.headers()["content-length"].to_str().unwrap().parse::<usize>().unwrap();
    assert_eq!(length(&head), full.body().len() + 1);
}

// A10
#[tokio::test]
async fn a_bad_token_is_refused_before_anything_is_forwarded() {
    let (service, count) = echo().await;
    let installation = Installation::new(&format!("things={}", service.url()));
    let gateway = installation.start_gateway().await;
    let ask = async |path: &str, token: Option<&str>| {
        let mut request = Request::get(format!("{}{path}", gateway.url()));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        send(request.body(Bytes::new()).expect("a request")).await.expect("an answer")
    };
    let token = installation.auth.issue(MemberId(new_id()), Role::Customer, new_id(), START);
    assert_eq!(json(&ask("/v1/mine", Some(&token)).await)["authorized"], true);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let forged = kit::auth::Auth::new([9; 32], Arc::new(installation.clock.clone()));
    let forged = forged.issue(MemberId(new_id()), Role::Operator, new_id(), START);
    for bad in ["x", &forged, &format!("{token}x")] {
        let refused = ask("/v1/mine", Some(bad)).await;
        assert_eq!(problem(&refused), (401, 3000));
        assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
    // The service decides whether a token is needed. Public operations ignore tokens.
    assert_eq!(ask("/v1/mine", None).await.status(), 201);
    assert_eq!(ask("/v1/things/1", Some("x")).await.status(), 201);
    installation.clock.advance(kit::auth::TOKEN_LIFETIME);
    assert_eq!(problem(&ask("/v1/mine", Some(&token)).await), (401, 3000));
}

// row 5
#[tokio::test]
async fn a_body_over_the_limit_is_refused_here() {
    let (service, count) = echo().await;
    let gateway = Installation::new(&format!("things={}", service.url())).start_gateway().await;
    let url = format!("{}/v1/things/1", gateway.url());
    let large = Request::post(&url).body(Bytes::from(vec![b'x'; STRANGER_BODY_LIMIT + 1])).expect("a request");
    assert_eq!(problem(&send(large).await.expect("an answer")), (413, 1009));
    // A body without a declared length.
    let mut stream = TcpStream::connect(gateway.address).await.expect("the server listens");
    stream
        .write_all(b"POST /v1/things/1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .expect("the socket accepts bytes");
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    for _ in 0..5 {
        stream.write_all(&chunk).await.expect("the socket accepts bytes");
    }
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 413 "));
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

// M2
#[tokio::test]
async fn callers_with_a_token_may_send_larger_bodies() {
    let (service, count) = echo().await;
    let installation = Installation::new(&format!("things={}", service.url()));
    let gateway = installation.start_gateway().await;
    let token = installation.auth.issue(MemberId(new_id()), Role::Customer, new_id(), START);
    let put = async |length: usize, token: Option<&str>| {
        let mut request = Request::put(format!("{}/v1/mine/1", gateway.url()));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        send(request.body(Bytes::from(vec![b'x'; length])).expect("a request")).await.expect("an answer")
    };
    assert_eq!(put(BODY_LIMIT, Some(&token)).await.status(), 201);
    assert_eq!(put(STRANGER_BODY_LIMIT, None).await.status(), 201);
    assert_eq!(problem(&put(BODY_LIMIT + 1, Some(&token)).await), (413, 1009));
    assert_eq!(problem(&put(STRANGER_BODY_LIMIT + 1, None).await), (413, 1009));
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

/// Reads until the head of an answer is complete.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    crate::remote::support::within(async {
        while !text.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut space = [0; 4096];
            let count = stream.read(&mut space).await.expect("the server answers");
            assert!(count > 0, "closed after {}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&space[..count]);
        }
    })
    .await;
    String::from_utf8(text).expect("heads are ASCII")
}

#[tokio::test]
async fn expect_continue_is_answered_by_100_or_413() {
    let (service, count) = echo().await;
    let gateway = Installation::new(&format!("things={}", service.url())).start_gateway().await;
    let begin = async |length: usize| {
        let mut stream = TcpStream::connect(gateway.address).await.expect("the server listens");
        let head = format!("POST /v1/things/1 HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("the socket accepts bytes");
        let answer = read_head(&mut stream).await;
        (stream, answer)
    };
    let (mut stream, answer) = begin(5).await;
    assert_eq!(answer, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.expect("the socket accepts bytes");
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 201 "));
    assert!(begin(STRANGER_BODY_LIMIT + 1).await.1.starts_with("HTTP/1.1 413 "));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

// A11
#[tokio::test]
async fn unreachable_peers_give_503_with_8001() {
    let gateway = Installation::new(&format!("things={}|{}", unused_address(), unused_address())).start_gateway().await;
    for method in [Method::GET, Method::POST] {
        let request =
            Request::builder().method(method).uri(format!("{}/v1/things/1", gateway.url())).body(Bytes::new()).expect("a request");
        let response = send(request).await.expect("an answer");
        assert_eq!(problem(&response), (503, 8001));
        assert_eq!(response.headers()["retry-after"], "1");
        let body = json(&response);
        assert_eq!(body["type"], "/problems/service-unavailable");
        assert_eq!(body["trace_id"].as_str(), response.headers()["x-request-id"].to_str().ok());
        assert!(!body.to_string().contains("127.0.0.1"), "no internal address in the answer: {body}");
    }
}

#[tokio::test]
async fn a_forwarding_loop_is_stopped() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let first = Installation::new(&format!("things=http://{address}")).start_gateway().await;
    let count: Arc<AtomicUsize> = Arc::default();
    let counted = Arc::clone(&count);
    let back = Installation::new(&format!("things={}", first.url()));
    let router = back.gateway(Default::default()).routes("things", &crate::remote::support::document()).layer(
        axum::middleware::map_request(move |request: Incoming| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { request }
        }),
    );
    let _second = Server::on(listener, router);
    let request = Request::post(format!("{}/v1/things/1", first.url())).body(Bytes::new()).expect("a request");
    let response = send(request).await.expect("an answer");
    assert_eq!(problem(&response), (503, 8001));
    assert!(json(&response)["detail"].as_str().expect("a sentence").contains("circle"));
    assert_eq!(count.load(Ordering::SeqCst), 2);
    // A hop count claimed by a client can only stop its own request.
    let claimed = Request::get(format!("{}/v1/things/1", first.url())).header("onrush-hops", "255").body(Bytes::new()).expect("a request");
    assert_eq!(problem(&send(claimed).await.expect("an answer")), (503, 8001));
}
