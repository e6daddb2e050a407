//! The service trait, and the kit that a process gives to each service.

use crate::{
    auth::{Auth, cookie::Cookies},
    batch::{Batch, Command, Reply, SubmitError, TraceId},
    db::{Db, Migration},
    engine::{Envelope, Fault, Work},
    http::Cursors,
    idempotency::IdempotencyKey,
    jobs::Job,
    kafka::RequestLogs,
    links::{CallHandlers, Links},
    ports::Clock,
    redis::Redis,
    tasks::Draining,
};
use contracts::Kind;
use futures::future::BoxFuture;
use std::{collections::HashMap, sync::Arc};
use utoipa_axum::router::OpenApiRouter;

/// The parts that a service gets from its process. Cheap to clone.
#[derive(Clone)]
pub struct Kit {
    pub batch: Batch,
    pub db: Db,
    /// Databases of services that have one of their own.
    pub(crate) databases: Arc<HashMap<&'static str, Db>>,
    pub clock: Arc<dyn Clock>,
    pub auth: Auth,
    /// State shared with other processes, if configured. Never the source of truth.
    pub redis: Option<Redis>,
    /// Log of requests that are executed later. `None` without Kafka.
    pub requests: Option<RequestLogs>,
    pub links: Links,
    pub cursors: Cursors,
    pub draining: Draining,
}

impl Kit {
    /// The kit for one service, with the service's own database if it has one.
    #[must_use]
    pub fn for_service(&self, service: &str) -> Kit {
        Kit { db: self.db_of(service).clone(), ..self.clone() }
    }

    pub(crate) fn db_of(&self, service: &str) -> &Db {
        self.databases.get(service).unwrap_or(&self.db)
    }

    /// True when other processes may write the tables that this one reads. Copies in memory must then expire soon.
    pub fn is_shared(&self) -> bool {
        self.db.is_postgres()
    }

    /// Queues a command of `service` and waits for its durable outcome.
    pub async fn submit<C: Command>(
        &self,
        service: &Arc<C::Service>,
        command: C,
        key: Option<IdempotencyKey>,
        trace: TraceId,
    ) -> Result<Reply, SubmitError> {
        self.batch.submit(service, command, key, trace).await
    }
}

/// A part of the product that owns its tables and its stream. Services communicate only by messages and links.
pub trait Service: Send + Sync + 'static {
    /// Name of the service and its stream, and the prefix of its tables.
    fn name(&self) -> &'static str;

    fn migrations(&self) -> &'static [Migration];

    fn kit(&self) -> &Kit;

    /// Routes with their documentation.
    fn router(self: Arc<Self>) -> OpenApiRouter;

    /// The kinds of messages it acts on.
    fn reads(&self) -> &'static [Kind] {
        &[]
    }

    /// True if it acts on messages of this kind.
    fn acts_on(&self, kind: &str) -> bool {
        self.reads().iter().any(|read| read.as_str() == kind)
    }

    /// Acts on messages, inside a transaction that also advances the reader's position. Must be safe to repeat.
    fn consume<'a>(&'a self, work: &'a mut Work, messages: &'a [&'a Envelope]) -> BoxFuture<'a, Result<(), Fault>> {
        let _ = (work, messages);
        Box::pin(async { Ok(()) })
    }

    /// Writes back the rows kept in [`Work::stash`] during the transaction. Runs before answers are completed. Must not emit messages.
    fn flush<'a>(&'a self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        let _ = work;
        Box::pin(async { Ok(()) })
    }

    /// Handles a notification from another instance, sent by [`Work::notify`]. `None`: some may have been lost, so reload. Only a hint:
    /// no required effect may depend on it.
    fn on_notification(&self, text: Option<&str>) {
        let _ = text;
    }

    /// The cookie authority, where this service issues cookies. Asked for in every process, also where the service does not run.
    fn cookies(self: Arc<Self>) -> Option<Arc<dyn Cookies>> {
        None
    }

    /// Registers the calls that this service answers.
    fn register_calls(self: Arc<Self>, handlers: &mut CallHandlers) {
        let _ = handlers;
    }

    /// The periodic jobs of this service.
    fn jobs(self: Arc<Self>) -> Vec<Job> {
        Vec::new()
    }

    /// Runs once before requests are served: caches, gates, bootstrapping.
    fn start(self: Arc<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }

    /// Runs instead of [`Service::start`] in a process without this service, for state that every process needs.
    fn start_remote(self: Arc<Self>) {}
}
