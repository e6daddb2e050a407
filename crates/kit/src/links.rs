//! Questions between services: `links.call(GetPrices { .. })`. Answered by a function of the service that owns the data.

use contracts::calls::Call;
use futures::future::BoxFuture;
use std::{
    any::{Any, TypeId},
    collections::HashMap,
    future::Future,
    sync::{Arc, OnceLock},
};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("{service} does not answer {call} in this process")]
    NotHere { service: &'static str, call: &'static str },
    #[error("{service} failed to answer {call}: {reason}")]
    Failed { service: &'static str, call: &'static str, reason: String },
}

type Handler<C> = dyn Fn(C) -> BoxFuture<'static, Result<<C as Call>::Reply, String>> + Send + Sync;

/// The questions this process can answer.
#[derive(Default)]
pub struct Answers(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

impl Answers {
    pub fn add<C, F, R, E>(&mut self, answer: F)
    where
        C: Call,
        F: Fn(C) -> R + Send + Sync + 'static,
        R: Future<Output = Result<C::Reply, E>> + Send + 'static,
        E: std::fmt::Display,
    {
        let handler: Box<Handler<C>> = Box::new(move |call| {
            let reply = answer(call);
            Box::pin(async move { reply.await.map_err(|error| error.to_string()) })
        });
        self.0.insert(TypeId::of::<C>(), Box::new(handler));
    }
}

/// The asking side. Bound to its answers once, when all services exist.
#[derive(Clone, Default)]
pub struct Links(Arc<OnceLock<Answers>>);

impl Links {
    pub fn bind(&self, answers: Answers) {
        // A second binding would change who answers under running requests; the first one stays.
        let _ = self.0.set(answers);
    }

    pub async fn call<C: Call>(&self, call: C) -> Result<C::Reply, LinkError> {
        let handler =
            self.0.get().and_then(|answers| answers.0.get(&TypeId::of::<C>())).and_then(|any| any.downcast_ref::<Box<Handler<C>>>());
        let Some(handler) = handler else {
            return Err(LinkError::NotHere { service: C::SERVICE, call: C::NAME });
        };
        handler(call).await.map_err(|reason| LinkError::Failed { service: C::SERVICE, call: C::NAME, reason })
    }
}
