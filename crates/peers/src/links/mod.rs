//! Calls between services: `links.call(GetPrices { .. })`. A handler of the service that owns the data replies: in this process if the
//! service runs here, else over HTTP in a process that runs it.
//!
//! Calls only read, so they may be retried. A remote call has a timeout, a few tries, a breaker for each address ([`pool`]) and a signature
//! ([`sign`]). If a call fails, the caller gets an error, or the fallback that it passed to [`Links::call_or`].

mod discovery;
mod internal;
pub mod peers;
pub mod pool;
mod remote;
pub mod sign;

pub use discovery::{Discovery, discover};
pub use internal::{CALL_LIMIT, SIGNATURE, internal_router};
pub use peers::{Address, Peers, PeersError};
pub use pool::Pool;
pub use remote::{Remote, RemoteSettings};
pub use sign::Signer;

use bytes::Bytes;
use contracts::{Code, calls::Call};
use futures::future::BoxFuture;
use runtime::line_limit::LineLimit;
use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
};
use web::{Problem, RETRY_AFTER_SECS};

/// Reason for a failed call.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The service runs neither here nor at a known address: the installation is misconfigured.
    #[error("{service} does not answer {call} in this process, and no address is known for it")]
    NotHere { service: &'static str, call: &'static str },
    /// The service received the call and could not answer it.
    #[error("{service} failed to answer {call}: {reason}")]
    Failed { service: &'static str, call: &'static str, reason: String },
    /// No process that runs the service answered in time.
    #[error("{service} is unavailable for {call}: {reason}")]
    Unavailable { service: &'static str, call: &'static str, reason: String },
}

static CALL_FAILED: LineLimit = LineLimit::new("call to another service failed");
static FALLBACK_USED: LineLimit = LineLimit::new("call failed: fallback used");

impl From<LinkError> for Problem {
    fn from(error: LinkError) -> Self {
        if let Some(left_out) = CALL_FAILED.take() {
            tracing::error!(%error, left_out, "call to another service failed");
        }
        Problem::from(Code::ServiceUnavailable).retry_after(RETRY_AFTER_SECS)
    }
}

/// Reason for a failed call from another process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    #[error("this process has no handler for this call")]
    Unknown,
    #[error("the call cannot be parsed: {0}")]
    Unreadable(String),
    #[error("{0}")]
    Failed(String),
}

type Handler<C> = dyn Fn(C) -> BoxFuture<'static, Result<<C as Call>::Reply, String>> + Send + Sync;
type JsonHandler = dyn Fn(Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> + Send + Sync;

/// Handlers of the calls that this process can answer.
#[derive(Default)]
pub struct CallHandlers {
    typed: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    /// The same handlers by service and name, for calls from other processes.
    json: HashMap<(&'static str, &'static str), Box<JsonHandler>>,
}

impl CallHandlers {
    /// Registers the handler of a call.
    pub fn register<C, F, R, E>(&mut self, answer: F)
    where
        C: Call,
        F: Fn(C) -> R + Send + Sync + 'static,
        R: Future<Output = Result<C::Reply, E>> + Send + 'static,
        E: fmt::Display,
    {
        let handler: Arc<Handler<C>> = Arc::new(move |call| {
            let reply = answer(call);
            Box::pin(async move { reply.await.map_err(|error| error.to_string()) })
        });
        let same = Arc::clone(&handler);
        let json = move |body: Bytes| -> BoxFuture<'static, Result<Bytes, ServeError>> {
            let handler = Arc::clone(&same);
            Box::pin(async move {
                let call: C = serde_json::from_slice(&body).map_err(|error| ServeError::Unreadable(error.to_string()))?;
                let reply = handler(call).await.map_err(ServeError::Failed)?;
                serde_json::to_vec(&reply).map(Bytes::from).map_err(|error| ServeError::Failed(error.to_string()))
            })
        };
        self.json.insert((C::SERVICE, C::NAME), Box::new(json));
        self.typed.insert(TypeId::of::<C>(), Box::new(handler));
    }

    /// Registers a function of a service as the handler of a call. Holds the service weakly. The service owns the links, and would
    /// otherwise keep itself after its process has stopped.
    pub fn register_for<S, C, F, R, E>(&mut self, service: &Arc<S>, answer: F)
    where
        S: Send + Sync + 'static,
        C: Call,
        F: Fn(Arc<S>, C) -> R + Send + Sync + 'static,
        R: Future<Output = Result<C::Reply, E>> + Send + 'static,
        E: fmt::Display,
    {
        let service = Arc::downgrade(service);
        self.register::<C, _, _, _>(move |call| {
            let reply = service.upgrade().map(|service| answer(service, call));
            async move {
                match reply {
                    Some(reply) => reply.await.map_err(|error| error.to_string()),
                    None => Err("its process has stopped".to_owned()),
                }
            }
        });
    }

    /// Answers a call from another process: JSON in, JSON out.
    pub async fn serve(&self, service: &str, name: &str, body: Bytes) -> Result<Bytes, ServeError> {
        let handler = self.json.get(&(service, name)).ok_or(ServeError::Unknown)?;
        handler(body).await
    }

    fn typed<C: Call>(&self) -> Option<&Handler<C>> {
        self.typed.get(&TypeId::of::<C>())?.downcast_ref::<Arc<Handler<C>>>().map(AsRef::as_ref)
    }
}

/// Calls other services. Bound to the handlers of this process once, when all services exist. Cheap to clone; clones are bound together.
#[derive(Clone, Default)]
pub struct Links(Arc<LinksInner>);

#[derive(Default)]
struct LinksInner {
    handlers: OnceLock<CallHandlers>,
    remote: OnceLock<Remote>,
}

impl Links {
    /// Binds the handlers of this process. Only the first binding counts.
    pub fn bind(&self, handlers: CallHandlers) {
        // A second binding would replace handlers under running requests, so the first one stays.
        let _ = self.0.handlers.set(handlers);
    }

    /// Sets the client for remote services. Only the first one counts, as with [`Links::bind`].
    pub fn connect(&self, remote: Remote) {
        let _ = self.0.remote.set(remote);
    }

    /// Calls the service that owns the data: in this process if it runs here, else in another.
    pub async fn call<C: Call>(&self, call: C) -> Result<C::Reply, LinkError> {
        if let Some(handler) = self.0.handlers.get().and_then(CallHandlers::typed::<C>) {
            return handler(call).await.map_err(|reason| LinkError::Failed { service: C::SERVICE, call: C::NAME, reason });
        }
        match self.0.remote.get() {
            Some(remote) => remote.call(call).await,
            None => Err(LinkError::NotHere { service: C::SERVICE, call: C::NAME }),
        }
    }

    /// Like [`Links::call`], but returns `fallback` when the call fails.
    pub async fn call_or<C: Call>(&self, call: C, fallback: C::Reply) -> C::Reply {
        match self.call(call).await {
            Ok(reply) => reply,
            Err(error) => {
                metrics::counter!("onrush_link_fallbacks_total", "service" => C::SERVICE, "call" => C::NAME).increment(1);
                if let Some(left_out) = FALLBACK_USED.take() {
                    tracing::warn!(%error, service = C::SERVICE, call = C::NAME, left_out, "call failed: fallback used");
                }
                fallback
            }
        }
    }

    /// Answers a call from another process with the bound handlers. Never calls a third process, so that calls cannot loop.
    pub async fn serve(&self, service: &str, name: &str, body: Bytes) -> Result<Bytes, ServeError> {
        match self.0.handlers.get() {
            Some(handlers) => handlers.serve(service, name, body).await,
            None => Err(ServeError::Unknown),
        }
    }
}
