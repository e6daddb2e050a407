//! One keep-alive connection and its exchanges. It reconnects when asked again after a loss, and it tells apart a request that was
//! never sent (no effect is possible) from one whose answer was lost (its outcome is unknown).

use crate::RushError;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, Connection, SendRequest},
};
use hyper_util::rt::TokioIo;
use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};

/// A server that keeps a request longer than this has lost it, as far as a shopper can tell. Longer than any `Prefer: wait` sent here.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Nothing a scenario reads is larger; what is longer is read to its end and thrown away.
const KEPT_BODY_BYTES: usize = 1 << 20;

/// Where the server is.
#[derive(Clone, Debug)]
pub struct Target {
    host: String,
    port: u16,
    host_header: HeaderValue,
    pub url: String,
}

impl Target {
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

/// A request, cheap to clone and to send again.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    /// Path and query only.
    pub uri: Uri,
    pub bearer: Option<HeaderValue>,
    pub idempotency_key: Option<HeaderValue>,
    pub prefer: Option<HeaderValue>,
    /// JSON; empty for none.
    pub body: Bytes,
}

impl Call {
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

/// An answer; the body lives in the wire until the next exchange.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub status: u16,
    /// Seconds of `Retry-After`.
    pub retry_after: Option<u32>,
    pub body: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No byte of the request left: it has no effect.
    NotSent,
    /// It was sent, or may have been, and no whole answer came.
    Lost,
}

struct Link {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once the connection has ended.
    connection: Option<Connection<TokioIo<TcpStream>, Full<Bytes>>>,
}

pub struct Wire {
    target: Arc<Target>,
    link: Option<Link>,
    body: Vec<u8>,
}

impl Wire {
    pub fn new(target: Arc<Target>) -> Self {
        Self { target, link: None, body: Vec::with_capacity(1024) }
    }

    /// Opens the connection if there is none.
    pub async fn connect(&mut self) -> Result<(), Failure> {
        if self.link.is_some() {
            return Ok(());
        }
        let opening = async {
            let stream = TcpStream::connect((self.target.host.as_str(), self.target.port)).await.map_err(|_| Failure::NotSent)?;
            // Without it the kernel holds back a small request behind an unacknowledged one.
            stream.set_nodelay(true).map_err(|_| Failure::NotSent)?;
            http1::handshake(TokioIo::new(stream)).await.map_err(|_| Failure::NotSent)
        };
        let (sender, connection) = timeout(CONNECT_TIMEOUT, opening).await.unwrap_or(Err(Failure::NotSent))?;
        self.link = Some(Link { sender, connection: Some(connection) });
        Ok(())
    }

    /// Sends a request and reads its whole answer. After a failure the connection is gone; the next exchange opens another.
    pub async fn exchange(&mut self, call: &Call) -> Result<Answer<'_>, Failure> {
        self.connect().await?;
        let Some(link) = &mut self.link else { return Err(Failure::NotSent) };
        let request = call.request(&self.target.host_header);
        let outcome = timeout(EXCHANGE_TIMEOUT, exchange_on(link, request, &mut self.body)).await.unwrap_or(Err(Failure::Lost));
        if outcome.is_err() || link.connection.is_none() {
            self.link = None;
        }
        let (status, retry_after) = outcome?;
        Ok(Answer { status: status.as_u16(), retry_after, body: &self.body })
    }
}

/// The connection is driven by the task that waits for its answer: no second task, no hand-over between tasks.
async fn exchange_on(link: &mut Link, request: Request<Full<Bytes>>, body: &mut Vec<u8>) -> Result<(StatusCode, Option<u32>), Failure> {
    let Link { sender, connection } = link;
    let work = async {
        sender.ready().await.map_err(|_| Failure::NotSent)?;
        let answered = sender.try_send_request(request).await;
        let response = answered.map_err(|mut error| if error.take_message().is_some() { Failure::NotSent } else { Failure::Lost })?;
        let status = response.status();
        let retry_after = if status.is_success() { None } else { retry_after(&response) };
        keep_body(response.into_body(), body).await?;
        Ok((status, retry_after))
    };
    drive(connection, work).await
}

fn retry_after(response: &http::Response<Incoming>) -> Option<u32> {
    response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

async fn keep_body(mut incoming: Incoming, body: &mut Vec<u8>) -> Result<(), Failure> {
    body.clear();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|_| Failure::Lost)?;
        if let Some(data) = frame.data_ref().filter(|data| body.len() + data.len() <= KEPT_BODY_BYTES) {
            body.extend_from_slice(data);
        }
    }
    Ok(())
}

/// Polls the connection and the work in turn. A connection that has ended is dropped, which ends the work too if it still waits.
async fn drive<T>(connection: &mut Option<Connection<TokioIo<TcpStream>, Full<Bytes>>>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        if connection.as_mut().is_some_and(|open| Pin::new(open).poll(context).is_ready()) {
            *connection = None;
        }
        work.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_plain_http_addresses_only() {
        let target = Target::parse("http://127.0.0.1:8080/").unwrap();
        assert_eq!((target.host.as_str(), target.port, target.url.as_str()), ("127.0.0.1", 8080, "http://127.0.0.1:8080"));
        let six = Target::parse("http://[::1]:9").unwrap();
        assert_eq!((six.host.as_str(), six.port), ("::1", 9));
        for wrong in ["https://host", "host:80", "", "http://user@host", "/path"] {
            assert!(matches!(Target::parse(wrong), Err(RushError::Url(_))), "{wrong}");
        }
    }
}
