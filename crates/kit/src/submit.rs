//! The last step of a handler: submits a command and answers with its outcome.

use crate::module::Module;
use axum::response::Response;
use contracts::Code;
use engine::{
    Command, Service,
    idempotency::{self, IdempotencyKey, KeyState},
};
use std::{future::Future, sync::Arc};
use web::{Problem, Trace, answer, reply};

/// Submits a command and answers with its outcome. A durable command with an open outcome is answered `202` with the id to poll.
pub async fn run<C: Command<Service: Module>>(
    service: &Arc<C::Service>,
    command: C,
    key: Option<IdempotencyKey>,
    trace: Trace,
) -> Result<Response, Problem> {
    service.kit().batch.submit(service, command, key, trace.0).await.map(reply).map_err(Problem::from)
}

/// The same for an operation that looks at other data before it submits: `prepare` makes the command, or refuses the request.
///
/// A request with an answered key gets its first answer, before `prepare` runs. So a repeat is replayed although the data have changed
/// since: a password, a store's seller, a price.
pub async fn run_prepared<C: Command<Service: Module>>(
    service: &Arc<C::Service>,
    key: Option<IdempotencyKey>,
    trace: Trace,
    prepare: impl Future<Output = Result<C, Problem>>,
) -> Result<Response, Problem> {
    if let Some(replayed) = replayed_answer::<C>(service, key.as_ref()).await? {
        return Ok(replayed);
    }
    run(service, prepare.await?, key, trace).await
}

/// The stored answer to this request. `None`: it has no key, or the key is new. The writer checks again.
pub async fn replayed_answer<C: Command<Service: Module>>(
    service: &Arc<C::Service>,
    key: Option<&IdempotencyKey>,
) -> Result<Option<Response>, Problem> {
    let Some(key) = key else { return Ok(None) };
    let state = {
        let mut reader = service.kit().db.reader().await?;
        idempotency::look_up(&mut reader, service.name(), C::OPERATION, key).await?
    };
    match state {
        KeyState::Fresh => Ok(None),
        KeyState::Answered(stored) => Ok(Some(answer(stored))),
        KeyState::OtherRequest => Err(Code::IdempotencyKeyMismatch.into()),
        KeyState::Running => Err(Problem::from(Code::IdempotencyInProgress).retry_after(1)),
    }
}

#[cfg(test)]
#[path = "submit_tests.rs"]
mod tests;
