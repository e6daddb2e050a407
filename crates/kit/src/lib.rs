//! The door to the machinery under every service: it wires the parts into a process, and re-exports them. It contains no business terms
//! and no machinery of its own. Services name only this crate and `contracts`.
//!
//! Path of a write: HTTP handler → [`batch::Batch::submit`] → one transaction for all waiting commands → answer after the commit.
//!
//! The transaction's messages are numbered into the service's outbox and dispatched to their readers. This happens inside the same
//! transaction (folded), or in a transaction of the reader.
//!
//! Order of the crates, bottom to top; each names only those before it:
//! ```text
//! contracts | runtime | db, kafka, cache | engine | web | auth | peers | kit | testkit
//! ```
//! Order of the modules of this crate: `module`, `extract`, `submit`, `process`.

pub mod extract;
pub mod module;
pub mod process;
pub mod submit;

/// The queue of commands in front of a writer.
pub mod batch {
    pub use engine::{Answer, Batch, Command, Deferred, Outcome, Queue, Reply, SubmitError, TraceId};
}

pub use ::{auth, cache, db, engine, kafka, web as http};
pub use auth::limits;
pub use cache::redis;
pub use db::{Db, DbError, Param, Row, Tx, migrations, params};
pub use engine::{Answer, Command, Fault, Invariant, Outcome, Reply, Service, Work, idempotency, jobs, rows};
pub use module::{Kit, Module};
pub use peers::{gateway, links};
/// Crash points and planned faults. Without the feature `testing` they do nothing.
pub use runtime::failpoints as testing;
pub use runtime::{backoff, breaker, keys, line_limit, metrics_help, ports, tasks, telemetry};
