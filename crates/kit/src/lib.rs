//! The machinery under every service. It contains no business terms.
//!
//! Path of a write: HTTP handler → [`batch::Batch::submit`] → one transaction for all waiting commands → answer after the commit.
//!
//! The transaction's messages are numbered into the service's outbox and dispatched to their readers. This happens inside the same
//! transaction (folded), or in a transaction of the reader.
//!
//! Order of the modules, bottom to top; each imports only those before it:
//! ```text
//! contracts | ports, rows, trace, keys, failpoints, one_reader, tasks, backoff, telemetry, breaker | db | kafka, redis, cache | engine
//! | jobs | http | auth | links, gateway | module, extract, submit, process | testing
//! ```

pub mod auth;
pub mod backoff;
pub mod breaker;
pub mod cache;
pub mod db;
pub mod engine;
pub mod extract;
mod failpoints;
pub mod gateway;
pub mod http;
pub mod jobs;
pub mod kafka;
pub mod keys;
pub mod links;
pub mod module;
mod one_reader;
pub mod ports;
pub mod process;
pub mod redis;
pub mod rows;
pub mod submit;
pub mod tasks;
pub mod telemetry;
pub mod testing;
mod trace;

/// The queue of commands in front of a writer.
pub mod batch {
    pub use crate::engine::{
        TraceId,
        answer::Answer,
        command::{Command, Deferred, Outcome, Reply, SubmitError},
        queue::{Batch, Queue},
    };
}

pub use db::{Db, DbError, Param, Row, Tx};
pub use engine::{Answer, Command, Fault, Invariant, Outcome, Reply, Service, Work, idempotency};
pub use module::{Kit, Module};
