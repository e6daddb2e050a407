//! The server: accepts, watches, answers, and stops without losing what it began.

use super::{
    Peer, Problem, Trace,
    watch::{Shared, Times, Watched},
};
use crate::tasks::{self, Shutdown};
use axum::{Router, body::Body, extract::Request, response::Response, routing::future::RouteFuture};
use contracts::Code;
use http::{HeaderMap, HeaderValue, header};
use hyper::{
    body::{Body as HttpBody, Incoming},
    server::conn::http1,
    service::Service as HyperService,
};
use hyper_util::rt::TokioIo;
use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
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

/// What the server allows.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Open connections; others wait in the kernel's queue. Each holds some 20 KiB.
    pub max_connections: u32,
    /// A request's head must be complete by then.
    pub head_time: Duration,
    /// A connection without a request is closed after this.
    pub idle_time: Duration,
    /// A client that does not read its answer is cut off after this.
    pub stall_time: Duration,
    /// Requests under way at a stop may take this long to finish. Callers that wait for something are answered before that
    /// ([`crate::tasks::Leaving`]); a process has 20 seconds in all.
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
    fn times(&self) -> Times {
        let tick = (self.head_time / 2).max(Duration::from_millis(1));
        let ticks = |time: Duration| u32::try_from(time.as_nanos().div_ceil(tick.as_nanos())).unwrap_or(u32::MAX).max(1);
        Times { tick, idle: ticks(self.idle_time), stalled: ticks(self.stall_time) }
    }
}

/// Connections that may wait to be accepted, as far as the system lets them (`net.core.somaxconn`). Everyone arrives at once, and who finds
/// no room tries again only a second later.
const BACKLOG: u32 = 4_096;
/// After the process ran out of descriptors or memory, accepting again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens on an address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    // A restart must not wait until the system has forgotten the last one's connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until the process stops: then takes no more connections, lets running requests finish, and returns.
pub async fn serve(listener: TcpListener, router: Router, limits: ServerLimits, mut shutdown: Shutdown) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(limits.max_connections as usize));
    let all = Arc::new(Connections::default());
    let times = limits.times();
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
                let connection = connection(stream, peer, router.clone(), times, Arc::clone(&all));
                tasks::spawn("connection", async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    all.enter(STOPPING);
    let finished = tokio::time::timeout(limits.drain_time, slots.acquire_many(limits.max_connections)).await.is_ok();
    if !finished {
        let open = limits.max_connections as usize - slots.available_permits();
        tracing::warn!(open, "requests did not finish in time and are cut off");
        all.enter(CUT_OFF);
    }
    Ok(())
}

fn is_the_clients(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, times: Times, all: Arc<Connections>) {
    // Answers are one packet each; waiting for more to send would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let shared = Arc::new(Shared::default());
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&shared), times));
    let requests = Requests { router, peer, shared, count: AtomicU64::new(0) };
    let mut builder = http1::Builder::new();
    // The watch keeps the time; a second timer per request would be waste. A client that has sent all may close its half and still read.
    builder.header_read_timeout(None).half_close(true);
    let mut http = pin!(builder.serve_connection(io, requests));
    let mut membership: Option<Membership> = None;
    let mut told = false;
    poll_fn(|cx| {
        if membership.is_none() {
            membership = Some(all.join(cx.waker().clone()));
        }
        match all.phase.load(Ordering::SeqCst) {
            RUNNING => {}
            CUT_OFF => return Poll::Ready(()),
            _ if told => {}
            _ => {
                told = true;
                http.as_mut().graceful_shutdown();
            }
        }
        http.as_mut().poll(cx).map(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended early");
            }
        })
    })
    .await;
}

const RUNNING: u8 = 0;
const STOPPING: u8 = 1;
const CUT_OFF: u8 = 2;

/// All open connections, to wake them when the server stops. A flag and a list cost a request one load, a channel would cost it a lock.
#[derive(Default)]
struct Connections {
    phase: AtomicU8,
    next: AtomicU64,
    wakers: Mutex<HashMap<u64, Waker>>,
}

impl Connections {
    /// A task's waker stays the same for its life, so that one registration is enough.
    fn join(self: &Arc<Self>, waker: Waker) -> Membership {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).insert(id, waker);
        Membership { id, all: Arc::clone(self) }
    }

    fn enter(&self, phase: u8) {
        self.phase.store(phase, Ordering::SeqCst);
        for waker in self.wakers.lock().unwrap_or_else(PoisonError::into_inner).values() {
            waker.wake_by_ref();
        }
    }
}

struct Membership {
    id: u64,
    all: Arc<Connections>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.all.wakers.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// The requests of one connection.
struct Requests {
    router: Router,
    peer: SocketAddr,
    shared: Arc<Shared>,
    count: AtomicU64,
}

impl HyperService<http::Request<Incoming>> for Requests {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: http::Request<Incoming>) -> Answering {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        match self.shared.refusal_of(number) {
            Some(code) => Answering::Refused(refused(code)),
            None => {
                let mut request: Request = request.map(|body| if body.is_end_stream() { Body::empty() } else { Body::new(body) });
                request.extensions_mut().insert(Peer(self.peer));
                Answering::Running(self.router.clone().call(request))
            }
        }
    }
}

/// The answer to a request that was refused before it was one.
fn refused(code: Code) -> Response {
    let mut response = Problem::from(code).into_traced(Trace::of(&HeaderMap::new()).0);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

enum Answering {
    Refused(Response),
    Running(RouteFuture<Infallible>),
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Answering::Refused(response) => Poll::Ready(Ok(std::mem::take(response))),
            Answering::Running(running) => Pin::new(running).poll(cx),
        }
    }
}
