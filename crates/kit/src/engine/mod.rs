//! The engine: takes waiting commands, executes them in one transaction, dispatches messages to their readers, commits and answers.
//!
//! On SQLite one engine writes for all services. It numbers their streams as it writes, and dispatches messages inside the transaction.
//! On PostgreSQL each service has an engine in every process that runs it. There the sequencer numbers messages, and each hop is a
//! transaction.
//!
//! The engine never looks at the meaning of a command or a message.

pub(crate) mod assignment;
mod dead_letters;
mod delivery;
mod fault;
pub mod fence;
mod fold;
pub(crate) mod lease;
pub(crate) mod lease_connection;
mod lock_budget;
mod log;
pub(crate) mod notify;
pub(crate) mod reader;
mod readers;
mod redrive;
pub(crate) mod relay;
mod retention;
pub(crate) mod sequencer;
mod skipping;
mod source;
mod stalls;
mod tables;
mod transaction;
mod wakeup;
mod work;
mod writer;

pub use contracts::streams::{Stream, StreamPartition};
pub use dead_letters::{DeadLetter, list_dead_letters, request_redrive};
pub use fault::Fault;
pub use log::{StoredMessage, begin_at, prune, prune_deliveries, publish_again, reset_offsets};
pub use notify::Notifications;
pub use readers::prepare;
pub use source::MessageSource;
pub use work::{Envelope, Work};
pub use writer::RunningEngine;

use crate::{
    failpoints::Faults,
    ports::{Clock, Stopwatch},
    service::Service,
};
use assignment::PartitionAssignment;
use contracts::Timestamp;
use lock_budget::LockBudget;
use reader::StreamReader;
use stalls::Stalls;
use std::{collections::HashMap, sync::Arc};

/// Settings of an engine.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Dispatches messages to their readers inside the writing transaction. Off: each hop is a transaction of its own. Has an effect only
    /// where a sole writer numbers the streams.
    pub fold: bool,
    /// Most commands executed in one transaction, which bounds the time a caller waits for others.
    pub max_batch: usize,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { fold: true, max_batch: 512 }
    }
}

pub struct Engine {
    work: Work,
    clock: Arc<dyn Clock>,
    settings: EngineSettings,
    services: Vec<Arc<dyn Service>>,
    readers: Vec<StreamReader>,
    /// The streams of `services`.
    streams: HashMap<&'static str, Stream>,
    /// Sequence numbers of the last committed messages, where this engine assigns them.
    heads: HashMap<&'static str, i64>,
    faults: Faults,
    stalls: Stalls,
    lock_budget: LockBudget,
    /// Time since the last failed flush of skipped positions.
    last_flush_failure: Option<Stopwatch>,
    /// Time of the next retention pass.
    next_retention_at: Timestamp,
    /// Time since reader lag was last reported.
    since_lag_report: Option<Stopwatch>,
    /// `None`: this engine is the only one.
    assignment: Option<PartitionAssignment>,
}
