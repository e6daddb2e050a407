//! Headers that a service sees of a forwarded request, and headers that a client sees of the answer.

use crate::remote::support::{Installation, SECRET, Server, clock, json, send, signer};
use axum::{
    Router,
    extract::Request as Incoming,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::Request;
use kit::{
    gateway::{GatewaySettings, accept_origins},
    http::{Peer, Proxies, Trace},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A service that answers with the received headers and the client address it derived.
async fn mirror() -> Server {
    let handler = async |Peer(peer): Peer, Trace(trace): Trace, request: Incoming| -> Response {
        let headers: BTreeMap<&str, &str> =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().expect("ASCII"))).collect();
        let body = json!({"headers": headers, "peer": peer.to_string(), "trace": trace.simple().to_string()}).to_string();
        let headers = [
            ("content-type", "application/json"),
            ("connection", "x-mine"),
            ("x-mine", "secret"),
            ("keep-alive", "timeout=7"),
            ("onrush-hops", "1"),
            ("set-cookie", "a=b"),
        ];
        (headers, body).into_response()
    };
    let router = Router::new().route("/v1/things/{id}", get(handler));
    Server::start(accept_origins(router, signer(SECRET, &clock()))).await
}

// row 41; A10
#[tokio::test]
async fn identity_headers_of_clients_are_dropped() {
    let service = mirror().await;
    let gateway = Installation::new(&format!("things={}", service.url())).start_gateway().await;
    let claims = [
        ("x-user-id", "1"),
        ("x-member-id", "1"),
        ("x-role", "operator"),
        ("x-forwarded-user", "root"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "for=203.0.113.9"),
        ("x-real-ip", "203.0.113.9"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("proxy-authorization", "Basic x"),
    ];
    let mut request = Request::get(format!("{}/v1/things/1", gateway.url()));
    for (name, value) in claims {
        request = request.header(name, value);
    }
    let request = request.header("cookie", "c=d").header("accept-language", "ko").header("x-forwarded-for", "203.0.113.9");
    let response = send(request.body(Bytes::new()).expect("a request")).await.expect("an answer");
    let seen = json(&response);
    for (name, _) in claims {
        assert_eq!(seen["headers"].get(name), None, "{name}");
    }
    assert_eq!((&seen["headers"]["cookie"], &seen["headers"]["accept-language"]), (&json!("c=d"), &json!("ko")));
    assert_eq!(seen["headers"].get("x-forwarded-for"), None, "the signed origin replaces it");
    assert_eq!((&seen["headers"]["onrush-hops"], seen["headers"].get("onrush-origin")), (&json!("1"), None));

    for name in ["x-mine", "keep-alive", "connection", "onrush-hops"] {
        assert_eq!(response.headers().get(name), None, "{name}");
    }
    assert_eq!(response.headers()["set-cookie"], "a=b");
}

// I3
#[tokio::test]
async fn the_trace_is_forwarded() {
    let service = mirror().await;
    let gateway = Installation::new(&format!("things={}", service.url())).start_gateway().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for sent in [Some(parent), None, Some("garbage")] {
        let mut request = Request::get(format!("{}/v1/things/1", gateway.url()));
        if let Some(sent) = sent {
            request = request.header("traceparent", sent);
        }
        let response = send(request.body(Bytes::new()).expect("a request")).await.expect("an answer");
        let seen = json(&response);
        let id = response.headers()["x-request-id"].to_str().expect("ASCII");
        assert_eq!((seen["trace"].as_str(), seen["headers"]["x-request-id"].as_str()), (Some(id), Some(id)), "{sent:?}");
        assert_eq!(sent == Some(parent), seen["headers"]["traceparent"] == parent);
    }
}

/// Sends on a new connection. Returns the answer and the connection's local address.
async fn ask_from_here(server: &Server, headers: &str) -> (Value, String) {
    let mut stream = TcpStream::connect(server.address).await.expect("the server listens");
    let here = stream.local_addr().expect("it is connected").to_string();
    let request = format!("GET /v1/things/1 HTTP/1.1\r\nhost: a\r\n{headers}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the socket accepts bytes");
    let mut text = String::new();
    crate::remote::support::within(stream.read_to_string(&mut text)).await.expect("the server answers");
    let body = text.split_once("\r\n\r\n").expect("an answer has a head").1;
    (serde_json::from_str(body).expect("the answer is JSON"), here)
}

// H2, R1: a gateway passes on the client that its proxy names
#[tokio::test]
async fn the_client_behind_a_trusted_proxy_is_forwarded() {
    let service = mirror().await;
    let installation = Installation::new(&format!("things={}", service.url()));
    let proxies = Proxies { trusted: "127.0.0.1".parse().expect("a network"), ..Proxies::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let routes = installation.gateway(GatewaySettings::default()).routes("things", &crate::remote::support::document());
    let gateway = Server::behind(proxies, listener, routes);
    let (seen, _) = ask_from_here(&gateway, "x-forwarded-for: 198.51.100.1, 203.0.113.9\r\n").await;
    assert_eq!((&seen["peer"], seen["headers"].get("x-forwarded-for")), (&json!("203.0.113.9:0"), None));
}

// row 41: login limits count by client, also behind a gateway
#[tokio::test]
async fn the_client_address_is_forwarded_and_cannot_be_forged() {
    let service = mirror().await;
    let installation = Installation::new(&format!("things={}", service.url()));
    let gateway = installation.start_gateway().await;
    let (seen, here) = ask_from_here(&gateway, "").await;
    assert_eq!(seen["peer"], here);
    // Through two gateways, of which the second trusts the first.
    let between = accept_origins(
        installation.gateway(Default::default()).routes("things", &crate::remote::support::document()),
        installation.signer.clone(),
    );
    let between = Server::start(between).await;
    let outer = Installation::new(&format!("things={}", between.url())).start_gateway().await;
    let (seen, here) = ask_from_here(&outer, "").await;
    assert_eq!((&seen["peer"], &seen["headers"]["onrush-hops"]), (&json!(here), &json!("2")));

    let ours = installation.signer.sign(&[b"origin", b"GET", b"/v1/things/2", b"203.0.113.9:1"]);
    let strange = signer([8; 32], &clock()).sign(&[b"origin", b"GET", b"/v1/things/1", b"203.0.113.9:1"]);
    for forged in ["", "203.0.113.9:1", "203.0.113.9:1;t=1,v1=x", ";;;"]
        .map(str::to_owned)
        .into_iter()
        .chain([&ours, &strange].map(|value| format!("203.0.113.9:1;{}", value.to_str().expect("ASCII"))))
    {
        let header = format!("onrush-origin: {forged}\r\n");
        for server in [&service, &gateway] {
            let (seen, here) = ask_from_here(server, &header).await;
            assert_eq!((&seen["peer"], seen["headers"].get("onrush-origin")), (&json!(here), None), "{forged}");
        }
    }
    let signed = installation.signer.sign(&[b"origin", b"GET", b"/v1/things/1", b"203.0.113.9:1"]);
    let header = format!("onrush-origin: 203.0.113.9:1;{}\r\n", signed.to_str().expect("ASCII"));
    assert_eq!(ask_from_here(&service, &header).await.0["peer"], "203.0.113.9:1");
    // The gateway drops a client's header, even a validly signed one.
    let (seen, here) = ask_from_here(&gateway, &header).await;
    assert_eq!(seen["peer"], here);
}
