//! The answer to a command.

use super::fault::Fault;
use bytes::Bytes;
use contracts::{Refusal, problem::problem_body};
use serde::Serialize;

/// Answer to a caller: status, JSON body and, for something new, its location. Made inside the transaction and stored with the
/// idempotency key, so that a repeat gets the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
    pub location: Option<String>,
    /// True when the answer was given before, for the same key.
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
        let body = problem_body(refusal, &[], &[]);
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
