//! Gateway: forwards requests for remote services to a process that runs them. Every process is a gateway, so clients need one address.
//!
//! The gateway forwards exactly the operations in the service's OpenAPI document, and never `/internal/`. It changes no body.
//! It verifies the access token, removes headers that claim an identity, and retries where that is safe.
//! If no peer answers, the gateway answers 503 with code 8001 and `Retry-After`.
//! If the request may have been carried out and a repeat is unsafe, it answers 502 with code 8000.

mod forward;
mod headers;
mod origin;
mod stall_timeout;

pub use origin::accept_origins;

use crate::links::{Pool, Signer};
use auth::Auth;
use axum::{
    Router,
    extract::Request,
    routing::{MethodFilter, on},
};
use forward::ForwardMetrics;
use runtime::tasks::Draining;
use std::{sync::Arc, time::Duration};
use utoipa::openapi::OpenApi;
use web::openapi::{is_idempotent, operations, takes_caller};

/// Timeouts of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewaySettings {
    /// For the head of a response, all tries together. The client's `Prefer: wait` is added.
    pub answer_time: Duration,
    /// Between two pieces of a response. Event streams are exempt, because they may be silent for longer; TCP keep-alive probes their
    /// connection.
    pub stall_time: Duration,
}

impl Default for GatewaySettings {
    /// An operation may itself call other services for up to 5 s, and needs time to answer after that.
    fn default() -> Self {
        Self { answer_time: Duration::from_secs(10), stall_time: Duration::from_secs(30) }
    }
}

/// Forwards requests to peers. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<GatewayInner>);

struct GatewayInner {
    pool: Pool,
    auth: Auth,
    signer: Signer,
    draining: Draining,
    settings: GatewaySettings,
}

/// Route of one operation of a remote service.
struct ForwardRoute {
    gateway: Gateway,
    service: String,
    /// True when the operation reads access tokens. Other operations ignore a bad one: signing in again must work with an old token in the
    /// header.
    takes_token: bool,
    /// True when a repeat has no second effect, even without an Idempotency-Key.
    is_idempotent: bool,
    metrics: ForwardMetrics,
}

impl Gateway {
    pub fn new(pool: Pool, auth: Auth, signer: Signer, draining: Draining, settings: GatewaySettings) -> Gateway {
        Gateway(Arc::new(GatewayInner { pool, auth, signer, draining, settings }))
    }

    /// Routes for all operations in `openapi`, the document of `service` alone. The caller merges them with the routes of local services.
    pub fn routes(&self, service: &str, openapi: &OpenApi) -> Router {
        let mut router = Router::new();
        for (path, item) in openapi.paths.paths.iter().filter(|(path, _)| !path.starts_with("/internal/")) {
            for (method, operation) in operations(item) {
                let is_idempotent = is_idempotent(&method, operation);
                let Ok(method) = MethodFilter::try_from(method) else { continue };
                let route = Arc::new(ForwardRoute {
                    gateway: self.clone(),
                    service: service.to_owned(),
                    takes_token: takes_caller(operation),
                    is_idempotent,
                    metrics: ForwardMetrics::new(service),
                });
                let handler = move |request: Request| {
                    let route = Arc::clone(&route);
                    async move { forward::forward(&route, request).await }
                };
                router = router.route(path, on(method, handler));
            }
        }
        router
    }
}
