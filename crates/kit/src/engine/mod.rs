//! The writer: takes what waits, settles it in one transaction, hands messages to their readers, commits, answers.
//!
//! Owns the only writing connection of the process, the numbering of every stream and the readers' positions.
//! It never looks at what a command or a message means.

mod deliver;
mod fold;
mod letters;
mod log;
mod redrive;
mod streams;
mod transaction;
mod upkeep;
mod work;
mod writer;

pub use letters::{DeadLetter, dead_letters, request_redrive};
pub use log::{kit_tables, prune};
pub use work::{Envelope, Work};
pub use writer::RunningEngine;

use crate::{db::DbError, ports::Clock, service::Service, testing::Faults};
use contracts::Timestamp;
use std::{collections::HashMap, sync::Arc};
use streams::Reader;

/// How the engine works.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Hand messages to their readers inside the writing transaction. Off: each hop is a transaction of its own.
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
    readers: Vec<Reader>,
    epochs: HashMap<&'static str, i64>,
    /// Numbers of the last committed messages.
    heads: HashMap<&'static str, i64>,
    faults: Faults,
    /// When old keys and messages are looked for next.
    upkeep_at: Timestamp,
}

/// A technical failure: the transaction rolls back and is tried in smaller pieces. Never used for a rule that said no.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Db(#[from] DbError),
    /// The code broke a promise of its own.
    #[error("bug: {0}")]
    Bug(String),
    #[error("panic: {0}")]
    Panic(String),
    /// The data of a message cannot be read here.
    #[error(transparent)]
    Decode(#[from] contracts::messages::DecodeError),
    /// The process is set up in a way it cannot start with; says which setting to change.
    #[error("setting: {0}")]
    Setting(String),
    /// Somebody else moved this reader on: what is done here must not count.
    #[error("fenced: {0}")]
    Fenced(String),
    /// Brought about by a test.
    #[error("injected: {0}")]
    Injected(String),
}

impl Fault {
    /// True when trying smaller pieces cannot help: the database takes no writes at all.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Fault::Db(DbError::Busy | DbError::DiskFull | DbError::Open(_) | DbError::Io(_)))
    }
}

impl From<contracts::money::AmountOutOfRange> for Fault {
    fn from(_: contracts::money::AmountOutOfRange) -> Self {
        Fault::Bug("an amount went out of range behind the checks at the door".into())
    }
}
