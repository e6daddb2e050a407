//! Forwards one request: checks the token, tries the peers, and returns their response or a problem.

use super::{
    ForwardRoute,
    headers::{HOPS, forwarded_headers, remove_internal_headers},
    origin::{self, ORIGIN},
    stall_timeout::with_stall_timeout,
};
use crate::links::pool::{PeerAttempts, record_outcome};
use axum::{
    extract::{FromRequestParts, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use contracts::Code;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, request::Parts};
use hyper::body::Incoming;
use metrics::{Counter, Histogram};
use runtime::{line_limit::LineLimit, ports::Stopwatch};
use std::{convert::Infallible, time::Duration};
use uuid::Uuid;
use web::{BODY_LIMIT, Peer, Preferences, Problem, STRANGER_BODY_LIMIT, Trace, client::ClientError, read_whole};

/// Most retries of a request that only reads.
const MAX_RETRIES: u32 = 3;
/// Most retries with an Idempotency-Key after a broken connection. The key makes a retry safe, but the client should not wait for long.
const MAX_KEYED_RETRIES: u32 = 1;
/// Most times that a request is forwarded. One hop leads from the gateway to the service, and more may follow while addresses change.
/// Beyond that the request is in a loop.
const MAX_HOPS: u8 = 3;
/// Minimum time for another try. With less, the breaker would count a failure of a peer that had no time to answer.
const MIN_TRY: Duration = Duration::from_millis(100);
/// Longest `Prefer: wait` that extends the timeout.
const MAX_WAIT: Duration = Duration::from_secs(30);

static LOOP_DETECTED: LineLimit = LineLimit::new("forwarding loop detected");
static ATTEMPT_FAILED: LineLimit = LineLimit::new("forwarding attempt failed");

/// Metrics of one operation's forwarded requests, by outcome.
pub(super) struct ForwardMetrics {
    answered: Counter,
    unavailable: Counter,
    unknown: Counter,
    refused: Counter,
    retries: Counter,
    seconds: Histogram,
}

impl ForwardMetrics {
    pub fn new(service: &str) -> ForwardMetrics {
        let count = |outcome: &'static str| metrics::counter!("onrush_gateway_requests_total", "service" => service.to_owned(), "outcome" => outcome);
        ForwardMetrics {
            answered: count("answered"),
            unavailable: count("unavailable"),
            unknown: count("unknown"),
            refused: count("refused"),
            retries: metrics::counter!("onrush_gateway_retries_total", "service" => service.to_owned()),
            seconds: metrics::histogram!("onrush_gateway_request_seconds", "service" => service.to_owned()),
        }
    }
}

/// Reason for answering in place of the service.
enum ForwardFailure {
    /// The request itself is invalid.
    Refused(Problem),
    /// The service carried out nothing, or the client may safely send the request again.
    Unavailable { retry_after: u32 },
    /// The service may have carried out the request, and a repeat could do it twice.
    Unknown,
}

pub(super) async fn forward(route: &ForwardRoute, request: Request) -> Response {
    let watch = Stopwatch::start();
    let (mut parts, body) = request.into_parts();
    let trace = match Trace::from_request_parts(&mut parts, &()).await {
        Ok(trace) => trace.0,
        Err(never) => {
            let never: Infallible = never;
            match never {}
        }
    };
    let result = match prepare(route, parts, body, trace).await {
        Ok(forwarded) => {
            let is_safe = forwarded.retry_safety != RetrySafety::Unsafe;
            tokio::select! {
                result = forwarded.run(route, trace) => result,
                // The peer may still answer in time, but this process is about to stop.
                () = route.gateway.0.draining.deadline() => Err(if is_safe { ForwardFailure::Unavailable { retry_after: 1 } } else { ForwardFailure::Unknown }),
            }
        }
        Err(problem) => Err(ForwardFailure::Refused(problem)),
    };
    route.metrics.seconds.record(watch.elapsed().as_secs_f64());
    let problem = match result {
        Ok(response) => {
            route.metrics.answered.increment(1);
            return client_response(route, response);
        }
        Err(ForwardFailure::Refused(problem)) => {
            route.metrics.refused.increment(1);
            problem
        }
        Err(ForwardFailure::Unavailable { retry_after }) => {
            route.metrics.unavailable.increment(1);
            Problem::from(Code::ServiceUnavailable).retry_after(retry_after)
        }
        Err(ForwardFailure::Unknown) => {
            route.metrics.unknown.increment(1);
            Problem::new(Code::BadGateway, "The service did not answer: whether the request was carried out is not known.")
        }
    };
    problem.into_response()
}

/// A request in the form that is sent to the peer.
struct ForwardedRequest {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    retry_safety: RetrySafety,
    wait: Duration,
}

/// Safety of a retry after the request was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RetrySafety {
    /// The request only reads. The gateway retries it.
    ReadOnly,
    /// The request has an Idempotency-Key. The gateway retries it once.
    Keyed,
    /// The operation is idempotent. The gateway reports the failure, and the client may retry.
    Idempotent,
    Unsafe,
}

impl RetrySafety {
    fn of(route: &ForwardRoute, method: &Method, headers: &HeaderMap) -> RetrySafety {
        match *method {
            Method::GET | Method::HEAD => RetrySafety::ReadOnly,
            _ if headers.contains_key("idempotency-key") => RetrySafety::Keyed,
            _ if route.is_idempotent => RetrySafety::Idempotent,
            _ => RetrySafety::Unsafe,
        }
    }
}

/// Checks a request and prepares it for the peer. `Err`: the request is refused before any peer is tried.
async fn prepare(route: &ForwardRoute, parts: Parts, body: axum::body::Body, trace: Uuid) -> Result<ForwardedRequest, Problem> {
    let hops = parts.headers.get(HOPS).and_then(|value| value.to_str().ok()?.parse::<u8>().ok()).unwrap_or(0).saturating_add(1);
    if hops > MAX_HOPS {
        if let Some(left_out) = LOOP_DETECTED.take() {
            let trace = trace.simple();
            tracing::error!(service = route.service, %trace, left_out, "forwarding loop detected: check the addresses of the peers");
        }
        return Err(Problem::new(Code::ServiceUnavailable, "The request was forwarded in a circle."));
    }
    let caller = if route.takes_token { route.gateway.0.auth.caller(&parts.headers)? } else { None };
    // Reads the whole body, which is small. A slow client then occupies no connection to the peer, and the gateway can retry.
    let limit = if caller.is_some() { BODY_LIMIT } else { STRANGER_BODY_LIMIT };
    let body = read_whole(&parts.extensions, body, limit).await?;
    let retry_safety = RetrySafety::of(route, &parts.method, &parts.headers);
    let wait = Preferences::of(&parts.headers).wait.min(MAX_WAIT);
    let peer = parts.extensions.get::<Peer>().copied();
    let mut headers = forwarded_headers(parts.headers, trace, hops);
    if let Some(origin) = peer.and_then(|peer| origin::origin_header(&route.gateway.0.signer, &parts.method, &parts.uri, peer)) {
        headers.insert(ORIGIN, origin);
    }
    Ok(ForwardedRequest { method: parts.method, uri: parts.uri, headers, body, retry_safety, wait })
}

/// Outcome of one try.
enum TryOutcome {
    Done(http::Response<Incoming>),
    /// A server error. Another try may succeed; without one, the client gets this response.
    Failed(http::Response<Incoming>),
    Retry(ForwardFailure),
    GiveUp(ForwardFailure),
}

impl ForwardedRequest {
    async fn run(self, route: &ForwardRoute, trace: Uuid) -> Result<http::Response<Incoming>, ForwardFailure> {
        let pool = &route.gateway.0.pool;
        let Some(mut attempts) = pool.attempts(&route.service) else {
            tracing::error!(service = route.service, "no address configured for a remote service");
            return Err(ForwardFailure::Unavailable { retry_after: 1 });
        };
        let limit = route.gateway.0.settings.answer_time + self.wait;
        let watch = Stopwatch::start();
        let mut result = Err(ForwardFailure::Unavailable { retry_after: 1 });
        let mut ambiguous_tries = 0;
        for number in 0..=MAX_RETRIES {
            let pause = if number == 0 { Duration::ZERO } else { attempts.pause() };
            if number > 0 {
                if limit.saturating_sub(watch.elapsed()) < pause + MIN_TRY || !attempts.try_spend_retry() {
                    break;
                }
                tokio::time::sleep(pause).await;
                route.metrics.retries.increment(1);
            }
            let left = limit.saturating_sub(watch.elapsed());
            match self.try_once(&mut attempts, route, left, &mut ambiguous_tries, trace).await {
                TryOutcome::Done(response) => return Ok(response),
                TryOutcome::Failed(response) => result = Ok(response),
                TryOutcome::Retry(failure) => result = Err(failure),
                TryOutcome::GiveUp(failure) => return Err(failure),
            }
        }
        result
    }

    /// Makes one try. `ambiguous_tries` counts the tries after which the peer may have carried out the request.
    async fn try_once(
        &self,
        attempts: &mut PeerAttempts<'_>,
        route: &ForwardRoute,
        left: Duration,
        ambiguous_tries: &mut u32,
        trace: Uuid,
    ) -> TryOutcome {
        let (target, permit) = match attempts.next() {
            Ok(next) => next,
            Err(open) => {
                let retry_after = u32::try_from(open.retry_in.as_millis().div_ceil(1_000)).unwrap_or(1).clamp(1, 60);
                return TryOutcome::GiveUp(self.failure(*ambiguous_tries, retry_after));
            }
        };
        let path = self.uri.path_and_query().map_or("/", |target| target.as_str());
        let mut request = http::Request::new(self.body.clone());
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        *request.uri_mut() = match target.address.at(path) {
            Ok(uri) => uri,
            Err(_) => return TryOutcome::GiveUp(ForwardFailure::Refused(Code::BadRequest.into())),
        };
        let result = route.gateway.0.pool.client().open(request, left).await;
        record_outcome(permit, &result);
        let error = match result {
            Ok(response) if is_from_intermediary(&response) => {
                // With 503 the intermediary did not forward the request. With 502 and 504 it may have.
                *ambiguous_tries += u32::from(response.status() != StatusCode::SERVICE_UNAVAILABLE);
                let failure = self.failure(*ambiguous_tries, 1);
                return if self.retry_safety == RetrySafety::ReadOnly { TryOutcome::Retry(failure) } else { TryOutcome::GiveUp(failure) };
            }
            Ok(response) if self.retry_safety == RetrySafety::ReadOnly && is_retryable_status(response.status()) => {
                return TryOutcome::Failed(response);
            }
            Ok(response) => return TryOutcome::Done(response),
            Err(error) => error,
        };
        if let Some(left_out) = ATTEMPT_FAILED.take() {
            let (address, trace) = (&target.address, trace.simple());
            tracing::warn!(service = route.service, %address, %error, %trace, left_out, "forwarding attempt failed");
        }
        if error.nothing_was_sent() {
            return TryOutcome::Retry(self.failure(*ambiguous_tries, 1));
        }
        *ambiguous_tries += 1;
        let may_retry = match self.retry_safety {
            RetrySafety::ReadOnly => true,
            RetrySafety::Keyed => *ambiguous_tries <= MAX_KEYED_RETRIES,
            RetrySafety::Idempotent | RetrySafety::Unsafe => false,
        };
        // No retry after a timeout: the try used up the whole time.
        let has_timed_out = matches!(error, ClientError::TimedOut(_));
        let failure = self.failure(*ambiguous_tries, 1);
        if may_retry && !has_timed_out { TryOutcome::Retry(failure) } else { TryOutcome::GiveUp(failure) }
    }

    fn failure(&self, ambiguous_tries: u32, retry_after: u32) -> ForwardFailure {
        if ambiguous_tries > 0 && self.retry_safety == RetrySafety::Unsafe {
            ForwardFailure::Unknown
        } else {
            ForwardFailure::Unavailable { retry_after }
        }
    }
}

/// True for server errors that a retry may fix. 501 is permanent.
fn is_retryable_status(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

/// True for responses of an intermediary that could not reach the service.
fn is_from_intermediary<B>(response: &http::Response<B>) -> bool {
    let problem = || {
        let kind = response.headers().get(header::CONTENT_TYPE);
        kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"))
    };
    matches!(response.status(), StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) && !problem()
}

fn client_response(route: &ForwardRoute, response: http::Response<Incoming>) -> Response {
    let (mut parts, body) = response.into_parts();
    if parts.status.is_informational() {
        // Only a protocol upgrade ends with an informational status, and the gateway requests none.
        return Problem::from(Code::BadGateway).into_response();
    }
    remove_internal_headers(&mut parts.headers);
    let stall_time = (!is_event_stream(parts.headers.get(header::CONTENT_TYPE))).then_some(route.gateway.0.settings.stall_time);
    Response::from_parts(parts, with_stall_timeout(body, stall_time))
}

fn is_event_stream(kind: Option<&HeaderValue>) -> bool {
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}
