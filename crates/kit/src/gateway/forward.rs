//! One request, from the check of its token to the answer, or to the one in its place.

use super::{
    Route,
    headers::{HOPS, back, onward},
    origin::{self, ORIGIN},
    paced::paced,
};
use crate::{
    http::{BODY_LIMIT, Peer, Problem, Trace, client::ClientError, read_whole},
    links::pool::{Round, tell},
    ports::Stopwatch,
};
use axum::{
    extract::{FromRequestParts, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use contracts::Code;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, request::Parts};
use hyper::body::Incoming;
use metrics::{Counter, Histogram};
use std::{convert::Infallible, time::Duration};
use uuid::Uuid;

/// Repeats of a request that only reads.
const RETRIES: u32 = 3;
/// Repeats with an Idempotency-Key after the connection broke: the key makes it safe, but nobody should wait for long.
const KEYED_RETRIES: u32 = 1;
/// A request is forwarded so often at most: from a gateway that a client reached to the service, and on once more while addresses change.
/// More is a circle.
const MAX_HOPS: u8 = 3;
/// With less than this left another try would only blame a peer that had no time to answer.
const MIN_TRY: Duration = Duration::from_millis(100);
/// The longest `Prefer: wait` that counts.
const MAX_WAIT: u64 = 30;

/// What one operation's requests came to.
pub(super) struct Meters {
    answered: Counter,
    unavailable: Counter,
    unknown: Counter,
    refused: Counter,
    retries: Counter,
    seconds: Histogram,
}

impl Meters {
    pub fn new(service: &str) -> Meters {
        let count = |outcome: &'static str| metrics::counter!("onrush_gateway_requests_total", "service" => service.to_owned(), "outcome" => outcome);
        Meters {
            answered: count("answered"),
            unavailable: count("unavailable"),
            unknown: count("unknown"),
            refused: count("refused"),
            retries: metrics::counter!("onrush_gateway_retries_total", "service" => service.to_owned()),
            seconds: metrics::histogram!("onrush_gateway_request_seconds", "service" => service.to_owned()),
        }
    }
}

/// Why there is no answer to pass on.
enum Failure {
    /// The request is wrong in itself.
    Refused(Problem),
    /// Nothing was carried out, or it may be sent again without harm.
    Unavailable { retry_after: u32 },
    /// It may have been carried out, and sending it again might do it twice.
    Unknown,
}

pub(super) async fn forward(route: &Route, request: Request) -> Response {
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
        Ok(onward) => {
            let is_safe = onward.repeat != Repeat::Never;
            tokio::select! {
                result = onward.run(route, trace) => result,
                // The one that was asked may take its time; this process has none left.
                () = route.gateway.0.leaving.last_wait() => Err(if is_safe { Failure::Unavailable { retry_after: 1 } } else { Failure::Unknown }),
            }
        }
        Err(problem) => Err(Failure::Refused(problem)),
    };
    route.meters.seconds.record(watch.elapsed().as_secs_f64());
    let problem = match result {
        Ok(response) => {
            route.meters.answered.increment(1);
            return pass_back(route, response);
        }
        Err(Failure::Refused(problem)) => {
            route.meters.refused.increment(1);
            problem
        }
        Err(Failure::Unavailable { retry_after }) => {
            route.meters.unavailable.increment(1);
            Problem::from(Code::ServiceUnavailable).retry_after(retry_after)
        }
        Err(Failure::Unknown) => {
            route.meters.unknown.increment(1);
            Problem::new(Code::BadGateway, "The service did not answer: whether the request was carried out is not known.")
        }
    };
    problem.into_response()
}

/// A request as it goes on.
struct Onward {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    repeat: Repeat,
    wait: Duration,
}

/// When a request may be sent again although it was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// It only reads.
    Freely,
    /// It has an Idempotency-Key.
    ByKey,
    /// Its method says that twice is as good as once, but a failure is the client's to act on.
    Harmless,
    Never,
}

impl Repeat {
    fn of(method: &Method, headers: &HeaderMap) -> Repeat {
        match *method {
            Method::GET | Method::HEAD => Repeat::Freely,
            _ if headers.contains_key("idempotency-key") => Repeat::ByKey,
            Method::PUT | Method::DELETE | Method::OPTIONS => Repeat::Harmless,
            _ => Repeat::Never,
        }
    }
}

/// Everything that can be wrong with a request before it goes anywhere.
async fn prepare(route: &Route, parts: Parts, body: axum::body::Body, trace: Uuid) -> Result<Onward, Problem> {
    let hops = parts.headers.get(HOPS).and_then(|value| value.to_str().ok()?.parse::<u8>().ok()).unwrap_or(0).saturating_add(1);
    if hops > MAX_HOPS {
        tracing::error!(service = route.service, trace = %trace.simple(), "a request goes in circles: the addresses of peers are wrong");
        return Err(Problem::new(Code::ServiceUnavailable, "The request was forwarded in a circle."));
    }
    if route.takes_token {
        route.gateway.0.auth.caller(&parts.headers)?;
    }
    // A body is small: read whole, it holds no connection of the peer while a slow client sends it, and it can be sent again.
    let body = read_whole(body, BODY_LIMIT).await?;
    let repeat = Repeat::of(&parts.method, &parts.headers);
    let wait = preferred_wait(&parts.headers);
    let peer = parts.extensions.get::<Peer>().copied();
    let mut headers = onward(parts.headers, origin::neighbour(&parts.extensions), trace, hops);
    if let Some(origin) = peer.and_then(|peer| origin::write(&route.gateway.0.signer, &parts.method, &parts.uri, peer)) {
        headers.insert(ORIGIN, origin);
    }
    Ok(Onward { method: parts.method, uri: parts.uri, headers, body, repeat, wait })
}

/// The `wait=<seconds>` of a `Prefer` header (RFC 7240).
fn preferred_wait(headers: &HeaderMap) -> Duration {
    let texts = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(',')).filter_map(|part| part.split_once('='));
    let seconds =
        pairs.find_map(|(name, value)| name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().parse::<u64>().ok()).flatten());
    Duration::from_secs(seconds.unwrap_or(0).min(MAX_WAIT))
}

/// What follows from one try.
enum Step {
    Done(http::Response<Incoming>),
    /// It answered that it failed: another try may have more luck, and if there is none this is the answer.
    Failed(http::Response<Incoming>),
    Again(Failure),
    Over(Failure),
}

impl Onward {
    async fn run(self, route: &Route, trace: Uuid) -> Result<http::Response<Incoming>, Failure> {
        let pool = &route.gateway.0.pool;
        let Some(mut round) = pool.round(&route.service) else {
            tracing::error!(service = route.service, "no address is known of a service that runs elsewhere");
            return Err(Failure::Unavailable { retry_after: 1 });
        };
        let limit = route.gateway.0.settings.answer_time + self.wait;
        let watch = Stopwatch::start();
        let mut result = Err(Failure::Unavailable { retry_after: 1 });
        let mut broken = 0;
        for number in 0..=RETRIES {
            let pause = if number == 0 { Duration::ZERO } else { round.pause() };
            if number > 0 {
                if limit.saturating_sub(watch.elapsed()) < pause + MIN_TRY || !round.may_repeat() {
                    break;
                }
                tokio::time::sleep(pause).await;
                route.meters.retries.increment(1);
            }
            let left = limit.saturating_sub(watch.elapsed());
            match self.once(&mut round, route, left, &mut broken, trace).await {
                Step::Done(response) => return Ok(response),
                Step::Failed(response) => result = Ok(response),
                Step::Again(failure) => result = Err(failure),
                Step::Over(failure) => return Err(failure),
            }
        }
        result
    }

    /// One try. `broken` counts the tries after which it is not known what was done.
    async fn once(&self, round: &mut Round<'_>, route: &Route, left: Duration, broken: &mut u32, trace: Uuid) -> Step {
        let (target, permit) = match round.next() {
            Ok(next) => next,
            Err(open) => {
                let retry_after = u32::try_from(open.retry_in.as_millis().div_ceil(1_000)).unwrap_or(1).clamp(1, 60);
                return Step::Over(self.failure(*broken, retry_after));
            }
        };
        let path = self.uri.path_and_query().map_or("/", |target| target.as_str());
        let mut request = http::Request::new(self.body.clone());
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        *request.uri_mut() = match target.address.at(path) {
            Ok(uri) => uri,
            Err(_) => return Step::Over(Failure::Refused(Code::BadRequest.into())),
        };
        let result = route.gateway.0.pool.client().open(request, left).await;
        tell(permit, &result);
        let error = match result {
            Ok(response) if is_nobodys(&response) => {
                // 503 says that it was not passed on; the others do not say.
                *broken += u32::from(response.status() != StatusCode::SERVICE_UNAVAILABLE);
                let failure = self.failure(*broken, 1);
                return if self.repeat == Repeat::Freely { Step::Again(failure) } else { Step::Over(failure) };
            }
            Ok(response) if self.repeat == Repeat::Freely && is_worth_a_repeat(response.status()) => return Step::Failed(response),
            Ok(response) => return Step::Done(response),
            Err(error) => error,
        };
        tracing::warn!(service = route.service, address = %target.address, %error, trace = %trace.simple(), "a request could not be forwarded");
        if error.nothing_was_sent() {
            return Step::Again(self.failure(*broken, 1));
        }
        *broken += 1;
        let may = match self.repeat {
            Repeat::Freely => true,
            Repeat::ByKey => *broken <= KEYED_RETRIES,
            Repeat::Harmless | Repeat::Never => false,
        };
        // A peer that was silent for the whole time was waited for long enough.
        let silent = matches!(error, ClientError::TimedOut(_));
        let failure = self.failure(*broken, 1);
        if may && !silent { Step::Again(failure) } else { Step::Over(failure) }
    }

    fn failure(&self, broken: u32, retry_after: u32) -> Failure {
        if broken > 0 && self.repeat == Repeat::Never { Failure::Unknown } else { Failure::Unavailable { retry_after } }
    }
}

/// 501 says that it will never be done.
fn is_worth_a_repeat(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

/// True for answers of something between us and the service that did not reach it either.
fn is_nobodys<B>(response: &http::Response<B>) -> bool {
    let problem = || {
        let kind = response.headers().get(header::CONTENT_TYPE);
        kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"))
    };
    matches!(response.status(), StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) && !problem()
}

fn pass_back(route: &Route, response: http::Response<Incoming>) -> Response {
    let (mut parts, body) = response.into_parts();
    if parts.status.is_informational() {
        // Only an upgrade ends so, and none was asked for.
        return Problem::from(Code::BadGateway).into_response();
    }
    back(&mut parts.headers);
    let stall_time = (!is_event_stream(parts.headers.get(header::CONTENT_TYPE))).then_some(route.gateway.0.settings.stall_time);
    Response::from_parts(parts, paced(body, stall_time))
}

fn is_event_stream(kind: Option<&HeaderValue>) -> bool {
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}
