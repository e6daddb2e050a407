//! Commands.

use super::Answer;
use crate::{
    engine::{Fault, Work},
    idempotency::IdempotencyKey,
    service::Service,
};
use contracts::{Code, Refusal};
use std::future::Future;
use uuid::Uuid;

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
    #[error("writes are not possible at the moment")]
    Unavailable,
    /// The connection broke while it was committed, and what became of it cannot be found out now. A repeat with the same key tells.
    #[error("the outcome is unknown; repeat the request with the same key")]
    Unknown,
    /// The command failed for a technical reason, and was rolled back.
    #[error("the command failed and was rolled back")]
    Failed,
    /// It waited for too long: see [`Outcome::Stale`]. Nothing was done.
    #[error("the precondition checked before queueing has expired")]
    Stale,
}
