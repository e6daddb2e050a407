//! The server over real sockets: behaviour that a router alone does not show.

use super::{Empty, Input, Peer, Problem, ServerLimits, layers, serve};
use axum::{
    Router,
    routing::{get, post},
};
use runtime::tasks::{self, ShutdownTrigger};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
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

fn quick() -> ServerLimits {
    ServerLimits {
        head_time: Duration::from_millis(200),
        idle_time: Duration::from_millis(600),
        drain_time: Duration::from_secs(5),
        ..ServerLimits::default()
    }
}

async fn start(limits: ServerLimits) -> Server {
    let (gate, open) = watch::channel(false);
    let (enter, entered) = watch::channel(0);
    let router = Router::new()
        .route("/v1/hello", get(|| async { "\"hello\"" }))
        .route("/v1/peer", get(|peer: Peer| async move { peer.0.to_string() }))
        .route("/v1/echo", post(|body: axum::body::Bytes| async move { body }))
        .route("/v1/input", post(|_: Input<Empty>| async { "{}" }))
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

    /// Sends bytes and reads until the server closes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server reads all bytes even if it refuses early, because a reset could destroy its response.
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
    let server = start(ServerLimits::default()).await;
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
    let server = start(ServerLimits::default()).await;
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
    let server = start(ServerLimits { stall_time: Duration::from_millis(300), ..quick() }).await;
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
    let mut server = start(ServerLimits::default()).await;
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
    let mut server = start(ServerLimits { drain_time: Duration::from_millis(100), ..ServerLimits::default() }).await;
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

#[tokio::test]
async fn connections_over_the_limit_wait() {
    let server = start(ServerLimits { max_connections: 1, ..quick() }).await;
    let mut first = server.connect().await;
    first.write_all(HELLO.as_bytes()).await.expect("it takes it");
    read_until(&mut first, "\"hello\"").await;
    let mut second = server.connect().await;
    second.write_all(LAST_HELLO.as_bytes()).await.expect("the kernel takes it");
    let mut space = [0; 64];
    let early = timeout(Duration::from_millis(100), second.read(&mut space)).await;
    assert!(early.is_err(), "the second waits for the first to end");
    drop(first);
    assert!(read_to_end(&mut second).await.starts_with("HTTP/1.1 200"));
    server.stop().await;
}
