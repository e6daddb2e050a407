//! Any process is a gateway: a request for a service that runs elsewhere is forwarded to a process that runs it, so that clients need
//! one address.
//!
//! It forwards exactly the operations that the service's OpenAPI document names, checks the access token first, drops what clients say
//! about who they are, tries again where that is safe, and answers in the service's place when nobody does: 503 with code 8001 and
//! `Retry-After`, or 502 with code 8000 when the request may have been carried out and must not simply be sent again. It knows no
//! operation's meaning, changes no body, and never forwards `/internal/`.

mod forward;
mod headers;
mod origin;
mod paced;

pub use origin::accept_origins;

use crate::{
    auth::Auth,
    http::described::{operations, takes_caller},
    links::{Pool, Signer},
    tasks::Leaving,
};
use axum::{
    Router,
    extract::Request,
    routing::{MethodFilter, on},
};
use forward::Meters;
use std::{sync::Arc, time::Duration};
use utoipa::openapi::OpenApi;

/// How long the gateway waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewaySettings {
    /// For the head of an answer, all tries together. What a client asks for with `Prefer: wait` comes on top.
    pub answer_time: Duration,
    /// Between two pieces of an answer. Event streams may be silent for longer; their connection is probed instead.
    pub stall_time: Duration,
}

impl Default for GatewaySettings {
    /// An operation may itself ask other services, for 5 s at most: it must have the time to answer after that.
    fn default() -> Self {
        Self { answer_time: Duration::from_secs(10), stall_time: Duration::from_secs(30) }
    }
}

/// Forwards requests to the peers. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    pool: Pool,
    auth: Auth,
    signer: Signer,
    leaving: Leaving,
    settings: GatewaySettings,
}

/// What is known of an operation's service when a request comes.
struct Route {
    gateway: Gateway,
    service: String,
    /// Whether the operation looks at access tokens. On others a bad one means nothing, here as there: signing in again must work with
    /// the old token still in the header.
    takes_token: bool,
    meters: Meters,
}

impl Gateway {
    pub fn new(pool: Pool, auth: Auth, signer: Signer, leaving: Leaving, settings: GatewaySettings) -> Gateway {
        Gateway(Arc::new(Inner { pool, auth, signer, leaving, settings }))
    }

    /// A route for every operation in `openapi`, which is the document of `service` alone. Add it to the routes of the services that run
    /// here.
    pub fn routes(&self, service: &str, openapi: &OpenApi) -> Router {
        let mut router = Router::new();
        for (path, item) in openapi.paths.paths.iter().filter(|(path, _)| !path.starts_with("/internal/")) {
            for (method, operation) in operations(item) {
                let Ok(method) = MethodFilter::try_from(method) else { continue };
                let route = Arc::new(Route {
                    gateway: self.clone(),
                    service: service.to_owned(),
                    takes_token: takes_caller(operation),
                    meters: Meters::new(service),
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
