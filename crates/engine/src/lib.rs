//! The engine: takes waiting commands, executes them in one transaction, dispatches messages to their readers, commits and answers.
//!
//! On SQLite one engine writes for all services. It numbers their streams as it writes, and dispatches messages inside the transaction.
//! On PostgreSQL each service has an engine in every process that runs it. There the sequencer numbers messages, and each hop is a
//! transaction.
//!
//! The engine never looks at the meaning of a command or a message. It knows no HTTP, no roles, and no addresses of other processes.
//!
//! Order of the modules, top to bottom; each uses only those after it:
//! ```text
//! writer > redrive, retention, flushing, delivery > fold > transaction > readers > assignment > queue > group, passed_over > command
//! > idempotency > answer > setup > work > jobs, relay, sequencer > source > lease, lease_connection, lock_budget, notify, retries, stalls, wakeup > dead_letters
//! > tables > subscriptions > log > fence, heartbeat, position, envelope, fault, invariant, rows
//! ```
//! The trait [`Service`] is outside this order: it names [`Work`], and most modules name the trait.

pub mod answer;
pub mod assignment;
pub mod command;
mod dead_letters;
mod delivery;
mod envelope;
mod fault;
pub mod fence;
mod flushing;
mod fold;
mod group;
mod heartbeat;
pub mod idempotency;
mod invariant;
pub mod jobs;
pub mod lease;
pub mod lease_connection;
mod lock_budget;
mod log;
pub mod notify;
pub mod passed_over;
mod position;
pub mod queue;
mod readers;
mod redrive;
pub mod relay;
mod retention;
mod retries;
pub mod rows;
pub mod sequencer;
mod service;
mod setup;
mod source;
mod stalls;
pub mod subscriptions;
mod tables;
mod transaction;
mod wakeup;
mod work;
mod writer;

pub use answer::Answer;
pub use command::{Command, Deferred, Outcome, Reply, SubmitError};
pub use dead_letters::{DeadLetter, list_dead_letters, request_redrive};
pub use envelope::{Envelope, TraceId};
pub use fault::Fault;
pub use heartbeat::Heartbeat;
pub use invariant::{HoldsWhen, Invariant};
pub use log::{StoredMessage, begin_at, prune, prune_deliveries, publish_again, reset_offsets};
pub use notify::Notifications;
pub use position::{Stream, StreamPartition};
pub use queue::{Batch, Queue};
pub use retries::DEAD_LETTER_AFTER;
pub use service::Service;
pub use setup::EngineSettings;
pub use source::MessageSource;
pub use tables::{engine_tables, migrate_tables, prepare};
pub use work::Work;
pub use writer::RunningEngine;

#[cfg(test)]
mod tests;

use assignment::PartitionAssignment;
use db::Db;
use readers::Readers;
use runtime::{failpoints::Faults, ports::Clock};
use setup::{EngineSetup, Services};
use std::sync::Arc;
use transaction::Transaction;
use writer::Writer;

/// An engine that is open and does not run yet.
pub struct Engine {
    readers: Readers,
    transaction: Transaction,
    writer: Writer,
}

impl Engine {
    /// Opens the engine of these services with their streams and readers.
    ///
    /// With `assignment` it is one of several engines, each for one service that is already prepared. Without, it is the only one.
    pub async fn open(
        db: &Db,
        services: Vec<Arc<dyn Service>>,
        clock: Arc<dyn Clock>,
        settings: EngineSettings,
        faults: Faults,
        assignment: Option<PartitionAssignment>,
    ) -> Result<Engine, Fault> {
        let services: Services = services.into();
        let is_sole_writer = assignment.is_none();
        // Only a sole writer numbers its messages as it writes, and can dispatch them before the commit.
        let settings = EngineSettings { fold: settings.fold && is_sole_writer, ..settings };
        let mut transaction = Transaction::open(db, Arc::clone(&services), clock, is_sole_writer).await?;
        let mut readers = Readers::new(Arc::clone(&services), assignment, settings.dead_letter_after);
        if is_sole_writer {
            let (tx, streams) = transaction.tx_and_streams();
            readers.open_sole(tx, streams).await?;
        }
        Ok(Engine { readers, transaction, writer: Writer::new(EngineSetup { services, settings, faults }) })
    }

    /// Starts the engine's writer on a thread of its own.
    pub fn start(self, queue: Queue) -> std::io::Result<RunningEngine> {
        self.writer.start(self.readers, self.transaction, queue)
    }
}
