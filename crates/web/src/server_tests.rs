//! The server over real sockets: behaviour that a router alone does not show.

mod bodies;
mod clients;
mod connections;
mod heads;
mod shutdown;

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
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn behind_proxy(header: ClientHeader, proxy_protocol: bool) -> ServerSettings {
    let trusted = "127.0.0.1,10.0.0.0/8".parse().expect("networks");
    ServerSettings { proxies: Proxies { trusted, header, proxy_protocol }, ..quick() }
}
