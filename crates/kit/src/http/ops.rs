//! What operators and their tools ask: is it alive, is it ready, how is it doing.

use super::Problem;
use crate::telemetry;
use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::get,
};
use contracts::Code;
use http::header;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Whether the process should get requests. False until everything is started, and again once it is stopping.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// `GET /health/live`, `/health/ready` and `/metrics`.
pub fn router(readiness: Readiness) -> Router {
    Router::new()
        .route("/health/live", get(|| async { up() }))
        .route("/health/ready", get(move || ready(readiness.is_ready())))
        .route("/metrics", get(|| async { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], telemetry::metrics_text()) }))
}

async fn ready(ready: bool) -> Response {
    if ready { up() } else { Problem::from(Code::Unavailable).retry_after(1).into_response() }
}

fn up() -> Response {
    ([(header::CONTENT_TYPE, super::JSON)], r#"{"status":"up"}"#).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::layers;
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
    async fn readiness_follows_the_handle_and_liveness_does_not() {
        let readiness = Readiness::default();
        let router = layers(router(readiness.clone()));
        assert_eq!(get_text(&router, "/health/live").await.0, 200);
        let (status, body) = get_text(&router, "/health/ready").await;
        assert_eq!((status, body.contains("/problems/unavailable")), (503, true));
        readiness.set(true);
        assert_eq!(get_text(&router, "/health/ready").await, (200, r#"{"status":"up"}"#.into()));
        readiness.set(false);
        assert_eq!(get_text(&router, "/health/ready").await.0, 503);
    }

    #[tokio::test]
    async fn requests_are_counted_by_route() {
        telemetry::install_metrics();
        let router = layers(router(Readiness::default()));
        get_text(&router, "/health/ready").await;
        let (status, text) = get_text(&router, "/metrics").await;
        assert_eq!(status, 200);
        let line = r#"onrush_http_requests_total{method="GET",route="/health/ready",status="5xx"} "#;
        assert!(text.contains(line), "{text}");
        assert!(text.contains("onrush_http_request_seconds_bucket{"), "{text}");
    }
}
