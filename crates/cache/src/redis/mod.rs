//! Redis, for data that processes share. It is never the truth.
//!
//! This module owns the connection, the timeout of each call, and the breaker in front of it. All its users must work if Redis is down,
//! empty or slow; they may only become slower. On every error callers assume that Redis knows nothing, and ask the database. Redis holds
//! only data that may be lost at any moment.
//!
//! Calls belong on the process's runtime. A commit hook runs on a writer's thread and must not call Redis. It hands its change to a task.

pub mod entries;
pub mod lock;
pub mod rate_limit;

pub use ::redis::{Cmd, FromRedisValue, Script, ScriptInvocation, ToRedisArgs, cmd};

use ::redis::{
    Client, ErrorKind, ServerErrorKind,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use parking_lot::RwLock;
use runtime::{
    breaker::{Breaker, BreakerSettings},
    ports::{Clock, Stopwatch},
};
use sha2::{Digest, Sha256};
use std::{fmt, future::Future, sync::Arc, time::Duration};

/// Calls that may wait for the connection at the same time. With fewer, the calls of a traffic spike would wait for each other.
const PIPELINE_CAPACITY: usize = 1_024;
/// Reconnect attempts of the library within one call. With its default of 6, calls hang until the server is back.
const RECONNECTS: usize = 1;

/// The prefix of every key if the settings give none.
pub const DEFAULT_PREFIX: &str = "onrush:";

/// A URL for people: host, port and database without the password. Opens no connection.
pub fn display_url(url: &str) -> Result<String, RedisError> {
    let client = Client::open(url).map_err(|error| RedisError::Address(error.to_string()))?;
    let info = client.get_connection_info();
    let password = if info.redis_settings().password().is_some() { "***@" } else { "" };
    Ok(format!("redis://{password}{}/{}", info.addr(), info.redis_settings().db()))
}

/// Settings of the connection to Redis.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Maximum time of a call, including connecting. A healthy server answers within a millisecond.
    pub call_timeout: Duration,
    /// The beginning of every key, so that several malls can share a server.
    pub prefix: String,
    pub breaker: BreakerSettings,
}

impl Default for RedisSettings {
    /// Tries again every second. Once some processes have Redis again, the others should not work without it for long.
    fn default() -> Self {
        let breaker = BreakerSettings { open_for: Duration::from_secs(1), ..BreakerSettings::default() };
        Self { call_timeout: Duration::from_millis(250), prefix: DEFAULT_PREFIX.into(), breaker }
    }
}

/// The reason why there is no answer. In each case the caller goes on as if Redis knew nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RedisError {
    /// The setting is invalid. No call was made.
    #[error("the address of Redis cannot be used: {0}")]
    Address(String),
    /// No answer in time, no connection, a server that is not ready, or an open breaker. The command may have taken effect.
    #[error("Redis does not answer: {0}")]
    Unavailable(String),
    /// The server rejected the command: out of memory, a key of another type, or an error in a script.
    #[error("Redis refused: {0}")]
    Refused(String),
}

/// A connection to one Redis server, opened on first use and reopened after a failure. Cheap to clone.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    client: Client,
    settings: RedisSettings,
    breaker: Breaker,
    connection: RwLock<ManagedConnection>,
}

#[derive(Clone)]
struct ManagedConnection {
    manager: ConnectionManager,
    /// Distinguishes this connection from earlier ones.
    generation: u64,
}

impl Redis {
    /// Checks the address and returns at once, even if the server is down. Must be called within the runtime.
    pub fn connect(url: &str, settings: RedisSettings, clock: Arc<dyn Clock>) -> Result<Redis, RedisError> {
        let client = Client::open(url).map_err(|error| RedisError::Address(error.to_string()))?;
        let breaker = Breaker::new("redis", settings.breaker, clock);
        let manager = new_manager(&client, &settings).map_err(|error| RedisError::Address(error.to_string()))?;
        let connection = RwLock::new(ManagedConnection { manager, generation: 0 });
        Ok(Redis(Arc::new(Inner { client, settings, breaker, connection })))
    }

    /// Runs one command.
    pub async fn call<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let mut connection = self.0.connection();
        self.call_bounded(connection.generation, async move { command.query_async(&mut connection.manager).await }).await
    }

    /// Runs a script by its digest. A server that does not know the digest gets the text.
    pub async fn run<T: FromRedisValue>(&self, invocation: &ScriptInvocation<'_>) -> Result<T, RedisError> {
        let mut connection = self.0.connection();
        self.call_bounded(connection.generation, async move { invocation.invoke_async(&mut connection.manager).await }).await
    }

    /// The full key of an object of this kind. The braces keep keys that one script uses on the same node of a partitioned server.
    pub fn key(&self, kind: &str, name: &str) -> String {
        format!("{}{kind}:{{{name}}}", self.0.settings.prefix)
    }

    /// The full key for data about a person. It holds a digest, because keys are visible to others and callers choose the length of texts.
    pub fn private_key(&self, kind: &str, name: &str, person: &str) -> String {
        use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
        self.key(kind, &format!("{name}:{}", BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(person)[..16])))
    }

    /// The breaker that stops calls to a server that does not answer.
    pub fn breaker(&self) -> &Breaker {
        &self.0.breaker
    }

    async fn call_bounded<T>(&self, generation: u64, call: impl Future<Output = Result<T, ::redis::RedisError>>) -> Result<T, RedisError> {
        let permit = self.0.breaker.acquire().map_err(|open| RedisError::Unavailable(open.to_string()))?;
        let took = Stopwatch::start();
        let limit = self.0.settings.call_timeout;
        let result = match tokio::time::timeout(limit, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if is_outage(&error) => {
                if !error.is_io_error() {
                    self.0.reconnect(generation);
                }
                Err(RedisError::Unavailable(error.to_string()))
            }
            Ok(Err(error)) => Err(RedisError::Refused(error.to_string())),
            Err(_) => Err(RedisError::Unavailable(format!("no answer within {} ms", limit.as_millis()))),
        };
        metrics::histogram!("onrush_redis_call_seconds").record(took.elapsed().as_secs_f64());
        // A rejection is an answer in time, so the server is healthy enough for more calls.
        if matches!(result, Err(RedisError::Unavailable(_))) {
            metrics::counter!("onrush_redis_failures_total").increment(1);
            permit.failed();
        } else {
            permit.succeeded();
        }
        result
    }
}

impl Inner {
    fn connection(&self) -> ManagedConnection {
        self.connection.read().clone()
    }

    /// Opens a new connection where the library would keep the old one: after a refused password, and if the server became a replica.
    fn reconnect(&self, generation: u64) {
        let mut current = self.connection.write();
        if current.generation != generation {
            return;
        }
        match new_manager(&self.client, &self.settings) {
            Ok(manager) => *current = ManagedConnection { manager, generation: generation + 1 },
            Err(error) => tracing::warn!(%error, "new connection to Redis not prepared"),
        }
    }
}

fn new_manager(client: &Client, settings: &RedisSettings) -> Result<ConnectionManager, ::redis::RedisError> {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(RECONNECTS)
        .set_connection_timeout(Some(settings.call_timeout))
        .set_response_timeout(Some(settings.call_timeout))
        .set_pipeline_buffer_size(PIPELINE_CAPACITY);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

/// True if the server rejects every command at present.
fn is_outage(error: &::redis::RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, NoPerm, ReadOnly, TryAgain};
    match error.kind() {
        ErrorKind::Io | ErrorKind::AuthenticationFailed | ErrorKind::ClusterConnectionNotFound => true,
        ErrorKind::Server(kind) => matches!(kind, BusyLoading | ClusterDown | MasterDown | NoPerm | ReadOnly | TryAgain),
        _ => false,
    }
}

impl fmt::Debug for Redis {
    // Without the address, which may carry a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("prefix", &self.0.settings.prefix).field("breaker", &self.0.breaker).finish_non_exhaustive()
    }
}

/// Whole milliseconds for Redis, which rejects 0.
pub fn to_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, u64::from(u32::MAX) * 1_000)
}

/// A random name that is unique across processes, for tokens and generations.
pub(crate) fn random_token() -> String {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    BASE64_URL_SAFE_NO_PAD.encode(runtime::ports::random_bytes::<16>())
}
