//! HTTP client for requests between processes of one installation: pooled connections, timeouts, bounded responses.
//!
//! It speaks `http://` only, because the processes share a private network. Elsewhere a mesh or tunnel in front of them terminates TLS, as
//! it does for clients. The client never retries a request that may have been carried out, and follows no redirect. Peers and breakers
//! belong to the crate `peers`.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioTimer,
};
use runtime::{tasks, telemetry::error_chain};
use std::{error::Error, fmt, future::Future, time::Duration};

/// Timeouts and limits of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// Connect timeout. Within one network a connection takes a millisecond, so a second means that no process listens.
    pub connect_time: Duration,
    /// Closes a pooled connection after this idle time. It is shorter than the server's limit (75 s), which could close it under a request.
    pub idle_time: Duration,
    /// Idle connections kept per address. With fewer than the concurrent requests, the client would reconnect constantly.
    pub idle_connections: usize,
    /// Largest response body that [`Client::send`] reads, in bytes.
    pub max_answer: usize,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            connect_time: Duration::from_secs(1),
            idle_time: Duration::from_secs(20),
            idle_connections: 1_024,
            max_answer: 8 * 1024 * 1024,
        }
    }
}

/// TCP keep-alive: a dead connection is detected after this idle time and three probes, so within 30 s.
const PROBE_AFTER: Duration = Duration::from_secs(15);
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;

/// Reason for a missing response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing was sent. The connection failed, or closed before the request was written.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection broke after at least a part of the request was sent. The peer may have carried it out.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// No complete response in time. The peer may have carried out the request.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
}

impl ClientError {
    /// True when the request certainly reached no peer, so that any request may be retried.
    pub fn nothing_was_sent(&self) -> bool {
        matches!(self, ClientError::Connect(_))
    }
}

/// Client with a connection pool. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct Client {
    hyper: legacy::Client<HttpConnector, Full<Bytes>>,
    max_answer: usize,
}

impl Client {
    pub fn new(settings: ClientSettings) -> Client {
        let mut connector = HttpConnector::new();
        connector.enforce_http(true);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(settings.connect_time));
        connector.set_keepalive(Some(PROBE_AFTER));
        connector.set_keepalive_interval(Some(PROBE_EVERY));
        connector.set_keepalive_retries(Some(PROBES));
        let hyper = legacy::Client::builder(TaskExecutor)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.idle_time)
            .pool_max_idle_per_host(settings.idle_connections)
            .build(connector);
        Client { hyper, max_answer: settings.max_answer }
    }

    /// Sends a request with an absolute `http://` URI and reads the whole response within `limit`.
    pub async fn send(&self, request: Request<Bytes>, limit: Duration) -> Result<Response<Bytes>, ClientError> {
        with_timeout(limit, async {
            let (parts, body) = self.start(request).await?.into_parts();
            let body = Limited::new(body, self.max_answer).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    ClientError::TooLarge(self.max_answer)
                } else {
                    ClientError::Lost(error_chain(&*error))
                }
            })?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        })
        .await
    }

    /// Sends a request and returns the response once its head has arrived, within `limit`. Dropping the response or this future closes the
    /// connection, so that the peer notices.
    pub async fn open(&self, request: Request<Bytes>, limit: Duration) -> Result<Response<Incoming>, ClientError> {
        with_timeout(limit, self.start(request)).await
    }

    async fn start(&self, request: Request<Bytes>) -> Result<Response<Incoming>, ClientError> {
        self.hyper.request(request.map(Full::new)).await.map_err(|error| {
            let unsent = error.is_connect() || was_not_written(&error);
            let text = error_chain(&error);
            if unsent { ClientError::Connect(text) } else { ClientError::Lost(text) }
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("max_answer", &self.max_answer).finish_non_exhaustive()
    }
}

async fn with_timeout<T>(limit: Duration, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(ClientError::TimedOut(limit)))
}

/// True when the connection closed before hyper wrote the request. hyper reports such a request as canceled.
fn was_not_written(error: &legacy::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Runs hyper's connections as named tasks of this process.
#[derive(Clone, Copy)]
struct TaskExecutor;

impl<F> hyper::rt::Executor<F> for TaskExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        drop(tasks::spawn("http client", future));
    }
}
