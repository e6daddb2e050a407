//! The HTTP client with which processes of one installation speak to each other: kept connections, time limits, bounded answers.
//!
//! It speaks `http://` only. Processes stand in one private network; where that is not so, TLS is terminated by what stands in front of
//! them (a mesh, a tunnel), as it is for clients. It never repeats a request that may have been carried out, follows no redirect, and
//! knows neither peers nor breakers: those are [`crate::links`]'s.

use crate::tasks;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioTimer,
};
use std::{error::Error, fmt, future::Future, time::Duration};

/// What a client allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// A connection must be made by then: in one network it takes a millisecond, so a second means that nobody is there.
    pub connect_time: Duration,
    /// A kept connection without a request is closed after this, before the server's own limit (75 s) closes it under a request.
    pub idle_time: Duration,
    /// Kept connections per address. Fewer than there are requests at a time would mean to make new ones all the while.
    pub idle_connections: usize,
    /// Largest answer that [`Client::send`] reads, in bytes.
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

/// A connection whose other end vanished without a word is found out within this and three probes: 30 s in all.
const PROBE_AFTER: Duration = Duration::from_secs(15);
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing was sent: no connection was made, or it closed before the request was written.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection broke after the request, or a part of it, was sent: it may have been carried out.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// No whole answer in time. The request may have been carried out.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
}

impl ClientError {
    /// True when the request certainly did not reach anybody, so that any request may be repeated.
    pub fn nothing_was_sent(&self) -> bool {
        matches!(self, ClientError::Connect(_))
    }
}

/// Cheap to clone; clones share their connections.
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
        let hyper = legacy::Client::builder(Tasks)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.idle_time)
            .pool_max_idle_per_host(settings.idle_connections)
            .build(connector);
        Client { hyper, max_answer: settings.max_answer }
    }

    /// Sends a request with an absolute `http://` URI and reads the whole answer, all within `limit`.
    pub async fn send(&self, request: Request<Bytes>, limit: Duration) -> Result<Response<Bytes>, ClientError> {
        within(limit, async {
            let (parts, body) = self.begin(request).await?.into_parts();
            let body = Limited::new(body, self.max_answer).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() { ClientError::TooLarge(self.max_answer) } else { ClientError::Lost(chain(&*error)) }
            })?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        })
        .await
    }

    /// Sends a request and hands the answer out as soon as its head is there, which must be within `limit`. Whoever drops the answer (or
    /// this call) closes the connection, so that the other side learns of it.
    pub async fn open(&self, request: Request<Bytes>, limit: Duration) -> Result<Response<Incoming>, ClientError> {
        within(limit, self.begin(request)).await
    }

    async fn begin(&self, request: Request<Bytes>) -> Result<Response<Incoming>, ClientError> {
        self.hyper.request(request.map(Full::new)).await.map_err(|error| {
            let unsent = error.is_connect() || was_not_written(&error);
            let text = chain(&error);
            if unsent { ClientError::Connect(text) } else { ClientError::Lost(text) }
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("max_answer", &self.max_answer).finish_non_exhaustive()
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(ClientError::TimedOut(limit)))
}

/// hyper calls a request canceled when its connection closed while it still waited to be written.
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

/// An error with its causes: hyper's own texts say little.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some wrap a cause and say the same.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Lets hyper's connections be tasks of the process.
#[derive(Clone, Copy)]
struct Tasks;

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        drop(tasks::spawn("http client", future));
    }
}
