//! HTTP server: accepts connections, enforces limits, and stops gracefully so that running requests finish.

use super::{
    Peer, Problem, Trace,
    guarded_stream::{GuardedStream, RefusedHead, StreamTimeouts},
};
use axum::{Router, body::Body, extract::Request, response::Response, routing::future::RouteFuture};
use contracts::Code;
use http::{HeaderMap, HeaderValue, header};
use hyper::{
    body::{Body as HttpBody, Incoming},
    server::conn::http1,
    service::Service as HyperService,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use runtime::tasks::{self, Shutdown};
use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
};
use tower::Service;

/// Limits and timeouts of the server.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Most open connections; others wait in the kernel's queue. Each uses some 20 KiB.
    pub max_connections: u32,
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

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 8_192,
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            stall_time: Duration::from_secs(30),
            drain_time: Duration::from_secs(14),
        }
    }
}

impl ServerLimits {
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
/// Pause after a failed accept. Without file descriptors or memory, retrying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens on an address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    // Lets a restarted process listen while connections of the previous one are still in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until the shutdown begins. Then accepts no more connections, lets running requests finish, and returns.
pub async fn serve(listener: TcpListener, router: Router, limits: ServerLimits, shutdown: Shutdown) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(limits.max_connections as usize));
    let connections = Arc::new(Connections::default());
    let timeouts = limits.timeouts();
    loop {
        let slot = tokio::select! {
            biased;
            () = shutdown.stopping() => break,
            slot = Arc::clone(&slots).acquire_owned() => slot.expect("the semaphore is never closed"),
        };
        let accepted = tokio::select! {
            biased;
            () = shutdown.stopping() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = run_connection(stream, peer, router.clone(), timeouts, Arc::clone(&connections));
                tasks::spawn("connection", async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) if is_caused_by_client(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.set_phase(STOPPING);
    let finished = tokio::time::timeout(limits.drain_time, slots.acquire_many(limits.max_connections)).await.is_ok();
    if !finished {
        let open = limits.max_connections as usize - slots.available_permits();
        tracing::warn!(open, "connections cut off: drain time exceeded");
        connections.set_phase(CUT_OFF);
    }
    Ok(())
}

fn is_caused_by_client(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}

async fn run_connection(stream: TcpStream, peer: SocketAddr, router: Router, timeouts: StreamTimeouts, connections: Arc<Connections>) {
    // A response is usually one packet, so waiting for more data would only delay it.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    let refused_head = Arc::new(RefusedHead::default());
    let io = TokioIo::new(GuardedStream::new(stream, Arc::clone(&refused_head), timeouts));
    let requests = ConnectionService { router, peer, refused_head, count: AtomicU64::new(0) };
    let mut builder = http1::Builder::new();
    // `GuardedStream` enforces the head timeout, so hyper needs no timer per request.
    // With half-close, a client that has sent everything may shut down its side and still read.
    builder.header_read_timeout(None).half_close(true);
    let mut http = pin!(builder.serve_connection(io, requests));
    let mut registration: Option<Registration> = None;
    let mut is_draining = false;
    poll_fn(|cx| {
        if registration.is_none() {
            registration = Some(connections.register(cx.waker().clone()));
        }
        match connections.phase.load(Ordering::SeqCst) {
            RUNNING => {}
            CUT_OFF => return Poll::Ready(()),
            _ if is_draining => {}
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

const RUNNING: u8 = 0;
const STOPPING: u8 = 1;
const CUT_OFF: u8 = 2;

/// All open connections, woken when the server stops. The flag costs a request one atomic load; a channel would cost a lock.
#[derive(Default)]
struct Connections {
    phase: AtomicU8,
    next: AtomicU64,
    wakers: Mutex<HashMap<u64, Waker>>,
}

impl Connections {
    /// Registers the task of a connection. A task keeps its waker for life, so it registers once.
    fn register(self: &Arc<Self>, waker: Waker) -> Registration {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.wakers.lock().insert(id, waker);
        Registration { id, connections: Arc::clone(self) }
    }

    fn set_phase(&self, phase: u8) {
        self.phase.store(phase, Ordering::SeqCst);
        for waker in self.wakers.lock().values() {
            waker.wake_by_ref();
        }
    }
}

struct Registration {
    id: u64,
    connections: Arc<Connections>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.connections.wakers.lock().remove(&self.id);
    }
}

/// hyper service of one connection: hands its requests to the router, and refuses the placeholder of a refused head.
struct ConnectionService {
    router: Router,
    peer: SocketAddr,
    refused_head: Arc<RefusedHead>,
    count: AtomicU64,
}

impl HyperService<http::Request<Incoming>> for ConnectionService {
    type Response = Response;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: http::Request<Incoming>) -> ResponseFuture {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        match self.refused_head.refusal_of(number) {
            Some(code) => ResponseFuture::Refused(refusal_response(code)),
            None => {
                let mut request: Request = request.map(|body| if body.is_end_stream() { Body::empty() } else { Body::new(body) });
                request.extensions_mut().insert(Peer(self.peer));
                ResponseFuture::Running(self.router.clone().call(request))
            }
        }
    }
}

/// Response for a refused head, which has no request.
fn refusal_response(code: Code) -> Response {
    let mut response = Problem::from(code).into_traced(Trace::of(&HeaderMap::new()).0);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

enum ResponseFuture {
    Refused(Response),
    Running(RouteFuture<Infallible>),
}

impl Future for ResponseFuture {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            ResponseFuture::Refused(response) => Poll::Ready(Ok(std::mem::take(response))),
            ResponseFuture::Running(running) => Pin::new(running).poll(cx),
        }
    }
}
