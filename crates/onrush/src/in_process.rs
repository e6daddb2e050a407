//! A client of the mall in the same process. `seed` and `demo` use the same router as requests from the network.

use axum::{Router, body::Body};
use futures::{StreamExt, stream};
use kit::ports::new_id;
use serde_json::Value;
use tower::ServiceExt;

/// Maximum number of concurrent requests: enough to fill batches, far below the length of the queue.
const MAX_IN_FLIGHT: usize = 256;

#[derive(Clone)]
pub struct InProcessClient(Router);

/// One POST request: path, access token and body.
pub struct PostRequest {
    pub path: String,
    pub token: Option<String>,
    pub body: Value,
    /// Seconds to wait for the result of a checkout.
    pub wait: Option<u32>,
}

impl PostRequest {
    pub fn new(path: impl Into<String>, token: Option<&str>, body: Value) -> PostRequest {
        PostRequest { path: path.into(), token: token.map(str::to_owned), body, wait: None }
    }

    #[must_use]
    pub fn wait(self, seconds: u32) -> PostRequest {
        PostRequest { wait: Some(seconds), ..self }
    }
}

impl InProcessClient {
    pub fn new(router: Router) -> Self {
        Self(router)
    }

    /// Sends the request and returns the body of the answer. `Err`: the status and detail of a problem.
    pub async fn post(&self, post: PostRequest) -> Result<Value, String> {
        let mut request = http::Request::post(&post.path)
            .header("content-type", "application/json")
            .header("idempotency-key", new_id().simple().to_string());
        if let Some(token) = &post.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(seconds) = post.wait {
            request = request.header("prefer", format!("wait={seconds}"));
        }
        let request = request.body(Body::from(post.body.to_string())).map_err(|error| error.to_string())?;
        let response = self.0.clone().oneshot(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.map_err(|error| error.to_string())?;
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() { Ok(body) } else { Err(format!("POST {}: {status}: {}", post.path, body["detail"].as_str().unwrap_or(""))) }
    }

    /// Sends many requests concurrently. Stops at the first error.
    pub async fn post_all(&self, posts: impl IntoIterator<Item = PostRequest>) -> Result<(), String> {
        let mut answers = stream::iter(posts.into_iter().map(|post| self.post(post))).buffer_unordered(MAX_IN_FLIGHT);
        while let Some(answer) = answers.next().await {
            answer?;
        }
        Ok(())
    }
}
