//! Failing services behind a gateway: which requests are retried, and when the breaker spares a peer.

use crate::remote::support::{FaultyProxy, Installation, ProxyMode, Server, document, json, problem, send, unused_address, within};
use axum::{
    Router,
    extract::Request as Incoming,
    response::{IntoResponse, Response},
    routing::any,
};
use bytes::Bytes;
use contracts::Code;
use http::{Method, Request, StatusCode};
use kit::{gateway::GatewaySettings, http::Problem};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// A service whose first `failures` answers fail, and a counter of its answers.
async fn failing(failures: usize, fail: impl Fn() -> Response + Clone + Send + Sync + 'static) -> (Server, Arc<AtomicUsize>) {
    let count: Arc<AtomicUsize> = Arc::default();
    let counted = Arc::clone(&count);
    let handler =
        async move || -> Response { if counted.fetch_add(1, Ordering::SeqCst) < failures { fail() } else { "fine".into_response() } };
    (Server::start(Router::new().route("/v1/things/{id}", any(handler))).await, count)
}

async fn ask(gateway: &Server, method: Method, key: Option<&str>) -> http::Response<Bytes> {
    ask_at(gateway, "/v1/things/1", method, key).await
}

async fn ask_at(gateway: &Server, path: &str, method: Method, key: Option<&str>) -> http::Response<Bytes> {
    let mut request = Request::builder().method(method).uri(format!("{}{path}", gateway.url()));
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    within(send(request.body(Bytes::from_static(b"{}")).expect("a request"))).await.expect("an answer")
}

fn internal() -> Response {
    Problem::from(Code::Internal).into_response()
}

// A11
#[tokio::test]
async fn a_read_is_retried_three_times() {
    for (failures, expected) in [(1, (200, 2)), (3, (200, 4)), (4, (500, 4)), (100, (500, 4))] {
        let (service, count) = failing(failures, internal).await;
        let gateway = Installation::new(&format!("things={}", service.url())).start_gateway().await;
        let response = ask(&gateway, Method::GET, None).await;
        assert_eq!((response.status().as_u16(), count.load(Ordering::SeqCst)), expected);
        if expected.0 == 500 {
            assert_eq!(problem(&response), (500, 1000), "the service's last answer is forwarded");
        }
    }
    let (service, count) = failing(1, internal).await;
    let gateway = Installation::new(&format!("things={}", service.url())).start_gateway().await;
    assert_eq!((ask(&gateway, Method::HEAD, None).await.status().as_u16(), count.load(Ordering::SeqCst)), (200, 2));
}

// A11
#[tokio::test]
async fn writes_and_refusals_are_not_retried() {
    for (method, key) in
        [(Method::POST, None), (Method::POST, Some("k")), (Method::PUT, None), (Method::PATCH, None), (Method::DELETE, None)]
    {
        let (service, count) = failing(1, internal).await;
        let gateway = Installation::new(&format!("things={}", service.url())).start_gateway().await;
        assert_eq!(problem(&ask(&gateway, method, key).await), (500, 1000));
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
    for (status, code) in [(404, Code::NotFound), (409, Code::SoldOut), (429, Code::TooManyAttempts)] {
        let (service, count) = failing(1, move || Problem::from(code).into_response()).await;
        let gateway = Installation::new(&format!("things={}", service.url())).start_gateway().await;
        assert_eq!(ask(&gateway, Method::GET, None).await.status().as_u16(), status);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn load_shedding_is_forwarded_with_retry_after() {
    let (service, _) = failing(1, || Problem::from(Code::Overloaded).retry_after(3).into_response()).await;
    let gateway = Installation::new(&format!("things={}", service.url())).start_gateway().await;
    let response = ask(&gateway, Method::POST, None).await;
    assert_eq!((problem(&response), &response.headers()["retry-after"]), ((503, 1023), &"3".parse().unwrap()));
}

#[tokio::test]
async fn errors_of_an_intermediary_become_gateway_problems() {
    for (status, post) in
        [(StatusCode::BAD_GATEWAY, (502, 8000)), (StatusCode::SERVICE_UNAVAILABLE, (503, 8001)), (StatusCode::GATEWAY_TIMEOUT, (502, 8000))]
    {
        let plain = Router::new().route("/v1/things/{id}", any(async move || (status, [("content-type", "text/html")], "<h1>oops")));
        let service = Server::start(plain).await;
        let gateway = Installation::new(&format!("things={}", service.url())).start_gateway().await;
        assert_eq!(problem(&ask(&gateway, Method::POST, None).await), post, "{status}");
        assert_eq!(problem(&ask(&gateway, Method::GET, None).await), (503, 8001), "{status}");
    }
}

// F27, F31
#[tokio::test]
async fn any_request_is_retried_elsewhere_if_nothing_was_sent() {
    let (service, count) = failing(0, internal).await;
    let gateway = Installation::new(&format!("things={}|{}", unused_address(), service.url())).start_gateway().await;
    for turn in 0..20 {
        let method = if turn % 2 == 0 { Method::POST } else { Method::GET };
        assert_eq!(ask(&gateway, method, None).await.status(), 200);
    }
    assert_eq!(count.load(Ordering::SeqCst), 20);
}

// F8
#[tokio::test]
async fn a_broken_connection_is_retried_only_if_idempotent() {
    let (service, count) = failing(0, internal).await;
    for (method, key, connections, expected) in [
        (Method::GET, None, 4, (503, 8001)),
        (Method::POST, Some("k"), 2, (503, 8001)),
        (Method::POST, None, 1, (502, 8000)),
        (Method::PATCH, None, 1, (502, 8000)),
        (Method::DELETE, None, 1, (503, 8001)),
    ] {
        let proxy = FaultyProxy::before(service.address, ProxyMode::Disconnect).await;
        let gateway = Installation::new(&format!("things={}", proxy.url())).start_gateway().await;
        let response = ask(&gateway, method.clone(), key).await;
        assert_eq!((problem(&response), proxy.connections()), (expected, connections), "{method}");
        assert_eq!(response.headers().contains_key("retry-after"), expected == (503, 8001), "{method}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
    // With a healthy address beside it, a key is enough to get the answer. Without a key the outcome is unknown.
    let proxy = FaultyProxy::before(service.address, ProxyMode::Disconnect).await;
    let peers = format!("things={}|{}", proxy.url(), service.url());
    let gateway = Installation::new(&peers).start_gateway().await;
    for _ in 0..4 {
        assert_eq!(ask(&gateway, Method::POST, Some("k")).await.status(), 200);
    }
    assert!(proxy.connections() > 0);
}

// finding 7: the operation says whether a repeat is harmless, and not its method.
#[tokio::test]
async fn a_delete_with_a_second_effect_is_unknown_without_a_key() {
    let (service, _) = failing(0, internal).await;
    for (key, expected) in [(None, (502, 8000)), (Some("k"), (503, 8001))] {
        let proxy = FaultyProxy::before(service.address, ProxyMode::Disconnect).await;
        let gateway = Installation::new(&format!("things={}", proxy.url())).start_gateway().await;
        assert_eq!(problem(&ask_at(&gateway, "/v1/mine/last", Method::DELETE, key).await), expected);
    }
}

// A11, Z1
#[tokio::test]
async fn an_open_breaker_spares_a_dead_peer_until_it_recovers() {
    let (service, count) = failing(0, internal).await;
    let proxy = FaultyProxy::before(service.address, ProxyMode::Disconnect).await;
    let installation = Installation::new(&format!("things={}", proxy.url()));
    let gateway = installation.start_gateway().await;
    for _ in 0..5 {
        assert_eq!(problem(&ask(&gateway, Method::POST, None).await), (502, 8000));
    }
    for _ in 0..20 {
        let response = ask(&gateway, Method::POST, None).await;
        assert_eq!((problem(&response), &response.headers()["retry-after"]), ((503, 8001), &"5".parse().unwrap()));
    }
    assert_eq!(proxy.connections(), 5);
    proxy.set(ProxyMode::PassThrough);
    installation.clock.advance(Duration::from_secs(5));
    for _ in 0..10 {
        assert_eq!(ask(&gateway, Method::POST, None).await.status(), 200);
    }
    assert_eq!(count.load(Ordering::SeqCst), 10);
}

// F29
#[tokio::test]
async fn a_silent_peer_times_out_without_a_retry() {
    let (service, _) = failing(0, internal).await;
    for (method, expected) in [(Method::GET, (503, 8001)), (Method::POST, (502, 8000))] {
        let proxy = FaultyProxy::before(service.address, ProxyMode::Silent).await;
        let settings = GatewaySettings { answer_time: Duration::from_millis(200), ..GatewaySettings::default() };
        let installation = Installation::new(&format!("things={}", proxy.url()));
        let gateway = Server::start(installation.gateway(settings).routes("things", &document())).await;
        assert_eq!(problem(&ask(&gateway, method, None).await), expected);
        assert_eq!(proxy.connections(), 1);
    }
}

#[tokio::test]
async fn prefer_wait_extends_the_gateway_timeout() {
    let slow = Router::new().route(
        "/v1/things/{id}",
        any(async |request: Incoming| {
            if request.headers()["prefer"] == "wait=0" {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            "{}"
        }),
    );
    let service = Server::start(slow).await;
    let settings = GatewaySettings { answer_time: Duration::from_millis(100), ..GatewaySettings::default() };
    let installation = Installation::new(&format!("things={}", service.url()));
    let gateway = Server::start(installation.gateway(settings).routes("things", &document())).await;
    let request = |prefer: &str| {
        Request::post(format!("{}/v1/things/1", gateway.url())).header("prefer", prefer).body(Bytes::new()).expect("a request")
    };
    let waited = send(request("respond-async, wait=25")).await.expect("an answer");
    assert_eq!((waited.status().as_u16(), json(&waited)), (200, serde_json::json!({})));
    assert_eq!(problem(&send(request("wait=0")).await.expect("an answer")), (502, 8000));
}
