//! The last step of a handler: submits a command and answers with its outcome.

use crate::module::Module;
use axum::response::Response;
use engine::{Command, idempotency::IdempotencyKey};
use std::sync::Arc;
use web::{Problem, Trace, reply};

/// Submits a command and answers with its outcome. A durable command with an open outcome is answered `202` with the id to poll.
pub async fn run<C: Command<Service: Module>>(
    service: &Arc<C::Service>,
    command: C,
    key: Option<IdempotencyKey>,
    trace: Trace,
) -> Result<Response, Problem> {
    service.kit().batch.submit(service, command, key, trace.0).await.map(reply).map_err(Problem::from)
}

#[cfg(test)]
#[path = "submit_tests.rs"]
mod tests;
