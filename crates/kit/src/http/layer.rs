//! The one layer every request passes: trace id, problems instead of bare errors, caught panics, counters, the debug log.
//!
//! It is written by hand, as one future without a box: at ten thousand requests a second a stack of ten layers is what one would wait for.

use super::{Problem, Trace, problem::add_trace};
use crate::ports::Stopwatch;
use axum::{
    Router,
    extract::{MatchedPath, Request},
    response::{IntoResponse, Response},
    routing::Route,
};
use contracts::Code;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use metrics::{Counter, Histogram};
use std::{
    any::Any,
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

/// The router as requests must meet it. To be applied once, last.
pub fn layers(router: Router) -> Router {
    // `with_state` makes routes of handlers here, once, instead of at every request.
    router.layer(Guard).with_state(())
}

#[derive(Clone, Copy)]
struct Guard;

impl Layer<Route> for Guard {
    type Service = Guarded;
    fn layer(&self, inner: Route) -> Guarded {
        Guarded { inner, meters: Arc::default() }
    }
}

/// One route behind the layer.
#[derive(Clone)]
struct Guarded {
    inner: Route,
    meters: Arc<OnceLock<Meters>>,
}

/// Counters of one route, by the first digit of the status.
struct Meters {
    answers: [Counter; 5],
    seconds: Histogram,
}

impl Meters {
    fn new(method: &Method, route: &str) -> Meters {
        // Methods that a route does not know share one label: a caller must not be able to make new ones.
        let method = if known(method) { method.as_str().to_owned() } else { "other".to_owned() };
        let answers = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|status| {
            metrics::counter!("onrush_http_requests_total", "method" => method.clone(), "route" => route.to_owned(), "status" => status)
        });
        let seconds = metrics::histogram!("onrush_http_request_seconds", "method" => method.clone(), "route" => route.to_owned());
        Meters { answers, seconds }
    }
}

fn known(method: &Method) -> bool {
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS].contains(method)
}

impl Service<Request> for Guarded {
    type Response = Response;
    type Error = Infallible;
    type Future = Guarding;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Guarding {
        let clock = Stopwatch::start();
        let trace = Trace::of(request.headers());
        request.extensions_mut().insert(trace);
        let route = request.extensions().get::<MatchedPath>().cloned();
        let log = tracing::enabled!(tracing::Level::DEBUG).then(|| (request.method().clone(), request.uri().path().to_owned()));
        let meters = Arc::clone(&self.meters);
        if meters.get().is_none() {
            let _ = meters.set(Meters::new(request.method(), route.as_ref().map_or("none", MatchedPath::as_str)));
        }
        let state = match refuse(&request, route.is_some()) {
            Some(problem) => State::Refused(Some(problem)),
            None => State::Running(self.inner.call(request)),
        };
        Guarding { state, trace: trace.0, clock, meters, log }
    }
}

#[expect(clippy::large_enum_variant, reason = "nearly every request is running: a box would be paid by each")]
enum State {
    Refused(Option<Problem>),
    Running(<Route as Service<Request>>::Future),
}

struct Guarding {
    state: State,
    trace: Uuid,
    clock: Stopwatch,
    meters: Arc<OnceLock<Meters>>,
    log: Option<(Method, String)>,
}

impl Future for Guarding {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let trace = self.trace;
        let response = match &mut self.state {
            State::Refused(problem) => problem.take().unwrap_or_else(|| Code::Internal.into()).into_response(),
            State::Running(inner) => match std::panic::catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(Ok(response))) => response,
                Ok(Poll::Ready(Err(never))) => match never {},
                Err(panic) => {
                    tracing::error!(trace = %trace.simple(), panic = panic_text(panic.as_ref()), "a handler panicked");
                    Problem::from(Code::Internal).into_response()
                }
            },
        };
        let response = finish(response, trace);
        self.measure(response.status());
        Poll::Ready(Ok(response))
    }
}

impl Guarding {
    fn measure(&self, status: StatusCode) {
        let elapsed = self.clock.elapsed();
        if let Some(meters) = self.meters.get() {
            let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
            meters.answers[class].increment(1);
            meters.seconds.record(elapsed.as_secs_f64());
        }
        if let Some((method, path)) = &self.log {
            // The path only: queries and headers may hold secrets.
            let duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            tracing::debug!(%method, path, status = status.as_u16(), duration_us, trace = %self.trace.simple(), "request");
        }
    }
}

/// What is refused whatever the operation.
fn refuse(request: &Request, routed: bool) -> Option<Problem> {
    let path = request.uri().path();
    if !routed {
        return refuse_unrouted(path);
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

fn refuse_unrouted(path: &str) -> Option<Problem> {
    let decoded = path.bytes().any(|byte| byte == b'%').then(|| percent_decoded(path));
    if decoded.is_some_and(|bytes| std::str::from_utf8(&bytes).is_err()) {
        return Some(Problem::new(Code::BadEncoding, "The path is not valid UTF-8."));
    }
    let version = path.strip_prefix("/v")?.split('/').next()?;
    let is_version = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    (is_version && version != "1").then(|| Problem::new(Code::UnknownVersion, "This API has only the version v1."))
}

fn percent_decoded(path: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let hex = |at: usize| tail.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => bytes.push(*first),
        }
    }
    bytes
}

/// True when the most specific range that matches `kind` has a weight above zero.
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
            if best.is_none_or(|(known, _)| rank >= known) {
                best = Some((rank, !refused));
            }
        }
    }
    best.is_some_and(|(_, wanted)| wanted)
}

/// `q=0`, `q=0.0`, `q=0.000`.
fn is_zero_weight(parameter: &[u8]) -> bool {
    let weight = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="));
    weight.is_some_and(|weight| weight.starts_with(b"0") && weight.iter().all(|byte| matches!(byte, b'0' | b'.')))
}

/// What every answer has: the request's id, and a problem's body where it is an error.
fn finish(mut response: Response, trace: Uuid) -> Response {
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        if !is_written(response.headers()) {
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

/// True for errors that somebody worded: problems, and pages for people.
fn is_written(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes();
        kind.starts_with(b"application/problem+json") || kind.starts_with(b"text/html")
    })
}

/// axum's own errors are bare texts, or nothing.
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

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{
        body::Body,
        routing::{get, post},
    };
    use serde_json::Value;
    use tower::ServiceExt;

    async fn panics() -> &'static str {
        panic!("secret details of the inside")
    }

    fn app() -> Router {
        layers(
            Router::new()
                .route("/v1/things", get(|| async { "[]" }).post(|| async { StatusCode::CREATED }))
                .route("/v1/things/{id}", get(|super::super::Path(id): super::super::Path<u32>| async move { id.to_string() }))
                .route("/v1/events", get(|| async { "" }))
                .route("/v1/panic", post(panics))
                .route(
                    "/v1/bare/{status}",
                    get(|super::super::Path(status): super::super::Path<u16>| async move {
                        StatusCode::from_u16(status).expect("the test asks for valid ones")
                    }),
                )
                .route("/v1/trace", get(|trace: Trace| async move { trace.0.simple().to_string() }))
                .route("/page", get(|| async { (StatusCode::NOT_FOUND, axum::response::Html("<p>gone</p>")) })),
        )
    }

    struct Told {
        status: u16,
        headers: HeaderMap,
        text: String,
    }

    impl Told {
        fn problem(&self) -> (u16, String) {
            assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
            let body: Value = serde_json::from_str(&self.text).expect("a problem is JSON");
            assert_eq!(
                (body["status"].as_u64(), body["trace_id"].as_str()),
                (Some(self.status.into()), self.headers["x-request-id"].to_str().ok())
            );
            (self.status, body["type"].as_str().expect("a problem has a type").replace("/problems/", ""))
        }
    }

    async fn ask(method: &str, path: &str, headers: &[(&'static str, &'static str)]) -> Told {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        let response = app().oneshot(request).await.expect("it cannot fail");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 100_000).await.expect("it is in memory");
        Told { status: parts.status.as_u16(), headers: parts.headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    async fn problem(method: &str, path: &str) -> (u16, String) {
        ask(method, path, &[]).await.problem()
    }

    fn is(status: u16, slug: &str) -> (u16, String) {
        (status, slug.to_owned())
    }

    // row 13
    #[tokio::test]
    async fn wrong_methods_name_the_right_ones() {
        for method in ["DELETE", "TRACE", "CONNECT", "OPTIONS", "BREW"] {
            let told = ask(method, "/v1/things", &[]).await;
            assert_eq!(told.problem(), is(405, "method-not-allowed"), "{method}");
            let allow = told.headers["allow"].to_str().expect("ASCII").to_owned();
            assert!(["GET", "HEAD", "POST"].iter().all(|method| allow.contains(method)), "{allow}");
        }
    }

    // rows 21, 22, 4
    #[tokio::test]
    async fn unknown_paths_and_versions_are_told_apart() {
        for path in
            ["/", "/v1", "/v1/", "/v1/nothing", "/v1/things/../../etc/passwd", "/v1/things/..%2f..%2fetc", "/v1/things/x", "/vault", "/v"]
        {
            assert_eq!(problem("GET", path).await, is(404, "not-found"), "{path}");
        }
        for path in ["/v2/things", "/v0/things", "/v2", "/v10/x", "/v01/things"] {
            assert_eq!(problem("GET", path).await, is(400, "unknown-version"), "{path}");
        }
        for path in ["/v1/things/%ff", "/%ff", "/v1/%c3%28"] {
            assert_eq!(problem("GET", path).await, is(400, "bad-encoding"), "{path}");
        }
    }

    // row 12
    #[tokio::test]
    async fn only_json_is_spoken() {
        for accept in
            ["*/*", "application/json", "application/*", "text/html, */*;q=0.1", "Application/JSON;q=0.5", "application/json, */*;q=0"]
        {
            assert_eq!(ask("GET", "/v1/things", &[("accept", accept)]).await.status, 200, "{accept}");
        }
        for accept in
            ["application/xml", "text/html", "application/json;q=0", "application/json;q=0.0, */*", "", "text/*", "application/jsonx"]
        {
            assert_eq!(ask("POST", "/v1/things", &[("accept", accept)]).await.problem(), is(406, "not-acceptable"), "{accept}");
        }
        assert_eq!(ask("GET", "/v1/events", &[("accept", "text/event-stream")]).await.status, 200);
    }

    // row 74
    #[tokio::test]
    async fn a_panic_is_a_problem_without_details() {
        let told = ask("POST", "/v1/panic", &[]).await;
        assert_eq!(told.problem(), is(500, "internal"));
        assert!(!told.text.contains("secret"), "{}", told.text);
    }

    // I9
    #[tokio::test]
    async fn bare_errors_become_problems() {
        for (status, slug) in [
            (400, "bad-request"),
            (408, "timeout"),
            (413, "body-too-large"),
            (415, "unsupported-media-type"),
            (429, "too-many-attempts"),
            (500, "internal"),
            (503, "unavailable"),
        ] {
            assert_eq!(problem("GET", &format!("/v1/bare/{status}")).await, is(status, slug));
        }
        assert_eq!(ask("GET", "/page", &[]).await.text, "<p>gone</p>");
        assert_eq!(problem("GET", "/v1/bare/504").await, is(502, "bad-gateway"));
    }

    // I3
    #[test]
    fn the_log_has_the_request_and_none_of_its_secrets() {
        #[derive(Clone, Default)]
        struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);
        impl std::io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().expect("no panic").extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let said = |lines: &Lines| String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("UTF-8");
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let secrets = [
                ("authorization", "Bearer canary-token"),
                ("cookie", "session=canary-cookie"),
                ("idempotency-key", "canary-key"),
                ("x-password", "canary-password"),
            ];
            // Another test may meet these places just now, for the first time and while nobody listens there: then they stay silent until asked
            // again.
            for _ in 0..100 {
                tracing::callsite::rebuild_interest_cache();
                runtime.block_on(ask("GET", "/v1/things?token=canary-query", &secrets));
                runtime.block_on(ask("POST", "/v1/panic", &secrets));
                if said(&lines).contains("a handler panicked") && said(&lines).contains("status=200") {
                    break;
                }
            }
        });
        let text = said(&lines);
        assert!(text.contains("/v1/things") && text.contains("status=200") && text.contains("a handler panicked"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }

    // I3
    #[tokio::test]
    async fn every_answer_has_the_requests_id() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let told = ask("GET", "/v1/trace", &[("traceparent", parent)]).await;
        assert_eq!((told.text.as_str(), told.headers["x-request-id"].to_str().ok()), (&parent[3..35], Some(&parent[3..35])));
        let new = ask("GET", "/v1/trace", &[("traceparent", "x\u{20}y")]).await;
        assert_eq!((new.text.len(), new.headers["x-request-id"].to_str().ok()), (32, Some(new.text.as_str())));
        assert_eq!(new.headers["x-content-type-options"], "nosniff");
    }
}
