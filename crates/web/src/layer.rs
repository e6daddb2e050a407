//! The layer around every route: trace id, problems instead of bare errors, caught panics, metrics, the debug log.
//!
//! It is one hand-written future without a box, because at ten thousand requests a second a stack of ten layers would dominate the latency.

use super::{Problem, Trace, problem::add_trace, route_of};
use axum::{
    Router,
    extract::{MatchedPath, Request},
    response::{IntoResponse, Response},
    routing::Route,
};
use contracts::Code;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use metrics::{Counter, Histogram};
use percent_encoding::percent_decode_str;
use runtime::{line_limit::LineLimit, one_reader::TaskScope, ports::Stopwatch, tasks::panic_text};
use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};
use tower::{Layer, Service};
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

static PANICKED: LineLimit = LineLimit::new("handler panicked");

/// Wraps all routes in the request layer. Apply it once, after all other layers.
pub fn layers(router: Router) -> Router {
    // `with_state` turns handlers into routes once, instead of at every request.
    router.layer(RequestLayer).with_state(())
}

#[derive(Clone, Copy)]
struct RequestLayer;

impl Layer<Route> for RequestLayer {
    type Service = RequestService;
    fn layer(&self, inner: Route) -> RequestService {
        RequestService { inner, route_metrics: Arc::default() }
    }
}

/// One route wrapped in the layer.
#[derive(Clone)]
struct RequestService {
    inner: Route,
    route_metrics: Arc<[OnceLock<RouteMetrics>; METHOD_LABELS.len() + 1]>,
}

/// Methods with a label of their own. Others share one, so that callers cannot create new time series.
const METHOD_LABELS: [Method; 7] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];

/// Metrics of one method of a route; responses are counted by the first digit of the status.
struct RouteMetrics {
    answers: [Counter; 5],
    seconds: Histogram,
}

impl RouteMetrics {
    fn new(method: usize, route: &str) -> RouteMetrics {
        let method = METHOD_LABELS.get(method).map_or("other", Method::as_str).to_owned();
        let answers = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|status| {
            metrics::counter!("onrush_http_requests_total", "method" => method.clone(), "route" => route.to_owned(), "status" => status)
        });
        let seconds = metrics::histogram!("onrush_http_request_seconds", "method" => method, "route" => route.to_owned());
        RouteMetrics { answers, seconds }
    }
}

fn method_index(method: &Method) -> usize {
    METHOD_LABELS.iter().position(|known| known == method).unwrap_or(METHOD_LABELS.len())
}

impl Service<Request> for RequestService {
    type Response = Response;
    type Error = Infallible;
    type Future = RequestFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> RequestFuture {
        let clock = Stopwatch::start();
        let trace = Trace::of(request.headers());
        request.extensions_mut().insert(trace);
        let is_routed = request.extensions().get::<MatchedPath>().is_some();
        let log = tracing::enabled!(tracing::Level::DEBUG).then(|| (request.method().clone(), request.uri().path().to_owned()));
        let method = method_index(request.method());
        let route_metrics = Arc::clone(&self.route_metrics);
        route_metrics[method].get_or_init(|| RouteMetrics::new(method, route_of(request.extensions())));
        let state = match check_request(&request, is_routed) {
            Some(problem) => RequestState::Refused(Some(problem)),
            None => RequestState::Running(self.inner.call(request)),
        };
        RequestFuture { state, trace: trace.0, clock, method, route_metrics, log, scope: TaskScope::begin() }
    }
}

#[expect(clippy::large_enum_variant, reason = "nearly every request is running: a box would be paid by each")]
enum RequestState {
    Refused(Option<Problem>),
    Running(<Route as Service<Request>>::Future),
}

struct RequestFuture {
    state: RequestState,
    trace: Uuid,
    clock: Stopwatch,
    method: usize,
    route_metrics: Arc<[OnceLock<RouteMetrics>; METHOD_LABELS.len() + 1]>,
    log: Option<(Method, String)>,
    scope: TaskScope,
}

impl Future for RequestFuture {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let trace = self.trace;
        let _current = runtime::trace::enter(trace);
        let RequestFuture { state, scope, .. } = &mut *self;
        let response = match state {
            RequestState::Refused(problem) => problem.take().unwrap_or_else(|| Code::Internal.into()).into_response(),
            RequestState::Running(inner) => match std::panic::catch_unwind(AssertUnwindSafe(|| scope.enter(|| Pin::new(inner).poll(cx)))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(Ok(response))) => response,
                Ok(Poll::Ready(Err(never))) => match never {},
                Err(panic) => {
                    if let Some(left_out) = PANICKED.take() {
                        tracing::error!(trace = %trace.simple(), panic = panic_text(panic.as_ref()), left_out, "handler panicked");
                    }
                    Problem::from(Code::Internal).into_response()
                }
            },
        };
        let response = finish_response(response, trace);
        self.record(response.status());
        Poll::Ready(Ok(response))
    }
}

impl RequestFuture {
    fn record(&self, status: StatusCode) {
        let elapsed = self.clock.elapsed();
        if let Some(route_metrics) = self.route_metrics[self.method].get() {
            let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
            route_metrics.answers[class].increment(1);
            route_metrics.seconds.record(elapsed.as_secs_f64());
        }
        if let Some((method, path)) = &self.log {
            // Only the path: queries and headers may contain secrets.
            let duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            tracing::debug!(%method, path, status = status.as_u16(), duration_us, trace = %self.trace.simple(), "request answered");
        }
    }
}

/// Checks that apply to every operation. `None`: the request may proceed.
fn check_request(request: &Request, is_routed: bool) -> Option<Problem> {
    let path = request.uri().path();
    if !is_routed {
        return check_unrouted(path);
    }
    if path.starts_with("/v1/")
        && request.headers().contains_key(header::ACCEPT)
        && !accepts(request.headers(), b"application/json")
        && !(path == "/v1/events" && accepts(request.headers(), b"text/event-stream"))
    {
        return Some(Problem::new(Code::NotAcceptable, "Answers are application/json."));
    }
    None
}

fn check_unrouted(path: &str) -> Option<Problem> {
    if percent_decode_str(path).decode_utf8().is_err() {
        return Some(Problem::new(Code::BadEncoding, "The path is not valid UTF-8."));
    }
    let version = path.strip_prefix("/v")?.split('/').next()?;
    let is_version = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    (is_version && version != "1").then(|| Problem::new(Code::UnknownVersion, "This API has only the version v1."))
}

/// True when the most specific media range in `Accept` that matches `kind` has a weight above zero.
fn accepts(headers: &HeaderMap, kind: &[u8]) -> bool {
    let group_end = kind.iter().position(|byte| *byte == b'/').map_or(kind.len(), |slash| slash + 1);
    let mut best: Option<(u8, bool)> = None;
    for value in headers.get_all(header::ACCEPT) {
        for range in value.as_bytes().split(|byte| *byte == b',') {
            let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let rank = if name.eq_ignore_ascii_case(kind) {
                2
            } else if name == b"*/*" {
                0
            } else if name.len() == group_end + 1 && name[..group_end].eq_ignore_ascii_case(&kind[..group_end]) && name.ends_with(b"*") {
                1
            } else {
                continue;
            };
            let refused = parts.any(is_zero_weight);
            if best.is_none_or(|(best_rank, _)| rank >= best_rank) {
                best = Some((rank, !refused));
            }
        }
    }
    best.is_some_and(|(_, wanted)| wanted)
}

/// True for `q=0`, `q=0.0`, `q=0.000`.
fn is_zero_weight(parameter: &[u8]) -> bool {
    let weight = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="));
    weight.is_some_and(|weight| weight.starts_with(b"0") && weight.iter().all(|byte| matches!(byte, b'0' | b'.')))
}

/// Adds the request id and the standard headers. Gives errors a problem body with the trace id.
fn finish_response(mut response: Response, trace: Uuid) -> Response {
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        if !has_own_body(response.headers()) {
            response = into_problem(response);
        }
        add_trace(&mut response, trace);
    }
    let mut id = [0; 32];
    trace.simple().encode_lower(&mut id);
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_bytes(&id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// True for errors that already have a body for the caller: problems and HTML pages.
fn has_own_body(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes();
        kind.starts_with(b"application/problem+json") || kind.starts_with(b"text/html")
    })
}

/// Replaces the plain-text or empty body of axum's own errors by a problem.
fn into_problem(response: Response) -> Response {
    let code = match response.status().as_u16() {
        401 => Code::Unauthenticated,
        403 => Code::Forbidden,
        404 => Code::NotFound,
        405 => Code::MethodNotAllowed,
        406 => Code::NotAcceptable,
        408 => Code::Timeout,
        413 => Code::BodyTooLarge,
        414 => Code::UriTooLong,
        415 => Code::UnsupportedMediaType,
        417 => Code::ExpectationFailed,
        422 => Code::InvalidField,
        429 => Code::TooManyAttempts,
        431 => Code::HeadersTooLarge,
        502 | 504 => Code::BadGateway,
        503 => Code::Unavailable,
        500.. => Code::Internal,
        _ => Code::BadRequest,
    };
    let mut problem = Problem::from(code).into_response();
    for name in [header::ALLOW, header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
        if let Some(value) = response.headers().get(&name) {
            problem.headers_mut().insert(name, value.clone());
        }
    }
    problem
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
