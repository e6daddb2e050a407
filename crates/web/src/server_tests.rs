//! The server over real sockets: behaviour that a router alone does not show.

use super::{BodyMemory, ClientHeader, Empty, Input, Peer, Problem, Proxies, ServerSettings, layers, serve};
use axum::{
    Router,
    routing::{get, post},
};
use runtime::tasks::{self, ShutdownTrigger};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

/// Test timeout: far above the duration of any step, far below an acceptable test run.
const TIMEOUT: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    trigger: ShutdownTrigger,
    task: JoinHandle<()>,
    /// Releases the requests that wait in `/v1/gate`.
    gate: watch::Sender<bool>,
    entered: watch::Receiver<u32>,
}

fn quick() -> ServerSettings {
    ServerSettings {
        head_time: Duration::from_millis(200),
        idle_time: Duration::from_millis(600),
        drain_time: Duration::from_secs(5),
        ..ServerSettings::default()
    }
}

async fn start(limits: ServerSettings) -> Server {
    let (gate, open) = watch::channel(false);
    let (enter, entered) = watch::channel(0);
    let router = Router::new()
        .route("/v1/hello", get(|| async { "\"hello\"" }))
        .route("/v1/peer", get(|peer: Peer| async move { peer.0.to_string() }))
        .route("/v1/echo", post(|body: axum::body::Bytes| async move { body }))
        .route("/v1/input", post(|_: Input<Empty>| async { "{}" }))
        .route(
            "/v1/impatient",
            post(|body: axum::body::Body| async move {
                let read = axum::body::to_bytes(body, 1_000);
                timeout(Duration::from_millis(20), read).await.map_or(http::StatusCode::REQUEST_TIMEOUT, |_| http::StatusCode::OK)
            }),
        )
        .route("/v1/large", get(|| async { vec![b'x'; 64 * 1024 * 1024] }))
        .route(
            "/v1/gate",
            get(move || async move {
                enter.send_modify(|count| *count += 1);
                open.clone().wait_for(|open| *open).await.map_err(|_| Problem::from(contracts::Code::Internal))?;
                Ok::<_, Problem>("\"through\"")
            }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (trigger, shutdown) = tasks::shutdown();
    let task = tasks::spawn("server", async move { serve(listener, layers(router), limits, shutdown).await.expect("it serves") });
    Server { address, trigger, task, gate, entered }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the server listens")
    }

    async fn connect_from(&self, address: Ipv4Addr) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((address, 0).into()).expect("an address of this machine");
        socket.connect(self.address).await.expect("the server listens")
    }

    /// The client that a handler sees, for a request with these headers.
    async fn peer(&self, from: Ipv4Addr, before: &[u8], headers: &str) -> String {
        let mut stream = self.connect_from(from).await;
        let request = format!("GET /v1/peer HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(&[before, request.as_bytes()].concat()).await.expect("the server takes it");
        let answer = read_to_end(&mut stream).await;
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    /// Sends bytes and reads until the server closes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server reads all bytes even if it refuses early, because a reset could destroy its response.
        stream.write_all(bytes).await.expect("the server takes it");
        read_to_end(&mut stream).await
    }

    async fn exchange_from(&self, address: Ipv4Addr, bytes: &[u8]) -> String {
        let mut stream = self.connect_from(address).await;
        stream.write_all(bytes).await.expect("the server takes it");
        read_to_end(&mut stream).await
    }

    async fn stop(self) {
        self.trigger.stop();
        timeout(TIMEOUT, self.task).await.expect("it stops").expect("it does not panic");
    }
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    timeout(TIMEOUT, stream.read_to_end(&mut bytes)).await.expect("the server closes").expect("it closes without a reset");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until the text contains `end`.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut space = [0; 4096];
    while !text.contains(end) {
        let count = timeout(TIMEOUT, stream.read(&mut space)).await.expect("it answers").expect("it answers");
        assert_ne!(count, 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&space[..count]));
    }
    text
}

fn is_problem(answer: &str, status: u16, slug: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains("content-type: application/problem+json"), "{answer}");
    assert!(answer.contains(&format!("\"type\":\"/problems/{slug}\"")) && answer.contains("\"trace_id\":\""), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
}

const HELLO: &str = "GET /v1/hello HTTP/1.1\r\nHost: a\r\n\r\n";
const LAST_HELLO: &str = "GET /v1/hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn split_and_pipelined_requests_are_answered() {
    let server = start(quick()).await;
    let echo = "POST /v1/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nab\r\n\r\n0\r\n\r\n";
    let stream = [HELLO, echo, HELLO, LAST_HELLO].concat();
    let whole = server.exchange(stream.as_bytes()).await;
    assert_eq!((whole.matches("HTTP/1.1 200").count(), whole.matches("\"hello\"").count()), (4, 3), "{whole}");
    let mut slow = server.connect().await;
    for piece in stream.as_bytes().chunks(7) {
        slow.write_all(piece).await.expect("it takes it");
        tokio::task::yield_now().await;
    }
    let pieces = read_to_end(&mut slow).await;
    assert_eq!(pieces.matches("HTTP/1.1 200").count(), 4, "{pieces}");
    server.stop().await;
}

#[tokio::test]
async fn a_client_may_close_its_half_and_still_read() {
    let mut server = start(quick()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /v1/gate HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it takes it");
    stream.shutdown().await.expect("half of it closes");
    server.entered.wait_for(|count| *count == 1).await.expect("the handler lives");
    server.gate.send_replace(true);
    assert!(read_to_end(&mut stream).await.contains("\"through\""));
    let mut stream = server.connect().await;
    let cut = b"POST /v1/input HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    stream.write_all(cut).await.expect("it takes it");
    stream.shutdown().await.expect("half of it closes");
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.1 400 "));
    server.stop().await;
}

// row 16
#[tokio::test]
async fn ambiguous_requests_get_a_problem_and_the_connection_ends() {
    let server = start(quick()).await;
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "X: a\r\n folded",
        "X: a\nY: b",
        "X : a",
        "X: a\0b",
    ] {
        let bad = format!("POST /v1/echo HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n0\r\n\r\n{HELLO}");
        let answer = server.exchange(bad.as_bytes()).await;
        is_problem(&answer, 400, "bad-request");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "nothing behind it is answered: {answer}");
    }
    is_problem(&server.exchange(b"GET /v1/hello HTTP/1.1\nHost: a\n\n").await, 400, "bad-request");
    is_problem(&server.exchange(b"GET /v1/hello HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n").await, 400, "bad-encoding");
    server.stop().await;
}

// row 16: a bad head behind valid ones does not affect their responses
#[tokio::test]
async fn a_smuggled_request_is_refused_after_the_valid_ones() {
    let server = start(quick()).await;
    let bad = "POST /v1/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = server.exchange([HELLO, HELLO, bad, HELLO].concat().as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    is_problem(&answer[answer.rfind("HTTP/1.1").expect("an answer")..], 400, "bad-request");
    assert_eq!(answer.matches("HTTP/1.1").count(), 3, "{answer}");
    server.stop().await;
}

// row 16
#[tokio::test]
async fn a_broken_chunk_ends_the_connection() {
    let server = start(quick()).await;
    let head = "POST /v1/input HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = server.exchange(format!("{head}2\r\n{{}}\n0\r\n\r\n{HELLO}").as_bytes()).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    server.stop().await;
}

// row 14
#[tokio::test]
async fn long_targets_and_headers_get_a_problem() {
    let server = start(ServerSettings::default()).await;
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(64 * 1024));
    is_problem(&server.exchange(target.as_bytes()).await, 414, "uri-too-long");
    let headers = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(24_000));
    is_problem(&server.exchange(headers.as_bytes()).await, 431, "headers-too-large");
    let one = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(1024 * 1024));
    is_problem(&server.exchange(one.as_bytes()).await, 431, "headers-too-large");
    server.stop().await;
}

// row 9
#[tokio::test]
async fn a_body_over_the_limit_is_answered_while_it_is_still_sent() {
    let server = start(ServerSettings::default()).await;
    let head = "POST /v1/input HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let sized = format!("{head}Content-Length: 10000000\r\n\r\n{}", " ".repeat(10_000_000));
    let answer = server.exchange(sized.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body-too-large"), "{answer}");
    // A chunked body that this client never ends.
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    chunked.push_str(&format!("1000\r\n{}\r\n", " ".repeat(4096)).repeat(500));
    let answer = server.exchange(chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body-too-large"), "{answer}");
    server.stop().await;
}

// row 15
#[tokio::test]
async fn slow_heads_time_out_without_delaying_others() {
    let server = start(quick()).await;
    let silent = server.connect().await;
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..200 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /v1/hello HTTP/1.1\r\nHos").await.expect("it takes it");
        slow.push(stream);
    }
    let answer = server.exchange(LAST_HELLO.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for mut stream in slow {
        // One more byte does not extend the timeout.
        let _ = stream.write_all(b"t").await;
        is_problem(&read_to_end(&mut stream).await, 408, "timeout");
    }
    let mut silent = silent;
    assert_eq!(read_to_end(&mut silent).await, "");
    server.stop().await;
}

#[tokio::test]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    let server = start(quick()).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /v1/gate HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it takes it");
    let mut idle = server.connect().await;
    idle.write_all(HELLO.as_bytes()).await.expect("it takes it");
    // The idle connection closes after the idle time. The busy one has waited just as long and stays open.
    assert!(read_to_end(&mut idle).await.starts_with("HTTP/1.1 200"));
    server.gate.send_replace(true);
    read_until(&mut busy, "\"through\"").await;
    busy.write_all(LAST_HELLO.as_bytes()).await.expect("it takes it");
    assert!(read_to_end(&mut busy).await.contains("\"hello\""));
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let server = start(ServerSettings { stall_time: Duration::from_millis(300), ..quick() }).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /v1/large HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it takes it");
    let Server { trigger, task, .. } = server;
    // The response can never be sent. Without the stall timeout the stop would wait for the whole drain time.
    read_until(&mut stream, "HTTP/1.1 200").await;
    trigger.stop();
    timeout(Duration::from_secs(4), task).await.expect("the stalled connection is gone before the drain time").expect("no panic");
}

// I7
#[tokio::test]
async fn a_stop_finishes_running_requests_and_accepts_no_new_ones() {
    let mut server = start(ServerSettings::default()).await;
    let mut idle = server.connect().await;
    idle.write_all(HELLO.as_bytes()).await.expect("it takes it");
    read_until(&mut idle, "\"hello\"").await;
    let mut running = server.connect().await;
    running.write_all(b"GET /v1/gate HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it takes it");
    server.entered.wait_for(|count| *count == 1).await.expect("the handler lives");
    server.trigger.stop();
    assert_eq!(read_to_end(&mut idle).await, "", "idle connections are closed at once");
    let late = async {
        loop {
            if TcpStream::connect(server.address).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(TIMEOUT, late).await.expect("no more connections are taken");
    server.gate.send_replace(true);
    let answer = read_to_end(&mut running).await;
    assert!(answer.contains("\"through\"") && answer.contains("connection: close"), "{answer}");
    timeout(TIMEOUT, server.task).await.expect("it stops").expect("no panic");
}

// I7
#[tokio::test]
async fn a_stop_cuts_off_requests_after_the_drain_time() {
    let mut server = start(ServerSettings { drain_time: Duration::from_millis(100), ..ServerSettings::default() }).await;
    let mut running = server.connect().await;
    running.write_all(b"GET /v1/gate HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it takes it");
    server.entered.wait_for(|count| *count == 1).await.expect("the handler lives");
    server.trigger.stop();
    timeout(TIMEOUT, server.task).await.expect("it stops").expect("no panic");
    let mut space = [0; 64];
    let rest = timeout(TIMEOUT, running.read(&mut space)).await.expect("it is cut off");
    assert!(matches!(rest, Ok(0) | Err(_)), "{rest:?}");
}

// row 41
#[tokio::test]
async fn the_peer_comes_from_the_socket_and_not_from_headers() {
    let server = start(quick()).await;
    let forged =
        "GET /v1/peer HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\nConnection: close\r\n\r\n";
    let answer = server.exchange(forged.as_bytes()).await;
    assert!(answer.contains("127.0.0.1:") && !answer.contains("203.0.113.9"), "{answer}");
    server.stop().await;
}

/// The proxy of these tests.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn behind_proxy(header: ClientHeader, proxy_protocol: bool) -> ServerSettings {
    let trusted = "127.0.0.1,10.0.0.0/8".parse().expect("networks");
    ServerSettings { proxies: Proxies { trusted, header, proxy_protocol }, ..quick() }
}

// H2, R1, row 41
#[tokio::test]
async fn a_trusted_proxy_names_the_client() {
    let server = start(behind_proxy(ClientHeader::XForwardedFor, false)).await;
    let named = "X-Forwarded-For: 198.51.100.1, 203.0.113.9\r\nX-Forwarded-For: 10.0.0.7\r\nForwarded: for=198.51.100.2\r\n";
    assert_eq!(server.peer(PROXY, b"", named).await, "203.0.113.9:0");
    assert!(server.peer(STRANGER, b"", named).await.starts_with("127.0.0.2:"));
    assert!(server.peer(PROXY, b"", "X-Forwarded-For: unknown\r\n").await.starts_with("127.0.0.1:"));
    assert_eq!(server.peer(PROXY, b"", "X-Forwarded-For: [2001:db8::9]:443\r\n").await, "[2001:db8::9]:443");
    server.stop().await;
    let server = start(behind_proxy(ClientHeader::Forwarded, false)).await;
    let named = "Forwarded: for=198.51.100.1, for=\"[2001:db8::9]:443\";proto=https\r\nX-Forwarded-For: 198.51.100.2\r\n";
    assert_eq!(server.peer(PROXY, b"", named).await, "[2001:db8::9]:443");
    server.stop().await;
}

// H2
#[tokio::test]
async fn the_proxy_protocol_names_the_client() {
    let server = start(behind_proxy(ClientHeader::XForwardedFor, true)).await;
    let text = b"PROXY TCP4 203.0.113.9 127.0.0.1 56324 443\r\n";
    assert_eq!(server.peer(PROXY, text, "").await, "203.0.113.9:56324");
    // The header of a client behind it is a claim.
    assert_eq!(server.peer(PROXY, text, "X-Forwarded-For: 198.51.100.1\r\n").await, "203.0.113.9:56324");
    // A second trusted proxy behind the first.
    let chained = b"PROXY TCP4 10.0.0.7 127.0.0.1 56324 443\r\n";
    assert_eq!(server.peer(PROXY, chained, "X-Forwarded-For: 203.0.113.9\r\n").await, "203.0.113.9:0");
    assert_eq!(server.peer(PROXY, b"PROXY TCP6 2001:db8::9 ::1 1 2\r\n", "").await, "[2001:db8::9]:1");
    assert!(server.peer(PROXY, b"PROXY UNKNOWN\r\n", "").await.starts_with("127.0.0.1:"));
    for (command, expected) in [(0x21, "203.0.113.9:56324"), (0x20, "127.0.0.1:")] {
        let mut binary = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        binary.extend([command, 0x11, 0, 15, 203, 0, 113, 9, 127, 0, 0, 1, 0xdc, 4, 1, 187, 4, 0, 0]);
        assert!(server.peer(PROXY, &binary, "").await.starts_with(expected), "{expected}");
    }
    // Without a header, a trusted proxy is not served. Others are served as they are.
    for bad in ["", "PROXY TCP4 203.0.113.999 127.0.0.1 1 2\r\n", "PROXY TCP4 x\n", "proxy tcp4 1.2.3.4 1.2.3.4 1 2\r\n"] {
        let mut stream = server.connect_from(PROXY).await;
        stream.write_all(format!("{bad}{LAST_PEER}").as_bytes()).await.expect("it takes it");
        let closed = timeout(TIMEOUT, stream.read(&mut [0; 64])).await.expect("it is closed");
        assert!(matches!(closed, Ok(0) | Err(_)), "{bad}: {closed:?}");
    }
    assert!(server.peer(STRANGER, b"", "").await.starts_with("127.0.0.2:"));
    is_problem(&server.exchange_from(STRANGER, text).await, 400, "bad-request");
    // The header may come in pieces.
    let mut slow = server.connect_from(PROXY).await;
    for piece in [text.as_slice(), LAST_PEER.as_bytes()].concat().chunks(5) {
        slow.write_all(piece).await.expect("it takes it");
        tokio::task::yield_now().await;
    }
    assert!(read_to_end(&mut slow).await.ends_with("203.0.113.9:56324"));
    server.stop().await;
}

const LAST_PEER: &str = "GET /v1/peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Opens a connection and has one request answered on it.
async fn idle_connection(server: &Server, from: Ipv4Addr) -> TcpStream {
    let mut stream = server.connect_from(from).await;
    stream.write_all(HELLO.as_bytes()).await.expect("it takes it");
    read_until(&mut stream, "\"hello\"").await;
    stream
}

/// Opens a connection with a request that waits at the gate.
async fn busy_connection(server: &mut Server, from: Ipv4Addr) -> TcpStream {
    let before = *server.entered.borrow();
    let mut stream = server.connect_from(from).await;
    stream.write_all(b"GET /v1/gate HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it takes it");
    server.entered.wait_for(|count| *count > before).await.expect("the handler lives");
    stream
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_busy_ones() {
    let mut server = start(ServerSettings { max_connections: 1, ..quick() }).await;
    let first = busy_connection(&mut server, PROXY).await;
    let mut second = server.connect().await;
    second.write_all(LAST_HELLO.as_bytes()).await.expect("the kernel takes it");
    let mut space = [0; 64];
    let early = timeout(Duration::from_millis(100), second.read(&mut space)).await;
    assert!(early.is_err(), "the second waits for the first to end");
    server.gate.send_replace(true);
    assert!(read_to_end(&mut second).await.starts_with("HTTP/1.1 200"));
    drop(first);
    server.stop().await;
}

// M1
#[tokio::test]
async fn a_full_server_closes_the_longest_idle_connection() {
    let mut server = start(ServerSettings { max_connections: 3, ..ServerSettings::default() }).await;
    let mut silent = server.connect_from(STRANGER).await;
    let mut idle = idle_connection(&server, PROXY).await;
    let mut busy = busy_connection(&mut server, PROXY).await;
    let mut fillers = Vec::new();
    for longest in [&mut silent, &mut idle] {
        let mut new = server.connect_from(STRANGER).await;
        new.write_all(LAST_HELLO.as_bytes()).await.expect("it takes it");
        assert!(read_to_end(&mut new).await.starts_with("HTTP/1.1 200"));
        assert_eq!(read_to_end(longest).await, "", "it made room");
        // The new one has ended. Another idle one takes its place.
        fillers.push(idle_connection(&server, STRANGER).await);
    }
    server.gate.send_replace(true);
    read_until(&mut busy, "\"through\"").await;
    server.stop().await;
}

// M1
#[tokio::test]
async fn an_address_cannot_take_all_connections() {
    let mut server = start(ServerSettings { max_per_address: 2, ..ServerSettings::default() }).await;
    let mut first = idle_connection(&server, STRANGER).await;
    let mut second = busy_connection(&mut server, STRANGER).await;
    // Its own idle connection makes room.
    let third = busy_connection(&mut server, STRANGER).await;
    assert_eq!(read_to_end(&mut first).await, "");
    // All of them are busy.
    let mut fourth = server.connect_from(STRANGER).await;
    let mut space = [0; 64];
    let closed = timeout(TIMEOUT, fourth.read(&mut space)).await.expect("it is closed");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    drop(idle_connection(&server, PROXY).await);
    server.gate.send_replace(true);
    read_until(&mut second, "\"through\"").await;
    drop(third);
    server.stop().await;

    let server = start(ServerSettings { max_per_address: 2, ..behind_proxy(ClientHeader::XForwardedFor, false) }).await;
    let mut connections = Vec::new();
    for _ in 0..5 {
        connections.push(idle_connection(&server, PROXY).await);
    }
    for stream in &mut connections {
        stream.write_all(LAST_HELLO.as_bytes()).await.expect("it takes it");
        assert!(read_to_end(stream).await.starts_with("HTTP/1.1 200"), "a trusted proxy has no share");
    }
    server.stop().await;
}

// M1
#[test]
fn connections_fit_the_descriptors_of_the_process() {
    let limits = |descriptors| {
        let settings = ServerSettings::for_descriptors(descriptors);
        (settings.max_connections, settings.max_per_address)
    };
    assert_eq!(limits(1_024), (768, 96));
    assert_eq!(limits(u64::MAX), (8_192, 1_024));
    assert_eq!(limits(64), (64, 8));
    assert!(super::raise_descriptor_limit().expect("the limit can be read") >= 256);
}

// M2
#[tokio::test]
async fn bodies_beyond_the_memory_are_refused() {
    let server = start(ServerSettings { body_memory: BodyMemory::new(1_000_000, 1_000), ..ServerSettings::default() }).await;
    let head = "POST /v1/input HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 17300\r\n\r\n";
    let body = format!("{:<17300}", "{}");
    let mut unfinished = server.connect().await;
    unfinished.write_all(format!("{head}{}", &body[..17_200]).as_bytes()).await.expect("it takes it");
    // The server reads the unfinished one at some time.
    for _ in 0..1_000 {
        let mut stream = server.connect().await;
        stream.write_all(format!("{head}{body}").as_bytes()).await.expect("it takes it");
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        if answer.starts_with("HTTP/1.1 503") {
            assert!(answer.contains("retry-after: 1"), "{answer}");
            unfinished.write_all(&body.as_bytes()[17_200..]).await.expect("it takes it");
            let finished = read_until(&mut unfinished, "\r\n\r\n").await;
            assert!(finished.starts_with("HTTP/1.1 200"), "{finished}");
            return server.stop().await;
        }
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    panic!("no body was refused");
}

// M5
#[tokio::test]
async fn a_connection_survives_a_short_unread_body() {
    let server = start(ServerSettings::default()).await;
    let json = "Content-Type: application/json\r\n";
    for (status, request) in [
        (200, "GET /v1/hello HTTP/1.1\r\n".to_owned()),
        (404, "POST /v1/nothing HTTP/1.1\r\n".to_owned()),
        (405, "PUT /v1/hello HTTP/1.1\r\n".to_owned()),
        (406, "POST /v1/input HTTP/1.1\r\nAccept: text/html\r\n".to_owned()),
        (415, "POST /v1/input HTTP/1.1\r\nContent-Type: text/plain\r\n".to_owned()),
        (400, format!("POST /v1/input HTTP/1.1\r\n{json}Idempotency-Key: \r\n")),
        (400, "POST /v2/input HTTP/1.1\r\n".to_owned()),
    ] {
        for (framing, body) in [("Content-Length: 6", "secret"), ("Transfer-Encoding: chunked", "6\r\nsecret\r\n0\r\n\r\n")] {
            let mut stream = server.connect().await;
            stream.write_all(format!("{request}Host: a\r\n{framing}\r\n\r\n").as_bytes()).await.expect("it takes it");
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.write_all(format!("{body}{LAST_HELLO}").as_bytes()).await.expect("it takes it");
            let answers = read_to_end(&mut stream).await;
            assert!(answers.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answers}");
            assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{request}: {answers}");
            assert!(answers.ends_with("\"hello\""), "{request}: {answers}");
        }
    }
    server.stop().await;
}

// M5
#[tokio::test]
async fn the_end_of_a_connection_is_announced() {
    let server = start(ServerSettings::default()).await;
    let json = "POST /v1/input HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    for (status, request) in [
        // The rest never comes.
        (200, "GET /v1/hello HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nsec".to_owned()),
        (404, "POST /v1/nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsec".to_owned()),
        (408, "POST /v1/impatient HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nsec".to_owned()),
        // The rest is too long.
        (413, format!("{json}Content-Length: 300000\r\n\r\n")),
        (404, "POST /v1/nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n".to_owned()),
        (404, format!("POST /v1/nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n{}\r\n", "x".repeat(0x10001))),
        // The rest cannot be read.
        (400, format!("{json}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\n0\r\n\r\n")),
        (404, "POST /v1/nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n".to_owned()),
        // The client waits for a word before it sends.
        (404, "POST /v1/nothing HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n".to_owned()),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(request.as_bytes()).await.expect("it takes it");
        let answer = read_to_end(&mut stream).await;
        let (head, _) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {request:.200}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")) && head.contains("\r\nconnection: close"), "{request:.200}: {answer}");
    }
    // A handler that reads the body has the client continue.
    let mut stream = server.connect().await;
    stream.write_all(format!("{json}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n").as_bytes()).await.expect("it takes it");
    read_until(&mut stream, "HTTP/1.1 100 ").await;
    stream.write_all(format!("{{}}{LAST_HELLO}").as_bytes()).await.expect("it takes it");
    assert_eq!(read_to_end(&mut stream).await.matches("HTTP/1.1 200").count(), 2);
    server.stop().await;
}

// L1, L13
#[tokio::test]
async fn bad_hosts_targets_and_expectations_get_a_problem() {
    let server = start(quick()).await;
    is_problem(&server.exchange(b"GET /v1/hello HTTP/1.1\r\nHost: a/b?c#@\r\n\r\n").await, 400, "bad-request");
    is_problem(&server.exchange(b"GET ftp://a/v1/hello HTTP/1.1\r\nHost: a\r\n\r\n").await, 400, "bad-request");
    is_problem(&server.exchange(b"GET /v1/hello HTTP/1.1\r\nHost: a\r\nExpect: other\r\n\r\n").await, 417, "expectation-failed");
    let absolute = b"GET http://shop.example/v1/hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert!(server.exchange(absolute).await.starts_with("HTTP/1.1 200"));
    server.stop().await;
}
