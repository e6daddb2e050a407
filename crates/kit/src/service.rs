//! What every service is, and what it is given.

use crate::{
    auth::{Auth, cookie::Cookies},
    batch::{Batch, Command, Reply, SubmitError, TraceId},
    db::{Db, Migration},
    engine::{Envelope, Fault, Work},
    http::Cursors,
    idempotency::IdempotencyKey,
    jobs::Job,
    kafka::Requests,
    links::{Answers, Links},
    ports::Clock,
    redis::Redis,
    tasks::Leaving,
};
use futures::future::BoxFuture;
use std::{collections::HashMap, sync::Arc};
use utoipa_axum::router::OpenApiRouter;

/// What a service gets from the process it runs in. Cheap to clone.
#[derive(Clone)]
pub struct Kit {
    pub batch: Batch,
    pub db: Db,
    /// Databases of services that have one of their own.
    pub(crate) databases: Arc<HashMap<&'static str, Db>>,
    pub clock: Arc<dyn Clock>,
    pub auth: Auth,
    /// Shared with other processes, where it is set; never the truth.
    pub redis: Option<Redis>,
    /// Where requests are written down that are done later; absent without Kafka.
    pub requests: Option<Requests>,
    pub links: Links,
    pub cursors: Cursors,
    pub leaving: Leaving,
}

impl Kit {
    /// The kit of one service: with its own database, if it has one.
    #[must_use]
    pub fn of(&self, service: &str) -> Kit {
        Kit { db: self.db_of(service).clone(), ..self.clone() }
    }

    pub(crate) fn db_of(&self, service: &str) -> &Db {
        self.databases.get(service).unwrap_or(&self.db)
    }

    /// True where other processes may write what this one reads: what is kept in memory must not be trusted for long.
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

/// A part of the product that owns its tables and its stream. It speaks to others only by messages and links.
pub trait Service: Send + Sync + 'static {
    /// Also the prefix of its tables and the name of its stream.
    fn name(&self) -> &'static str;

    fn migrations(&self) -> &'static [Migration];

    fn kit(&self) -> &Kit;

    /// Routes with their documentation.
    fn router(self: Arc<Self>) -> OpenApiRouter;

    /// The kinds of messages it acts on, such as `stock.reserve`.
    fn reads(&self) -> &'static [&'static str] {
        &[]
    }

    /// Acts on messages, inside a transaction that also advances its position. Must be safe to repeat.
    fn consume<'a>(&'a self, work: &'a mut Work, messages: &'a [&'a Envelope]) -> BoxFuture<'a, Result<(), Fault>> {
        let _ = (work, messages);
        Box::pin(async { Ok(()) })
    }

    /// Writes back what it kept in [`Work::stash`] during the transaction. Runs before answers are completed; must not emit.
    fn flush<'a>(&'a self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        let _ = work;
        Box::pin(async { Ok(()) })
    }

    /// What another instance of this service said by [`Work::notice`]; `None` when something may have been missed. Only hints: nothing
    /// that must happen may depend on it.
    fn noticed(&self, text: Option<&str>) {
        let _ = text;
    }

    /// Who knows whose a browser's cookie is, where this is the service that hands cookies out. Asked for in every process, also where the
    /// service does not run.
    fn cookies(self: Arc<Self>) -> Option<Arc<dyn Cookies>> {
        None
    }

    /// Registers the questions it answers.
    fn answers(self: Arc<Self>, answers: &mut Answers) {
        let _ = answers;
    }

    /// What it does by the clock.
    fn jobs(self: Arc<Self>) -> Vec<Job> {
        Vec::new()
    }

    /// Runs once before requests are served: caches, gates, bootstrapping.
    fn start(self: Arc<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }

    /// Runs instead of [`Service::start`] in a process that the service does not run in: for what every process has to know of it.
    fn start_elsewhere(self: Arc<Self>) {}
}
