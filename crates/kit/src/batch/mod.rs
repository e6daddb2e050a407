//! The bounded queue of commands in front of the writer, and what a command is.
//!
//! Commands that arrive while a transaction commits form the next one: no timer, no added latency when idle. Commands of one operation
//! are handled together, in arrival order, by one call of [`Command::handle`]; their answers leave only after the commit.

mod group;

pub(crate) use group::{AnyGroup, AnyJob};

use crate::{
    engine::{Fault, Work},
    idempotency::IdempotencyKey,
    service::Service,
};
use bytes::Bytes;
use contracts::{Code, Refusal};
use group::Job;
use serde::Serialize;
use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};
use tokio::sync::oneshot;
use uuid::Uuid;

/// What a caller is told: a status, a JSON body and perhaps where the new thing is. Made inside the transaction and stored with the
/// idempotency key, so that a repeat gets the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
    pub location: Option<String>,
    /// True when this answer was given before, for the same key.
    pub replayed: bool,
}

impl Answer {
    pub fn json(status: u16, value: &impl Serialize) -> Result<Answer, Fault> {
        let body = serde_json::to_vec(value).map_err(|error| Fault::Bug(format!("an answer does not serialize: {error}")))?;
        Ok(Answer { status, body: body.into(), location: None, replayed: false })
    }

    pub fn empty(status: u16) -> Answer {
        Answer { status, body: Bytes::new(), location: None, replayed: false }
    }

    pub fn refusal(refusal: &Refusal) -> Answer {
        let body = crate::http::problem_body(refusal, &[], &[]);
        Answer { status: refusal.code.status(), body: body.into(), location: None, replayed: false }
    }

    #[must_use]
    pub fn at(mut self, location: impl Into<String>) -> Answer {
        self.location = Some(location.into());
        self
    }

    pub fn is_problem(&self) -> bool {
        self.status >= 400
    }
}

/// What one command of a batch came to.
#[derive(Debug)]
pub enum Outcome {
    Answer(Answer),
    /// The answer depends on what follows in this transaction, or later: asked again by [`Command::resolve`] before the commit.
    Later(Uuid),
    /// What the command was submitted on does not hold any more. It did nothing, its key is not used up, and its submitter gets
    /// [`SubmitError::Stale`].
    Stale,
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Outcome::Answer(answer)
    }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        Outcome::Answer(Answer::refusal(&refusal))
    }
}

impl From<Code> for Outcome {
    fn from(code: Code) -> Self {
        Refusal::from(code).into()
    }
}

/// What the submitter gets after the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Answer(Answer),
    /// Durable, but its result is not known yet; the id is the one [`Outcome::Later`] named.
    Pending(Uuid),
}

/// A mutating operation. One value is one request; `handle` settles all that arrived meanwhile, inside one transaction.
pub trait Command: Sized + Send + Sync + 'static {
    type Service: Service;
    /// The operation's id, such as `coupons.claim`.
    const OPERATION: &'static str;

    /// True for a command that must have a transaction of its own (the baseline strategies that group commit is compared with).
    fn alone(&self) -> bool {
        false
    }

    /// One outcome per command, in order. A refusal is an outcome. `Err` is a technical fault: everything rolls back, the batch is
    /// split and tried again, so this may run more than once and must leave nothing outside the transaction.
    fn handle<'a>(
        service: &'a Self::Service,
        work: &'a mut Work,
        commands: &'a [&'a Self],
    ) -> impl Future<Output = Result<Vec<Outcome>, Fault>> + Send + 'a;

    /// The answers for [`Outcome::Later`], at the end of the transaction: one for each, in order. `None`: still open, the submitter gets
    /// [`Reply::Pending`].
    fn resolve<'a>(
        service: &'a Self::Service,
        work: &'a mut Work,
        later: &'a [Later<'a, Self>],
    ) -> impl Future<Output = Result<Vec<Option<Answer>>, Fault>> + Send + 'a {
        let _ = (service, work);
        async { Ok(later.iter().map(|_| None).collect()) }
    }
}

/// A command that came to [`Outcome::Later`].
pub struct Later<'a, C> {
    pub command: &'a C,
    pub key: Option<&'a IdempotencyKey>,
    pub id: Uuid,
}

/// Why a command has no answer of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full: come back later. Nothing was done.
    #[error("the queue is full")]
    Overloaded,
    /// The process is stopping, the database cannot take writes just now, or others were in the way for too long. Nothing was done.
    #[error("writes are not possible just now")]
    Unavailable,
    /// The connection broke while it was committed, and what became of it cannot be found out now. A repeat with the same key tells.
    #[error("whether it was done is not known; ask again with the same key")]
    Unknown,
    /// The command failed for a technical reason, and was rolled back.
    #[error("the command failed and was rolled back")]
    Failed,
    /// It waited for too long: see [`Outcome::Stale`]. Nothing was done.
    #[error("what the command was submitted on does not hold any more")]
    Stale,
}

/// The queues of a process's writers: one for all services, or one for each.
#[derive(Clone, Default)]
pub struct Batch(Arc<OnceLock<HashMap<&'static str, Sender>>>);

/// The sending end of one queue.
#[derive(Clone)]
pub(crate) struct Sender(SyncSender<Input>);

/// The writer's end of a queue.
pub struct Queue {
    pub(crate) inputs: Receiver<Input>,
    sender: Sender,
}

pub(crate) enum Input {
    Job(Box<dyn AnyJob>),
    /// A stream that is read here goes on.
    Wake,
    Stop,
}

impl Queue {
    /// `capacity` bounds memory and waiting time under overload: what does not fit is refused at once.
    pub fn new(capacity: usize) -> Queue {
        let (sender, inputs) = sync_channel(capacity);
        Queue { inputs, sender: Sender(sender) }
    }

    pub(crate) fn sender(&self) -> Sender {
        self.sender.clone()
    }
}

impl Sender {
    pub(crate) fn stop(&self) {
        let _ = self.0.send(Input::Stop);
    }

    /// The same for one that nobody waits for.
    pub(crate) fn abandon(&self) {
        let _ = self.0.try_send(Input::Stop);
    }
}

impl Batch {
    /// Connects services with their queues, once, when it is known which services there are.
    pub fn bind<'q>(&self, queues: impl IntoIterator<Item = (&'static str, &'q Queue)>) {
        // A second binding would change who writes under running requests; the first one stays.
        let _ = self.0.set(queues.into_iter().map(|(service, queue)| (service, queue.sender())).collect());
    }

    fn queue(&self, service: &str) -> Option<&SyncSender<Input>> {
        self.0.get()?.get(service).map(|sender| &sender.0)
    }

    /// Queues a command and waits for its durable outcome.
    pub async fn submit<C: Command>(
        &self,
        service: &Arc<C::Service>,
        command: C,
        key: Option<IdempotencyKey>,
        trace: TraceId,
    ) -> Result<Reply, SubmitError> {
        let queue = self.queue(service.name()).ok_or(SubmitError::Unavailable)?;
        let (reply, answer) = oneshot::channel();
        let job = Job::new(Arc::clone(service), command, key, trace, reply);
        queue.try_send(Input::Job(Box::new(job))).map_err(|error| match error {
            TrySendError::Full(_) => {
                metrics::counter!("onrush_batch_shed_total").increment(1);
                SubmitError::Overloaded
            }
            TrySendError::Disconnected(_) => SubmitError::Unavailable,
        })?;
        answer.await.unwrap_or(Err(SubmitError::Unavailable))
    }

    /// Wakes the writer of a service. With a full queue it is awake.
    pub(crate) fn wake(&self, service: &str) {
        if let Some(queue) = self.queue(service) {
            let _ = queue.try_send(Input::Wake);
        }
    }
}

/// W3C trace id of the request that caused something.
pub type TraceId = Uuid;
