//! The writer: takes what waits, settles it in one transaction, hands messages to their readers, commits, answers.
//!
//! On SQLite one engine writes for all services, numbers their streams as it writes and hands messages on inside the transaction. On
//! PostgreSQL each service has an engine in every process that runs it; numbering is the sequencer's, and each hop is a transaction.
//! It never looks at what a command or a message means.

pub(crate) mod assignment;
mod dead_letters;
mod delivery;
mod fault;
mod fold;
pub(crate) mod lease;
pub(crate) mod lease_connection;
mod lock_budget;
mod log;
pub(crate) mod notify;
mod old_names;
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

pub use dead_letters::{DeadLetter, list_dead_letters, request_redrive};
pub use fault::Fault;
pub use log::{StoredMessage, Stream, StreamPartition, begin_at, prune, prune_deliveries, publish_again, reset_offsets};
pub use notify::Notifications;
pub use old_names::*;
pub use readers::prepare;
pub use source::MessageSource;
pub use work::{Envelope, Work};
pub use writer::RunningEngine;

use crate::{
    ports::{Clock, Stopwatch},
    service::Service,
    testing::Faults,
};
use assignment::PartitionAssignment;
use contracts::Timestamp;
use lock_budget::LockBudget;
use reader::StreamReader;
use stalls::Stalls;
use std::{collections::HashMap, sync::Arc};

/// How the engine works.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Hand messages to their readers inside the writing transaction. Off: each hop is a transaction of its own. Only where one writer
    /// numbers the streams itself.
    pub fold: bool,
    /// Most commands settled by one transaction: bounds the time a caller waits for others.
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
    /// Numbers of the last committed messages, where this engine gives them.
    heads: HashMap<&'static str, i64>,
    faults: Faults,
    stalls: Stalls,
    lock_budget: LockBudget,
    /// When it last failed to write down what readers passed over.
    last_flush_failure: Option<Stopwatch>,
    /// When old keys and messages are looked for next.
    next_retention_at: Timestamp,
    /// When it was last measured how far readers are behind.
    since_lag_report: Option<Stopwatch>,
    /// Absent where this engine is the only one.
    assignment: Option<PartitionAssignment>,
}
