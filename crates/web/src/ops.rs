//! Routes for operators and their tools: liveness, readiness and metrics.

use super::Problem;
use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::get,
};
use contracts::Code;
use http::header;
use runtime::telemetry;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Readiness of the process for requests. False until all services have started, and again from the start of the shutdown. False also while
/// its check fails.
#[derive(Clone)]
pub struct Readiness {
    is_set: Arc<AtomicBool>,
    check: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Default for Readiness {
    fn default() -> Readiness {
        Readiness::with_check(|| true)
    }
}

impl Readiness {
    /// Asks `check` at each request. It must return at once.
    pub fn with_check(check: impl Fn() -> bool + Send + Sync + 'static) -> Readiness {
        Readiness { is_set: Arc::default(), check: Arc::new(check) }
    }

    pub fn set(&self, ready: bool) {
        self.is_set.store(ready, Ordering::Release);
    }

    pub fn is_ready(&self) -> bool {
        self.is_set.load(Ordering::Acquire) && (self.check)()
    }
}

/// `GET /health/live` and `/health/ready`, which tell no more than up or not.
pub fn health(readiness: Readiness) -> Router {
    Router::new()
        .route("/health/live", get(|| async { up_response() }))
        .route("/health/ready", get(move || ready_response(readiness.is_ready())))
}

/// `GET /metrics`, which shows the inside of the process. Not for the address of the API.
pub fn metrics() -> Router {
    Router::new().route("/metrics", get(|| async { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], telemetry::metrics_text()) }))
}

async fn ready_response(is_ready: bool) -> Response {
    if is_ready { up_response() } else { Problem::from(Code::Unavailable).retry_after(1).into_response() }
}

fn up_response() -> Response {
    ([(header::CONTENT_TYPE, super::JSON)], r#"{"status":"up"}"#).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers;
    use axum::body::Body;
    use http::Request;
    use tower::ServiceExt;

    async fn get_text(router: &Router, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = router.clone().oneshot(request).await.expect("it cannot fail");
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1_000_000).await.expect("it is in memory");
        (status, String::from_utf8_lossy(&bytes).into_owned())
    }

    // I8, row 77
    #[tokio::test]
    async fn readiness_follows_its_handle_and_liveness_stays_up() {
        let readiness = Readiness::default();
        let router = layers(health(readiness.clone()));
        assert_eq!(get_text(&router, "/health/live").await.0, 200);
        let (status, body) = get_text(&router, "/health/ready").await;
        assert_eq!((status, body.contains("/problems/unavailable")), (503, true));
        readiness.set(true);
        assert_eq!(get_text(&router, "/health/ready").await, (200, r#"{"status":"up"}"#.into()));
        readiness.set(false);
        assert_eq!(get_text(&router, "/health/ready").await.0, 503);
    }

    // finding 16
    #[tokio::test]
    async fn readiness_ends_while_its_check_fails() {
        let is_well = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&is_well);
        let readiness = Readiness::with_check(move || asked.load(Ordering::SeqCst));
        let router = layers(health(readiness.clone()));
        assert_eq!(get_text(&router, "/health/ready").await.0, 503, "it is not set yet");
        readiness.set(true);
        for (well, status) in [(true, 200), (false, 503), (true, 200)] {
            is_well.store(well, Ordering::SeqCst);
            assert_eq!(get_text(&router, "/health/ready").await.0, status);
        }
    }

    #[tokio::test]
    async fn requests_are_counted_by_route() {
        telemetry::install_metrics();
        let router = layers(health(Readiness::default()).merge(metrics()));
        get_text(&router, "/health/ready").await;
        let (status, text) = get_text(&router, "/metrics").await;
        assert_eq!(status, 200);
        let line = r#"onrush_http_requests_total{method="GET",route="/health/ready",status="5xx"} "#;
        assert!(text.contains(line), "{text}");
        assert!(text.contains("onrush_http_request_seconds_bucket{"), "{text}");
    }

    // L2
    #[tokio::test]
    async fn each_method_of_a_route_has_its_own_counter() {
        telemetry::install_metrics();
        let router = layers(Router::new().route("/methods", get(|| async { "" })).merge(metrics()));
        for method in ["HEAD", "GET", "GET", "BREW"] {
            let request = Request::builder().method(method).uri("/methods").body(Body::empty()).expect("a request");
            let _ = router.clone().oneshot(request).await.expect("it cannot fail");
        }
        let (_, text) = get_text(&router, "/metrics").await;
        for (method, status, count) in [("HEAD", "2xx", 1), ("GET", "2xx", 2), ("other", "4xx", 1)] {
            let line = format!(r#"onrush_http_requests_total{{method="{method}",route="/methods",status="{status}"}} {count}"#);
            assert!(text.contains(&line), "{line}: {text}");
        }
    }
}
