//! PostgreSQL 15 or later: the server, its connections, and the pool of readers. Never prints the password.

mod bulk;
mod error;
mod listen;
mod migrate;
mod outcome;
mod prepare;
mod scratch;
mod session;
mod statements;
mod values;

pub use listen::Listener;
pub use scratch::ScratchDatabase;
pub use session::PgSession;
pub use values::{ParamRows, column};

use super::{
    DbError,
    heavy::{HEAVY_READERS, HeavyTurns, STATEMENT_LIMIT},
};
use bulk::Bulk;
use deadpool_postgres::{ClientWrapper, Connect, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use runtime::{tasks, telemetry::error_chain};
use std::{collections::HashMap, fmt, future::Future, str::FromStr, sync::Arc, time::Duration};
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_postgres::{
    Client, Config, NoTls, SimpleQueryMessage,
    config::{Host, SslMode},
    types::Type,
};

type PgError = tokio_postgres::Error;

const MIN_VERSION: i64 = 150_000;
/// Timeout of connecting, while a caller waits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of the first connection, when no caller waits and the server may be starting as well.
const FIRST_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeouts that the server enforces, in milliseconds: a statement, a wait for a lock, a transaction whose owner went silent.
const TIMEOUTS: &str = "-c statement_timeout=10000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=20000";
/// Planner options for writers, whose statements select rows by keys. On tables without statistics the server prefers full scans. Those
/// are quick while tables are small, and the server would keep them as tables grow. These options force index scans, and one plan for all
/// values. Compiling such a statement never pays.
const WRITER_OPTIONS: &str = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c enable_material=off -c jit=off \
                       -c plan_cache_mode=force_generic_plan";
/// Options of heavy readers: one process of the server for each, and no compiling. Their statements read a bounded part of an index, which a
/// scan of the table would not be.
const HEAVY_OPTIONS: &str = "-c default_transaction_read_only=on -c max_parallel_workers_per_gather=0 -c enable_seqscan=off -c jit=off";
/// Rest after a heavy read, in lengths of the read. The server's processes have no lower priority. So the two heavy readers together take
/// at most a quarter of one of its processors. This holds for reads of up to 140 ms, because no rest is longer than a second.
const HEAVY_REST: u32 = 7;
/// A silently dead connection is noticed after 10 + 3 * 5 seconds.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// Data that stays unacknowledged for this long ends the connection.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// One database on a server.
#[derive(Clone)]
pub struct PgServer(Arc<Inner>);

struct Inner {
    writer: Config,
    pool: Pool,
    heavy_pool: Pool,
    heavy_turns: HeavyTurns,
    runtime: Handle,
    /// For people: host, port and database, without user and password.
    location: String,
    /// Parameter types that the server cannot infer from the text alone, by text.
    types: Mutex<HashMap<String, Arc<[Type]>>>,
    /// Texts rewritten for many rows. `None`: the rows run one by one.
    bulks: Mutex<HashMap<String, Option<Arc<Bulk>>>>,
}

impl fmt::Debug for PgServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgres://{}", self.0.location)
    }
}

impl PgServer {
    pub fn new(url: &str, schemas: &[&str], readers: usize) -> Result<Self, DbError> {
        let runtime = Handle::try_current().map_err(|_| DbError::Open("connections to PostgreSQL need a running runtime".into()))?;
        let config = parse_url(url).map_err(|reason| DbError::Open(format!("the database URL: {reason}")))?;
        let base = build_config(config, schemas)?;
        let with = |more: &str| {
            let mut config = base.clone();
            config.options(format!("{} {more}", base.get_options().unwrap_or_default()));
            config
        };
        let writer = with(WRITER_OPTIONS);
        let pool = build_pool(with("-c default_transaction_read_only=on"), readers)?;
        let statement_limit = format!("-c statement_timeout={}", STATEMENT_LIMIT.as_millis());
        let heavy_pool = build_pool(with(&format!("{HEAVY_OPTIONS} {statement_limit}")), HEAVY_READERS)?;
        let heavy_turns = HeavyTurns::new(HEAVY_READERS, HEAVY_REST);
        let location = host_and_database(&writer);
        let (types, bulks) = (Mutex::default(), Mutex::default());
        Ok(Self(Arc::new(Inner { writer, pool, heavy_pool, heavy_turns, runtime, location, types, bulks })))
    }

    pub fn is_same_as(&self, other: &PgServer) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Runs a future on the runtime of the connections. It may be awaited on any thread.
    async fn run_on_runtime<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, DbError>> + Send + 'static,
    ) -> Result<T, DbError> {
        match self.0.runtime.spawn(future).await {
            Ok(result) => result,
            Err(error) => Err(DbError::Closed(format!("the runtime of the connections is gone: {error}"))),
        }
    }

    /// A separate connection for writing.
    pub async fn writer(&self) -> Result<PgSession, DbError> {
        let client = self.connect(FIRST_CONNECT_TIMEOUT).await?;
        PgSession::writer(self.clone(), client).await
    }

    async fn connect(&self, within: Duration) -> Result<ClientWrapper, DbError> {
        let config = self.0.writer.clone();
        self.run_on_runtime(open_connection(config, within)).await
    }

    /// A read connection from the pool.
    pub async fn reader(&self) -> Result<PgSession, DbError> {
        self.reader_of(&self.0.pool).await
    }

    pub fn heavy_turns(&self) -> &HeavyTurns {
        &self.0.heavy_turns
    }

    /// A read connection for the holder of a turn.
    pub async fn heavy_reader(&self) -> Result<PgSession, DbError> {
        self.reader_of(&self.0.heavy_pool).await
    }

    async fn reader_of(&self, pool: &Pool) -> Result<PgSession, DbError> {
        Ok(PgSession::reader(self.clone(), pool.clone(), self.pooled(pool).await?))
    }

    async fn pooled(&self, pool: &Pool) -> Result<deadpool_postgres::Object, DbError> {
        let pool = pool.clone();
        let got = async move { pool.get().await.map_err(pool_error) };
        // The pool needs the timers of a runtime, and the engine's threads have none.
        if Handle::try_current().is_ok() { got.await } else { self.run_on_runtime(got).await }
    }

    pub async fn check(&self) -> Result<(), DbError> {
        let client = self.connect(FIRST_CONNECT_TIMEOUT).await?;
        let sql = "select current_setting('server_version_num'), current_setting('fsync'), current_setting('synchronous_commit'), \
                   current_setting('server_encoding')";
        let rows = client.simple_query(sql).await.map_err(|error| error::of(&error))?;
        let shown = |index| first_row(&rows, index).unwrap_or_default();
        match unsuitable_reason([shown(0), shown(1), shown(2), shown(3)]) {
            None => Ok(()),
            Some(reason) => Err(DbError::Open(format!("{}: {reason}", self.0.location))),
        }
    }

    pub async fn listen(&self, channel: &str) -> Result<Listener, DbError> {
        self.run_on_runtime(listen::listen(self.0.writer.clone(), channel.to_owned())).await
    }
}

/// The reason why a server with these settings is unsuitable. It says which setting to change.
fn unsuitable_reason([version, fsync, synchronous_commit, encoding]: [&str; 4]) -> Option<&'static str> {
    if version.parse::<i64>().unwrap_or(0) < MIN_VERSION {
        Some("the server is older than PostgreSQL 15")
    } else if fsync != "on" {
        Some("the server's setting fsync is off, so it would lose commits with the power: set fsync = on")
    } else if synchronous_commit == "off" {
        Some(
            "the setting synchronous_commit is off for this user or server, so commits would be acknowledged before they are durable: set synchronous_commit = on",
        )
    } else if encoding != "UTF8" {
        Some("the database's encoding is not UTF8: create it with encoding 'UTF8'")
    } else {
        None
    }
}

/// A column of the first row, as text.
fn first_row(messages: &[SimpleQueryMessage], index: usize) -> Option<&str> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.try_get(index).ok().flatten(),
        _ => None,
    })
}

fn build_pool(config: Config, size: usize) -> Result<Pool, DbError> {
    let settings = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    Pool::builder(Manager::from_connect(config, Connector, settings))
        .max_size(size)
        .wait_timeout(Some(super::READER_TIMEOUT))
        .create_timeout(Some(CONNECT_TIMEOUT))
        .recycle_timeout(Some(CONNECT_TIMEOUT))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| DbError::Open(error.to_string()))
}

fn build_config(mut config: Config, schemas: &[&str]) -> Result<Config, DbError> {
    let is_plain_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if let Some(name) = schemas.iter().find(|name| !is_plain_name(name)) {
        return Err(DbError::Open(format!("{name:?} is not the name of a schema")));
    }
    let mut options = format!("{} {TIMEOUTS}", config.get_options().unwrap_or_default());
    if !schemas.is_empty() {
        options.push_str(" -c search_path=");
        options.push_str(&schemas.join(","));
    }
    config.options(options.trim_start());
    if config.get_application_name().is_none() {
        config.application_name("onrush");
    }
    config
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
        .tcp_user_timeout(TCP_USER_TIMEOUT);
    Ok(config)
}

/// Parses a URL. `Err`: the reason why it cannot be used.
fn parse_url(url: &str) -> Result<Config, String> {
    let config = Config::from_str(url).map_err(|error| error_chain(&error))?;
    if config.get_ssl_mode() == SslMode::Require {
        return Err("it asks for TLS, which this program does not have: use a tunnel, or sslmode=prefer".into());
    }
    Ok(config)
}

/// A URL for people, without the password. Opens no connection.
pub fn display_url(url: &str) -> Result<String, String> {
    let config = parse_url(url)?;
    let user = config.get_user().unwrap_or_default();
    let password = if config.get_password().is_some() { ":***" } else { "" };
    Ok(format!("postgres://{user}{password}{}{}", if user.is_empty() { "" } else { "@" }, host_and_database(&config)))
}

fn host_and_database(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".into(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    format!("{host}:{port}/{}", config.get_dbname().or_else(|| config.get_user()).unwrap_or_default())
}

/// Opens a connection and starts the task that drives it. Must run inside the runtime.
async fn open_connection(config: Config, within: Duration) -> Result<ClientWrapper, DbError> {
    match tokio::time::timeout(within, Connector.connect(&config)).await {
        Ok(Ok((client, driver))) => Ok(ClientWrapper::new(client, driver)),
        Ok(Err(error)) => Err(error::of_connecting(&error)),
        Err(_) => Err(DbError::Closed(format!("{} does not answer", host_and_database(&config)))),
    }
}

struct Connector;

impl Connect for Connector {
    fn connect(&self, config: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        let config = config.clone();
        Box::pin(async move {
            let (client, connection) = config.connect(NoTls).await?;
            let driver = tasks::spawn("postgres connection", async move {
                if let Err(error) = connection.await {
                    tracing::warn!(error = error_chain(&error), "database connection lost");
                }
            });
            Ok((client, driver))
        })
    }
}

fn pool_error(error: PoolError) -> DbError {
    match error {
        PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => DbError::Busy,
        PoolError::Timeout(_) => DbError::Closed("the server does not answer".into()),
        PoolError::Backend(error) => error::of_connecting(&error),
        other => DbError::Closed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Other tests use real servers. None of those is too old.
    #[test]
    fn a_server_must_be_new_and_durable() {
        assert_eq!(unsuitable_reason(["150000", "on", "on", "UTF8"]), None);
        assert_eq!(unsuitable_reason(["180001", "on", "remote_apply", "UTF8"]), None);
        for (reported, word) in [
            (["140018", "on", "on", "UTF8"], "older than PostgreSQL 15"),
            (["", "", "", ""], "older than PostgreSQL 15"),
            (["150000", "off", "on", "UTF8"], "fsync = on"),
            (["150000", "on", "off", "UTF8"], "synchronous_commit = on"),
            (["150000", "on", "on", "SQL_ASCII"], "encoding 'UTF8'"),
        ] {
            assert!(unsuitable_reason(reported).is_some_and(|reason| reason.contains(word)), "{reported:?}");
        }
    }

    // F29: a vanished peer is noticed within half a minute.
    #[test]
    fn a_hanging_connection_times_out() {
        let config = Config::from_str("postgres://u:p@h/mall?options=-c%20jit%3Doff&keepalives_idle=7200").expect("a URL");
        let config = build_config(config, &["stock", "orders"]).expect("names of schemas");
        assert!(config.get_keepalives());
        let noticed =
            config.get_keepalives_idle() + config.get_keepalives_interval().expect("set") * config.get_keepalives_retries().expect("set");
        assert!(noticed <= Duration::from_secs(30), "{noticed:?}");
        assert!(config.get_tcp_user_timeout().is_some_and(|after| *after <= Duration::from_secs(30)));
        assert_eq!(config.get_options(), Some(format!("-c jit=off {TIMEOUTS} -c search_path=stock,orders").as_str()));
        assert_eq!((config.get_application_name(), host_and_database(&config).as_str()), (Some("onrush"), "h:5432/mall"));
    }
}
