//! Requests of a test and their responses.

use super::quiescence::Quiescence;
use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use std::{sync::Arc, time::Duration};
use tower::ServiceExt;

/// Retries of a request that gets 503.
const MAX_RETRIES: u32 = 100;

pub struct TestRequest {
    pub(super) router: Router,
    /// The routers of all processes.
    pub(super) routers: Vec<Router>,
    /// The request is sent again after a 503.
    pub(super) is_retried: bool,
    /// `Some`: waits for the effects of a change.
    pub(super) quiescence: Option<Arc<Quiescence>>,
    pub(super) builder: http::request::Builder,
    pub(super) body: Bytes,
}

impl TestRequest {
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }
    /// The `Idempotency-Key`.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }
    #[must_use]
    pub fn json(self, body: &serde_json::Value) -> Self {
        self.raw("application/json", body.to_string())
    }
    #[must_use]
    pub fn raw(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header("content-type", content_type)
    }
    /// Takes the first response, even a 503.
    #[must_use]
    pub fn once(self) -> Self {
        Self { is_retried: false, ..self }
    }
    /// Sends the request to every process of the mall.
    pub async fn send_to_each(self) -> Vec<TestResponse> {
        let request = self.builder.body(()).expect("a well-formed request").into_parts().0;
        let mut answers = Vec::new();
        for router in self.routers {
            let mut builder = Request::builder().method(request.method.clone()).uri(request.uri.clone());
            builder.headers_mut().expect("the builder has no error yet").extend(request.headers.clone());
            let (routers, body, quiescence) = (Vec::new(), self.body.clone(), self.quiescence.clone());
            answers.push(TestRequest { router, routers, is_retried: self.is_retried, quiescence, builder, body }.send().await);
        }
        answers
    }
    pub async fn send(self) -> TestResponse {
        let request = self.builder.body(()).expect("a well-formed request").into_parts().0;
        let is_change = request.method != Method::GET;
        let send_once = || async {
            let request = Request::from_parts(request.clone(), Body::from(self.body.clone()));
            self.router.clone().oneshot(request).await.expect("the router answers")
        };
        let mut response = send_once().await;
        // Under load, split processes answer some requests with 503, and clients retry.
        let mut retries_left = if self.is_retried { MAX_RETRIES } else { 0 };
        while response.status() == StatusCode::SERVICE_UNAVAILABLE && retries_left > 0 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            response = send_once().await;
            retries_left -= 1;
        }
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("the body arrives").to_bytes();
        if let Some(quiescence) = self.quiescence.filter(|_| is_change) {
            quiescence.wait().await;
        }
        let body = serde_json::from_slice(&bytes).unwrap_or(serde_json::Value::Null);
        TestResponse { status: parts.status.as_u16(), headers: parts.headers, body, bytes }
    }
}

#[derive(Debug)]
pub struct TestResponse {
    pub status: u16,
    pub headers: HeaderMap,
    /// Null if the body is not JSON.
    pub body: serde_json::Value,
    pub bytes: Bytes,
}

impl TestResponse {
    /// The problem's slug, such as `sold-out`. Empty for other responses.
    pub fn problem(&self) -> &str {
        self.body["type"].as_str().and_then(|uri| uri.strip_prefix("/problems/")).unwrap_or("")
    }
    #[must_use]
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.bytes));
        self
    }
    #[must_use]
    #[track_caller]
    pub fn expect_problem(self, status: u16, slug: &str) -> Self {
        assert_eq!((self.status, self.problem()), (status, slug), "{}", String::from_utf8_lossy(&self.bytes));
        self
    }
}
