//! Questions between services: `links.call(GetPrices { .. })`. Answered by a function of the service that owns the data: here when it
//! runs in this process, else over HTTP by a process that runs it.
//!
//! Questions only read, so that they may be asked again. A question to another process has a time limit, a few tries, a breaker for each
//! address ([`pool`]) and a signature ([`sign`]). Nothing here decides what to do without an answer: the caller gets an error, or says
//! beforehand what stands in for it ([`Links::call_or`]).

mod internal;
pub mod peers;
pub mod pool;
mod remote;
pub mod sign;
pub(crate) mod trace;
mod whereabouts;

pub use internal::{CALL_LIMIT, SIGNATURE, internal_router};
pub use peers::{Address, Peers, PeersError};
pub use pool::Pool;
pub use remote::{Remote, RemoteSettings};
pub use sign::Signer;
pub use whereabouts::{Whereabouts, whereabouts};

use bytes::Bytes;
use contracts::calls::Call;
use futures::future::BoxFuture;
use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A mistake in how the installation is put together.
    #[error("{service} does not answer {call} in this process, and no address is known for it")]
    NotHere { service: &'static str, call: &'static str },
    /// The service was asked and could not answer.
    #[error("{service} failed to answer {call}: {reason}")]
    Failed { service: &'static str, call: &'static str, reason: String },
    /// No process that runs the service answered in time.
    #[error("{service} cannot be asked for {call}: {reason}")]
    Unavailable { service: &'static str, call: &'static str, reason: String },
}

/// Why a question that came as JSON has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    #[error("nobody answers this question here")]
    Unknown,
    #[error("the question cannot be read: {0}")]
    Unreadable(String),
    #[error("{0}")]
    Failed(String),
}

type Handler<C> = dyn Fn(C) -> BoxFuture<'static, Result<<C as Call>::Reply, String>> + Send + Sync;
type JsonHandler = dyn Fn(Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> + Send + Sync;

/// The questions this process can answer.
#[derive(Default)]
pub struct Answers {
    typed: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    /// The same ones by service and name, for other processes.
    json: HashMap<(&'static str, &'static str), Box<JsonHandler>>,
}

impl Answers {
    pub fn add<C, F, R, E>(&mut self, answer: F)
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

    /// Answers a question of another process: JSON in, JSON out.
    pub async fn serve(&self, service: &str, name: &str, body: Bytes) -> Result<Bytes, ServeError> {
        let handler = self.json.get(&(service, name)).ok_or(ServeError::Unknown)?;
        handler(body).await
    }

    fn typed<C: Call>(&self) -> Option<&Handler<C>> {
        self.typed.get(&TypeId::of::<C>())?.downcast_ref::<Arc<Handler<C>>>().map(AsRef::as_ref)
    }
}

/// The asking side. Bound to its answers once, when all services exist. Cheap to clone; clones are bound together.
#[derive(Clone, Default)]
pub struct Links(Arc<Inner>);

#[derive(Default)]
struct Inner {
    answers: OnceLock<Answers>,
    remote: OnceLock<Remote>,
}

impl Links {
    pub fn bind(&self, answers: Answers) {
        // A second binding would change who answers under running requests; the first one stays.
        let _ = self.0.answers.set(answers);
    }

    /// Says how to ask services that run elsewhere. The first word stays, as with [`Links::bind`].
    pub fn connect(&self, remote: Remote) {
        let _ = self.0.remote.set(remote);
    }

    /// Asks the service that owns the answer. In this process when it runs here, else in another.
    pub async fn call<C: Call>(&self, call: C) -> Result<C::Reply, LinkError> {
        if let Some(handler) = self.0.answers.get().and_then(Answers::typed::<C>) {
            return handler(call).await.map_err(|reason| LinkError::Failed { service: C::SERVICE, call: C::NAME, reason });
        }
        match self.0.remote.get() {
            Some(remote) => remote.call(call).await,
            None => Err(LinkError::NotHere { service: C::SERVICE, call: C::NAME }),
        }
    }

    /// The same where something can stand in for the answer: what the caller shows or decides without it.
    pub async fn call_or<C: Call>(&self, call: C, fallback: C::Reply) -> C::Reply {
        match self.call(call).await {
            Ok(reply) => reply,
            Err(error) => {
                metrics::counter!("onrush_link_fallbacks_total", "service" => C::SERVICE, "call" => C::NAME).increment(1);
                tracing::warn!(%error, service = C::SERVICE, call = C::NAME, "a question has no answer; something else stands in for it");
                fallback
            }
        }
    }

    /// [`Answers::serve`] of what is bound. Never asks other processes: a question goes one step, not in circles.
    pub async fn serve(&self, service: &str, name: &str, body: Bytes) -> Result<Bytes, ServeError> {
        match self.0.answers.get() {
            Some(answers) => answers.serve(service, name, body).await,
            None => Err(ServeError::Unknown),
        }
    }
}
