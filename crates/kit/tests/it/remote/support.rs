//! Test servers, peers that fail on command, and clients.

use axum::Router;
use bytes::Bytes;
use contracts::{Timestamp, calls::Call};
use http::{Request, Response};
use kit::{
    auth::Auth,
    breaker::BreakerSettings,
    gateway::{Gateway, GatewaySettings, accept_origins},
    http::{
        Proxies, ServerSettings,
        client::{Client, ClientError, ClientSettings},
        layers, serve,
    },
    links::{CallHandlers, Links, Pool, Remote, RemoteSettings, Signer, internal_router},
    ports::{Clock, ManualClock},
    tasks::{self, Draining, ShutdownTrigger},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use utoipa::openapi::{HttpMethod, OpenApi, PathItem, PathsBuilder, path::OperationBuilder, security::SecurityRequirement};

pub const START: Timestamp = Timestamp(1_795_132_800_000_000);
pub const SECRET: [u8; 32] = [7; 32];
/// Time limit. Everything here takes milliseconds.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Doubles a number. Served by `numbers`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Double(pub i64);

impl Call for Double {
    type Reply = i64;
    const SERVICE: &'static str = "numbers";
    const NAME: &'static str = "double";
}

/// Waits for another task, at most [`TIME_LIMIT`].
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIME_LIMIT, what).await.expect("the task completes in time")
}

/// A server on its own port, until dropped.
pub struct Server {
    pub address: SocketAddr,
    _trigger: ShutdownTrigger,
}

impl Server {
    pub async fn start(router: Router) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Server::on(listener, router)
    }

    pub fn on(listener: TcpListener, router: Router) -> Server {
        Server::behind(Proxies::default(), listener, router)
    }

    pub fn behind(proxies: Proxies, listener: TcpListener, router: Router) -> Server {
        let address = listener.local_addr().expect("it is bound");
        let (trigger, shutdown) = tasks::shutdown();
        let limits = ServerSettings { proxies, drain_time: Duration::from_millis(10), ..ServerSettings::default() };
        tasks::spawn("test server", async move {
            serve(listener, layers(router), limits, shutdown).await.expect("the server runs");
        });
        Server { address, _trigger: trigger }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Behaviour of a [`FaultyProxy`].
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum ProxyMode {
    /// Forwards connections.
    PassThrough,
    /// Closes each connection after its first bytes.
    Disconnect,
    /// Accepts connections and never answers.
    Silent,
}

/// A proxy in front of a server that fails on command.
pub struct FaultyProxy {
    pub address: SocketAddr,
    mode: Arc<AtomicU8>,
    connections: Arc<AtomicUsize>,
}

impl FaultyProxy {
    pub async fn before(target: SocketAddr, mode: ProxyMode) -> FaultyProxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let proxy = FaultyProxy { address, mode: Arc::new(AtomicU8::new(mode as u8)), connections: Arc::default() };
        let (mode, connections) = (Arc::clone(&proxy.mode), Arc::clone(&proxy.connections));
        tasks::spawn("proxy", async move {
            loop {
                let (stream, _) = listener.accept().await.expect("the listener accepts");
                connections.fetch_add(1, Ordering::SeqCst);
                tasks::spawn("proxy connection", pass(stream, target, Arc::clone(&mode)));
            }
        });
        proxy
    }

    pub fn set(&self, mode: ProxyMode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn pass(mut stream: TcpStream, target: SocketAddr, mode: Arc<AtomicU8>) {
    let is = |wanted: ProxyMode| mode.load(Ordering::SeqCst) == wanted as u8;
    let mut space = [0; 16 * 1024];
    if is(ProxyMode::Silent) {
        while stream.read(&mut space).await.is_ok_and(|count| count > 0) {}
        return;
    }
    let Ok(count) = stream.read(&mut space).await else { return };
    if is(ProxyMode::Disconnect) {
        return;
    }
    let mut inner = TcpStream::connect(target).await.expect("the server is there");
    inner.write_all(&space[..count]).await.expect("the server accepts bytes");
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut inner).await;
}

/// An address that refuses connections. The port stays bound, so that no other test gets it.
pub fn unused_address() -> String {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    std::mem::forget(socket);
    format!("http://{address}")
}

/// One process's connections to its peers.
pub struct Installation {
    pub clock: ManualClock,
    pub auth: Auth,
    pub signer: Signer,
    pub pool: Pool,
}

pub fn clock() -> ManualClock {
    ManualClock::at(START)
}

pub fn signer(secret: [u8; 32], clock: &ManualClock) -> Signer {
    Signer::new(&secret, Arc::new(clock.clone()))
}

impl Installation {
    pub fn new(peers: &str) -> Installation {
        let clock = clock();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let pool =
            Pool::new(&peers.parse().expect("good peers"), Client::new(ClientSettings::default()), BreakerSettings::default(), &shared);
        Installation { auth: Auth::new(SECRET, Arc::clone(&shared)), signer: signer(SECRET, &clock), clock, pool }
    }

    /// Links that call the peers.
    pub fn links(&self, settings: RemoteSettings) -> Links {
        let links = Links::default();
        links.connect(Remote::new(self.pool.clone(), self.signer.clone(), settings));
        links
    }

    pub fn gateway(&self, settings: GatewaySettings) -> Gateway {
        Gateway::new(self.pool.clone(), self.auth.clone(), self.signer.clone(), Draining::default(), settings)
    }

    /// A gateway that forwards the operations of [`document`] to `things`.
    pub async fn start_gateway(&self) -> Server {
        Server::start(self.gateway(GatewaySettings::default()).routes("things", &document())).await
    }
}

/// Operations of the service `things`, with every method.
pub fn document() -> OpenApi {
    let open = || OperationBuilder::new().build();
    let guarded = || OperationBuilder::new().security(SecurityRequirement::new("bearer", Vec::<String>::new())).build();
    let mut not_idempotent = open();
    not_idempotent.extensions = Some(utoipa::openapi::extensions::ExtensionsBuilder::new().add("x-idempotent", false).build());
    let mut things = PathItem::new(HttpMethod::Get, open());
    things.post = Some(open());
    things.put = Some(open());
    things.delete = Some(open());
    things.patch = Some(open());
    let paths = PathsBuilder::new()
        .path("/v1/things/{id}", things)
        .path("/v1/mine/last", PathItem::new(HttpMethod::Delete, not_idempotent))
        .path("/v1/events", PathItem::new(HttpMethod::Get, open()))
        .path("/v1/mine", PathItem::new(HttpMethod::Get, guarded()))
        .path("/v1/mine/{id}", PathItem::new(HttpMethod::Put, guarded()))
        .path("/internal/v1/secret", PathItem::new(HttpMethod::Get, open()))
        .build();
    OpenApi::new(utoipa::openapi::Info::new("things", "1"), paths)
}

/// A process that answers [`Double`], and a counter of calls.
pub async fn numbers(clock: &ManualClock, secret: [u8; 32]) -> (Server, Arc<AtomicUsize>) {
    let asked: Arc<AtomicUsize> = Arc::default();
    let count = Arc::clone(&asked);
    let router = answering(clock, secret, move |Double(number)| {
        count.fetch_add(1, Ordering::SeqCst);
        async move { Ok(number * 2) }
    });
    (Server::start(router).await, asked)
}

/// The internal route of a process that answers [`Double`] this way.
pub fn answering<F, R>(clock: &ManualClock, secret: [u8; 32], answer: F) -> Router
where
    F: Fn(Double) -> R + Send + Sync + 'static,
    R: Future<Output = Result<i64, String>> + Send + 'static,
{
    let links = Links::default();
    let mut handlers = CallHandlers::default();
    handlers.register(answer);
    links.bind(handlers);
    accept_origins(internal_router(links, signer(secret, clock)), signer(secret, clock))
}

/// Sends one request on a new connection.
pub async fn send(request: Request<Bytes>) -> Result<Response<Bytes>, ClientError> {
    Client::new(ClientSettings::default()).send(request, TIME_LIMIT).await
}

pub async fn get(url: String) -> Response<Bytes> {
    send(Request::get(url).body(Bytes::new()).expect("a request")).await.expect("an answer")
}

pub fn json(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).expect("the answer is JSON")
}

/// Status and code of a problem.
pub fn problem(response: &Response<Bytes>) -> (u16, u64) {
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{response:?}");
    (response.status().as_u16(), json(response)["code"].as_u64().expect("a problem has a code"))
}
