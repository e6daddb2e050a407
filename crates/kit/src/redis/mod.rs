//! What is shared over Redis and never the truth.
//!
//! Owns the connection, the bound on every call and the breaker before it. Everything built on it must work, slower at most, when Redis
//! is gone, was emptied, or answers late: callers take every error here as "Redis knows nothing" and ask the database. Nothing is kept
//! in Redis that could not be lost this instant.
//!
//! Calls belong on the process's runtime. A commit hook runs on a writer's thread and must not call; it leaves its news to a task.

pub mod entries;
pub mod fence;
pub mod lock;
pub mod rate_limit;
pub mod web_sessions;

pub use entries as shared;
pub use rate_limit as limit;
pub use web_sessions as sessions;

pub use ::redis::{Cmd, FromRedisValue, Script, ScriptInvocation, ToRedisArgs, cmd};

use crate::{
    breaker::{Breaker, BreakerSettings},
    ports::{Clock, Stopwatch},
};
use ::redis::{
    Client, ErrorKind, ServerErrorKind,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use std::{
    fmt,
    future::Future,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// Calls that may wait for their turn on the connection; with fewer, a rush would wait for itself.
const PIPELINE_CAPACITY: usize = 1_024;
/// The library tries a broken connection again so often by itself; with its default of 6, calls hang until the server is back.
const RECONNECTS: usize = 1;

/// What every key begins with where nothing else is said.
pub const DEFAULT_PREFIX: &str = "onrush:";

/// Where a URL leads, for people: without the password. Nobody is asked.
pub fn place(url: &str) -> Result<String, RedisError> {
    let client = Client::open(url).map_err(|error| RedisError::Address(error.to_string()))?;
    let info = client.get_connection_info();
    let password = if info.redis_settings().password().is_some() { "***@" } else { "" };
    Ok(format!("redis://{password}{}/{}", info.addr(), info.redis_settings().db()))
}

/// How Redis is used.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// No call takes longer, connecting included. A healthy one takes a millisecond.
    pub call_timeout: Duration,
    /// Every key begins with it, so that several malls can share a server.
    pub prefix: String,
    pub breaker: BreakerSettings,
}

impl Default for RedisSettings {
    /// Tried again every second: while some processes have Redis again, others must not go on without it for long.
    fn default() -> Self {
        let breaker = BreakerSettings { open_for: Duration::from_secs(1), ..BreakerSettings::default() };
        Self { call_timeout: Duration::from_millis(250), prefix: DEFAULT_PREFIX.into(), breaker }
    }
}

/// Why there is no answer. Whatever it is, the caller goes on as if Redis knew nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RedisError {
    /// The setting is wrong; nothing was tried.
    #[error("the address of Redis cannot be used: {0}")]
    Address(String),
    /// No answer in time, no connection, a server that is not ready, or the breaker is open. The command may have taken effect.
    #[error("Redis does not answer: {0}")]
    Unavailable(String),
    /// It answered, and not what was asked for: out of memory, a key of another kind, a mistake in a script.
    #[error("Redis refused: {0}")]
    Refused(String),
}

/// A connection to one Redis server, made when it is first needed and again whenever it breaks. Cheap to clone.
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
    /// Tells it from the ones before.
    generation: u64,
}

impl Redis {
    /// Checks the address and returns at once, whether the server runs or not. Must be called within the runtime.
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

    /// Runs a script by its digest; a server that does not know it is told the text.
    pub async fn run<T: FromRedisValue>(&self, invocation: &ScriptInvocation<'_>) -> Result<T, RedisError> {
        let mut connection = self.0.connection();
        self.call_bounded(connection.generation, async move { invocation.invoke_async(&mut connection.manager).await }).await
    }

    /// The full key of a thing of this kind. The braces keep keys that a script uses together on one node of a partitioned server.
    pub fn key(&self, kind: &str, name: &str) -> String {
        format!("{}{kind}:{{{name}}}", self.0.settings.prefix)
    }

    /// Stops asking a server that does not answer.
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
            Err(_) => Err(RedisError::Unavailable(format!("nothing within {} ms", limit.as_millis()))),
        };
        metrics::histogram!("onrush_redis_call_seconds").record(took.elapsed().as_secs_f64());
        // A refusal is an answer, and came in time: the server is well enough to be asked.
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
        self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins anew where the library would keep what it has: after a password that was refused, and with a server that became a replica.
    fn reconnect(&self, generation: u64) {
        let mut current = self.connection.write().unwrap_or_else(PoisonError::into_inner);
        if current.generation != generation {
            return;
        }
        match new_manager(&self.client, &self.settings) {
            Ok(manager) => *current = ManagedConnection { manager, generation: generation + 1 },
            Err(error) => tracing::warn!(%error, "cannot prepare a new connection to Redis"),
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

/// True when this server cannot be used now, for whatever command.
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

/// Whole milliseconds for Redis, which refuses 0.
pub(crate) fn to_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, u64::from(u32::MAX) * 1_000)
}

/// A name nobody else has given: for tokens and generations.
pub(crate) fn random_token() -> String {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    BASE64_URL_SAFE_NO_PAD.encode(crate::ports::random_bytes::<16>())
}
