//! Commands: mutating operations, and their outcomes.

use super::{answer::Answer, fault::Fault, idempotency::IdempotencyKey, work::Work};
use crate::Service;
use contracts::{Code, Refusal};
use std::future::Future;
use uuid::Uuid;

/// Outcome of one command in a batch.
#[derive(Debug)]
pub enum Outcome {
    Answer(Answer),
    /// The answer depends on later steps, in this transaction or after it. [`Command::resolve`] is asked for it before the commit.
    Deferred(Uuid),
    /// The precondition checked before queueing has expired. The command did nothing and its key stays free. The submitter gets
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

/// Result for the submitter, after the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Answer(Answer),
    /// The command is durable, but its answer is still open. The id is that of [`Outcome::Deferred`].
    Pending(Uuid),
}

/// A mutating operation. One value is one request. `handle` executes all requests that arrived meanwhile, inside one transaction.
pub trait Command: Sized + Send + Sync + 'static {
    type Service: Service;
    /// The operation's id, such as `coupons.claim`.
    const OPERATION: &'static str;

    /// True for a command that needs a transaction of its own: a baseline strategy that group commit is compared with.
    fn is_exclusive(&self) -> bool {
        false
    }

    /// Handles commands and returns one outcome for each, in order. A refusal is an outcome.
    ///
    /// `Err`: a technical fault. Everything rolls back, and the batch is split and retried. So this may run more than once, and must
    /// leave no effect outside the transaction.
    fn handle<'a>(
        service: &'a Self::Service,
        work: &'a mut Work,
        commands: &'a [&'a Self],
    ) -> impl Future<Output = Result<Vec<Outcome>, Fault>> + Send + 'a;

    /// Answers for [`Outcome::Deferred`] at the end of the transaction: one for each, in order. `None`: still open, and the submitter gets
    /// [`Reply::Pending`].
    fn resolve<'a>(
        service: &'a Self::Service,
        work: &'a mut Work,
        deferred: &'a [Deferred<'a, Self>],
    ) -> impl Future<Output = Result<Vec<Option<Answer>>, Fault>> + Send + 'a {
        let _ = (service, work);
        async { Ok(deferred.iter().map(|_| None).collect()) }
    }
}

/// A command whose outcome was [`Outcome::Deferred`].
pub struct Deferred<'a, C> {
    pub command: &'a C,
    pub key: Option<&'a IdempotencyKey>,
    pub id: Uuid,
}

/// Reason why a command has no answer of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full. Nothing was done; the caller may retry.
    #[error("the queue is full")]
    Overloaded,
    /// The process is stopping, the database takes no writes, or lock contention lasted too long. Nothing was done.
    #[error("writes are not possible at the moment")]
    Unavailable,
    /// The connection broke during the commit, or the writer ended meanwhile, and the outcome cannot be found out now. A repeat with the same key shows it.
    #[error("the outcome is unknown; repeat the request with the same key")]
    Unknown,
    /// The command failed for a technical reason and was rolled back.
    #[error("the command failed and was rolled back")]
    Failed,
    /// The command waited too long: see [`Outcome::Stale`]. Nothing was done.
    #[error("the precondition checked before queueing has expired")]
    Stale,
}
