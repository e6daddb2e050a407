//! One keep-alive HTTP connection. It reconnects on the next request after a loss. It distinguishes a request that was never sent, which
//! has no effect, from a request whose answer was lost, whose outcome is unknown.

use crate::RushError;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};

/// Longest wait for an answer. Longer than any `Prefer: wait` of a scenario; after it the answer counts as lost.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a body that are kept; the rest is read and dropped. No scenario needs more.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Address of a server.
#[derive(Clone, Debug)]
pub struct TargetServer {
    host: String,
    port: u16,
    host_header: HeaderValue,
    pub url: String,
}

impl TargetServer {
    pub fn parse(url: &str) -> Result<Self, RushError> {
        let wrong = || RushError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        if uri.scheme_str() != Some("http") || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let host_header = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: authority.port_u16().unwrap_or(80), host_header, url: url.trim_end_matches('/').to_owned() })
    }
}

/// A request that is cheap to clone and to repeat.
#[derive(Clone, Debug)]
pub struct PreparedRequest {
    pub method: Method,
    /// Path and query only.
    pub uri: Uri,
    pub bearer: Option<HeaderValue>,
    pub idempotency_key: Option<HeaderValue>,
    pub prefer: Option<HeaderValue>,
    /// JSON. Empty: no body.
    pub body: Bytes,
}

impl PreparedRequest {
    pub fn get(uri: Uri, bearer: Option<HeaderValue>) -> Self {
        Self { method: Method::GET, uri, bearer, idempotency_key: None, prefer: None, body: Bytes::new() }
    }
    pub fn post(uri: Uri, bearer: Option<HeaderValue>, body: Bytes) -> Self {
        Self { method: Method::POST, uri, bearer, idempotency_key: None, prefer: None, body }
    }

    fn request(&self, host: &HeaderValue) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(header::HOST, host.clone());
        if let Some(bearer) = &self.bearer {
            headers.insert(header::AUTHORIZATION, bearer.clone());
        }
        if !self.body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(key) = &self.idempotency_key {
            headers.insert("idempotency-key", key.clone());
        }
        if let Some(prefer) = &self.prefer {
            headers.insert("prefer", prefer.clone());
        }
        request
    }
}

/// An answer. Its body borrows the buffer of the connection, until the next exchange.
#[derive(Clone, Copy, Debug)]
pub struct ServerAnswer<'a> {
    pub status: u16,
    /// Seconds of `Retry-After`.
    pub retry_after: Option<u32>,
    pub body: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeFailure {
    /// No byte of the request was sent, so it has no effect.
    NotSent,
    /// The request was sent, or may have been, and no complete answer arrived.
    Lost,
}

struct OpenConnection {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once the connection has ended.
    driver: Option<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>,
}

pub struct HttpConnection {
    target: Arc<TargetServer>,
    open: Option<OpenConnection>,
    body: Vec<u8>,
}

impl HttpConnection {
    pub fn new(target: Arc<TargetServer>) -> Self {
        Self { target, open: None, body: Vec::with_capacity(1024) }
    }

    /// Opens the connection if there is none.
    pub async fn connect(&mut self) -> Result<(), ExchangeFailure> {
        if self.open.is_some() {
            return Ok(());
        }
        let opening = async {
            let stream = TcpStream::connect((self.target.host.as_str(), self.target.port)).await.map_err(|_| ExchangeFailure::NotSent)?;
            // Without it, the kernel delays a small request until the previous one is acknowledged.
            stream.set_nodelay(true).map_err(|_| ExchangeFailure::NotSent)?;
            http1::handshake(TokioIo::new(stream)).await.map_err(|_| ExchangeFailure::NotSent)
        };
        let (sender, driver) = timeout(CONNECT_TIMEOUT, opening).await.unwrap_or(Err(ExchangeFailure::NotSent))?;
        self.open = Some(OpenConnection { sender, driver: Some(driver) });
        Ok(())
    }

    /// Sends a request and reads the complete answer. A failure closes the connection, and the next exchange opens a new one.
    pub async fn exchange(&mut self, request: &PreparedRequest) -> Result<ServerAnswer<'_>, ExchangeFailure> {
        self.connect().await?;
        let Some(open) = &mut self.open else { return Err(ExchangeFailure::NotSent) };
        let request = request.request(&self.target.host_header);
        let outcome = timeout(EXCHANGE_TIMEOUT, exchange_on(open, request, &mut self.body)).await.unwrap_or(Err(ExchangeFailure::Lost));
        if outcome.is_err() || open.driver.is_none() {
            self.open = None;
        }
        let (status, retry_after) = outcome?;
        Ok(ServerAnswer { status: status.as_u16(), retry_after, body: &self.body })
    }
}

/// Drives the connection in the task that waits for the answer. That saves a second task and the switch between tasks.
async fn exchange_on(
    open: &mut OpenConnection,
    request: Request<Full<Bytes>>,
    body: &mut Vec<u8>,
) -> Result<(StatusCode, Option<u32>), ExchangeFailure> {
    let OpenConnection { sender, driver } = open;
    let work = async {
        sender.ready().await.map_err(|_| ExchangeFailure::NotSent)?;
        let answered = sender.try_send_request(request).await;
        let response =
            answered.map_err(|mut error| if error.take_message().is_some() { ExchangeFailure::NotSent } else { ExchangeFailure::Lost })?;
        let status = response.status();
        let retry_after = if status.is_success() { None } else { retry_after(&response) };
        read_body(response.into_body(), body).await?;
        Ok((status, retry_after))
    };
    drive(driver, work).await
}

fn retry_after(response: &http::Response<Incoming>) -> Option<u32> {
    response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

async fn read_body(mut incoming: Incoming, body: &mut Vec<u8>) -> Result<(), ExchangeFailure> {
    body.clear();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|_| ExchangeFailure::Lost)?;
        if let Some(data) = frame.data_ref().filter(|data| body.len() + data.len() <= MAX_BODY_BYTES) {
            body.extend_from_slice(data);
        }
    }
    Ok(())
}

/// Polls the connection and then the work. A connection that has ended is dropped, which also ends work that still waits for it.
async fn drive<T>(driver: &mut Option<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        if driver.as_mut().is_some_and(|open| Pin::new(open).poll(context).is_ready()) {
            *driver = None;
        }
        work.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_addresses_are_accepted() {
        let target = TargetServer::parse("http://127.0.0.1:8080/").unwrap();
        assert_eq!((target.host.as_str(), target.port, target.url.as_str()), ("127.0.0.1", 8080, "http://127.0.0.1:8080"));
        let six = TargetServer::parse("http://[::1]:9").unwrap();
        assert_eq!((six.host.as_str(), six.port), ("::1", 9));
        for wrong in ["https://host", "host:80", "", "http://user@host", "/path"] {
            assert!(matches!(TargetServer::parse(wrong), Err(RushError::Url(_))), "{wrong}");
        }
    }
}
