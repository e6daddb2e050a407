//! HTTP server: accepts connections, enforces limits, and stops gracefully so that running requests finish.

use super::{
    BodyMemory, Peer, Problem, Proxies, Trace,
    connections::{AddressShare, CUT_OFF, Connections, RUNNING, Registration, STOPPING},
    guarded_stream::{GuardedStream, RefusedHead, StreamTimeouts},
    unread_body::{BodyEnd, FinishedResponse, TrackedBody, closing},
};
use axum::{Router, body::Body, extract::Request, response::Response, routing::future::RouteFuture};
use contracts::Code;
use http::{HeaderMap, header};
use hyper::{
    body::{Body as HttpBody, Incoming},
    server::conn::http1,
    service::Service as HyperService,
};
use hyper_util::rt::TokioIo;
use runtime::{
    line_limit::LineLimit,
    tasks::{self, Shutdown},
};
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tower::Service;

/// Limits and timeouts of the server, and the proxies in front of it.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Most open connections. Above it, the one that has waited longest for a request makes room, and new ones wait in the kernel's
    /// queue. Each uses some 20 KiB.
    pub max_connections: u32,
    /// Most connections of one address (IPv6: one /64), so that a single client cannot take all. Trusted proxies have no such limit.
    pub max_per_address: u32,
    pub proxies: Proxies,
    /// Memory for the bodies of all requests in progress.
    pub body_memory: BodyMemory,
    /// Timeout for a complete request head.
    pub head_time: Duration,
    /// Idle timeout of a connection without a request.
    pub idle_time: Duration,
    /// Timeout for a client that does not read its response. Its connection is closed.
    pub stall_time: Duration,
    /// Time for running requests to finish after the shutdown begins. Long polls are answered before that
    /// ([`runtime::tasks::Draining`]); a process has 20 seconds to stop in all.
    pub drain_time: Duration,
}

/// Default of [`ServerSettings::max_connections`].
const MAX_CONNECTIONS: u32 = 8_192;
/// Addresses that it takes to fill the server. The share of each, 1,024 connections, is enough for the browsers of a company behind NAT.
const ADDRESSES_TO_FILL: u32 = 8;
/// Descriptors for everything else: databases, files, Kafka, Redis, and connections to other processes.
const RESERVED_DESCRIPTORS: u64 = 256;
/// Fewest connections, however few descriptors the process has.
const MIN_CONNECTIONS: u64 = 64;

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            max_connections: MAX_CONNECTIONS,
            max_per_address: MAX_CONNECTIONS / ADDRESSES_TO_FILL,
            proxies: Proxies::default(),
            body_memory: BodyMemory::default(),
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            stall_time: Duration::from_secs(30),
            drain_time: Duration::from_secs(14),
        }
    }
}

impl ServerSettings {
    /// Settings for a process that may open this number of descriptors.
    pub fn for_descriptors(descriptors: u64) -> ServerSettings {
        let free = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(MIN_CONNECTIONS);
        let max_connections = u32::try_from(free).unwrap_or(MAX_CONNECTIONS).min(MAX_CONNECTIONS);
        ServerSettings { max_connections, max_per_address: max_connections / ADDRESSES_TO_FILL, ..ServerSettings::default() }
    }

    fn timeouts(&self) -> StreamTimeouts {
        let tick = (self.head_time / 2).max(Duration::from_millis(1));
        let ticks = |time: Duration| u32::try_from(time.as_nanos().div_ceil(tick.as_nanos())).unwrap_or(u32::MAX).max(1);
        StreamTimeouts { tick, idle: ticks(self.idle_time), stalled: ticks(self.stall_time) }
    }
}

/// Connections that may wait to be accepted, capped by the system (`net.core.somaxconn`).
///
/// In a rush all clients connect at once, and a client that finds the backlog full retries only after a second.
const BACKLOG: u32 = 4_096;
/// Largest buffer of a connection, in bytes. Holds a whole head, and bounds the part of a body that no handler has asked for.
const MAX_BUFFER: usize = 64 * 1024;
/// Pause after a failed accept. Without file descriptors or memory, retrying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Raises the number of descriptors that this process may open to the most that the system allows. Returns that number.
///
/// The usual soft limit, 1,024, is meant for programs that use `select`.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

/// Listens on an address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    // Lets a restarted process listen while connections of the previous one are still in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until the shutdown begins. Then accepts no more connections, lets running requests finish, and returns.
pub async fn serve(listener: TcpListener, router: Router, settings: ServerSettings, shutdown: Shutdown) -> io::Result<()> {
    let connections = Connections::new(settings.max_connections, settings.max_per_address);
    let server = Arc::new(HttpServer { router, settings, connections, shutdown });
    loop {
        let accepted = tokio::select! {
            biased;
            () = server.shutdown.stopping() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let slot = tokio::select! {
                    biased;
                    () = server.shutdown.stopping() => break,
                    slot = server.connections.take_slot() => slot,
                };
                let server = Arc::clone(&server);
                tasks::spawn("connection", async move {
                    server.run_connection(stream, address).await;
                    drop(slot);
                });
            }
            Err(error) if is_caused_by_client(&error) => {}
            Err(error) => {
                if let Some(left_out) = ACCEPT_FAILED.take() {
                    tracing::warn!(%error, left_out, "accept failed");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let HttpServer { settings, connections, .. } = &*server;
    connections.set_phase(STOPPING);
    if tokio::time::timeout(settings.drain_time, connections.ended(settings.max_connections)).await.is_err() {
        tracing::warn!(open = connections.open_count(), "connections cut off: drain time exceeded");
        connections.set_phase(CUT_OFF);
    }
    Ok(())
}

static ACCEPT_FAILED: LineLimit = LineLimit::new("accept failed");
static PROXY_HEADER_MISSING: LineLimit = LineLimit::new("connection of a proxy refused");

/// Server for all connections of a listener.
struct HttpServer {
    router: Router,
    settings: ServerSettings,
    connections: Arc<Connections>,
    shutdown: Shutdown,
}

fn is_caused_by_client(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}

impl HttpServer {
    /// The other end of a new connection. `None`: the connection ends before its first request.
    async fn find_peer(&self, stream: &mut TcpStream, address: SocketAddr) -> Option<SocketAddr> {
        let peer = tokio::select! {
            () = self.shutdown.stopping() => return None,
            peer = tokio::time::timeout(self.settings.head_time, self.settings.proxies.connection_peer(stream, address)) => peer,
        };
        let error = match peer {
            Ok(Ok(peer)) => return Some(peer),
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        if let Some(left_out) = PROXY_HEADER_MISSING.take() {
            tracing::warn!(%error, left_out, "connection of a proxy refused: no PROXY protocol header");
        }
        None
    }

    async fn run_connection(&self, mut stream: TcpStream, address: SocketAddr) {
        // A response is usually one packet, so waiting for more data would only delay it.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY not set");
        }
        let Some(peer) = self.find_peer(&mut stream, address).await else { return };
        let source = (!self.settings.proxies.trusted.contains(peer.ip())).then(|| Peer(peer).source());
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let Some(registration) = self.connections.register(waker, source) else { return };
        self.serve_requests(stream, peer, Arc::new(registration)).await;
    }

    async fn serve_requests(&self, stream: TcpStream, peer: SocketAddr, registration: Arc<Registration>) {
        let activity = &registration.activity;
        let share = AddressShare::new(Arc::clone(&registration));
        let refused_head = Arc::new(RefusedHead::default());
        let io = TokioIo::new(GuardedStream::new(stream, Arc::clone(&refused_head), Arc::clone(activity), self.settings.timeouts()));
        let requests = ConnectionService { server: self, peer, share, refused_head, count: AtomicU64::new(0) };
        let mut builder = http1::Builder::new();
        // `GuardedStream` enforces the head timeout, so hyper needs no timer per request.
        // With half-close, a client that has sent everything may shut down its side and still read.
        builder.header_read_timeout(None).half_close(true).max_buf_size(MAX_BUFFER);
        let mut http = pin!(builder.serve_connection(io, requests));
        let mut is_draining = false;
        poll_fn(|cx| {
            match self.connections.phase() {
                CUT_OFF => return Poll::Ready(()),
                _ if is_draining => {}
                RUNNING if !activity.is_evicted() => {}
                _ => {
                    is_draining = true;
                    http.as_mut().graceful_shutdown();
                }
            }
            http.as_mut().poll(cx).map(|result| {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection ended early");
                }
            })
        })
        .await;
    }
}

/// hyper service of one connection: hands its requests to the router, and refuses the placeholder of a refused head.
struct ConnectionService<'s> {
    server: &'s HttpServer,
    peer: SocketAddr,
    share: AddressShare,
    refused_head: Arc<RefusedHead>,
    count: AtomicU64,
}

impl HyperService<http::Request<Incoming>> for ConnectionService<'_> {
    type Response = Response;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: http::Request<Incoming>) -> ResponseFuture {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        match self.refused_head.refusal_of(number) {
            Some(code) => ResponseFuture::Finishing(FinishedResponse::Ready(refusal_response(code))),
            None => self.run(request),
        }
    }
}

impl ConnectionService<'_> {
    fn run(&self, request: http::Request<Incoming>) -> ResponseFuture {
        let HttpServer { router, settings, .. } = self.server;
        let (parts, incoming) = request.into_parts();
        let (body, end) = if incoming.is_end_stream() {
            (Body::empty(), None)
        } else {
            let (body, end) = TrackedBody::new(incoming, parts.headers.contains_key(header::EXPECT));
            (Body::new(body), Some(end))
        };
        let mut request = Request::from_parts(parts, body);
        let client = settings.proxies.client(self.peer, request.headers());
        request.extensions_mut().insert(Peer(client));
        request.extensions_mut().insert(self.share.clone());
        if end.is_some() {
            request.extensions_mut().insert(settings.body_memory.clone());
        }
        ResponseFuture::Running { response: router.clone().call(request), end }
    }
}

/// Response for a refused head, which has no request.
fn refusal_response(code: Code) -> Response {
    closing(Problem::from(code).into_traced(Trace::of(&HeaderMap::new()).0))
}

enum ResponseFuture {
    Running { response: RouteFuture<Infallible>, end: Option<BodyEnd> },
    Finishing(FinishedResponse),
}

impl Future for ResponseFuture {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let ResponseFuture::Running { response, end } = &mut *self {
            let response = ready!(Pin::new(response).poll(cx))?;
            let Some(end) = end.take() else { return Poll::Ready(Ok(response)) };
            // The handler is dropped first, and with it the body that it did not read.
            *self = ResponseFuture::Finishing(FinishedResponse::Ready(Response::default()));
            *self = ResponseFuture::Finishing(end.finish(response));
        }
        match &mut *self {
            ResponseFuture::Finishing(finished) => Pin::new(finished).poll(cx).map(Ok),
            ResponseFuture::Running { .. } => Poll::Pending,
        }
    }
}
