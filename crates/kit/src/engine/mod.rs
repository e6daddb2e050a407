//! The writer: takes what waits, settles it in one transaction, hands messages to their readers, commits, answers.
//!
//! On SQLite one engine writes for all services, numbers their streams as it writes and hands messages on inside the transaction. On
//! PostgreSQL each service has an engine in every process that runs it; numbering is the sequencer's, and each hop is a transaction.
//! It never looks at what a command or a message means.

mod bell;
mod deliver;
mod feed;
mod fold;
pub(crate) mod lanes;
pub(crate) mod lease;
mod letters;
mod log;
mod passing;
mod patience;
mod redrive;
pub(crate) mod relay;
pub(crate) mod sequencer;
pub(crate) mod steward;
pub(crate) mod streams;
mod tables;
mod transaction;
mod trouble;
mod upkeep;
pub(crate) mod wires;
mod work;
mod writer;

pub use feed::Feed;
pub use letters::{DeadLetter, dead_letters, request_redrive};
pub use log::{Place, Stored, Stream, begin_at, find_by_number, prune, prune_deliveries, publish_again};
pub use streams::prepare;
pub use wires::Wires;
pub use work::{Envelope, Work};
pub use writer::RunningEngine;

use crate::{
    db::DbError,
    ports::{Clock, Stopwatch},
    service::Service,
    testing::Faults,
};
use contracts::Timestamp;
use lanes::Lanes;
use patience::Patience;
use std::{collections::HashMap, sync::Arc};
use streams::Reader;
use trouble::Troubles;

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
    readers: Vec<Reader>,
    /// The streams of `services`.
    streams: HashMap<&'static str, Stream>,
    /// Numbers of the last committed messages, where this engine gives them.
    heads: HashMap<&'static str, i64>,
    faults: Faults,
    troubles: Troubles,
    patience: Patience,
    /// When it last failed to write down what readers passed over.
    keeping_failed: Option<Stopwatch>,
    /// When old keys and messages are looked for next.
    upkeep_at: Timestamp,
    /// When it was last measured how far readers are behind.
    lag_looked: Option<Stopwatch>,
    /// Absent where this engine is the only one.
    lanes: Option<Lanes>,
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
    /// Messages cannot be had from where they come.
    #[error("feed: {0}")]
    Feed(String),
    /// Brought about by a test.
    #[error("injected: {0}")]
    Injected(String),
}

impl Fault {
    /// True when trying smaller pieces cannot help: the database takes no writes at all.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(
            self,
            Fault::Db(DbError::Busy | DbError::DiskFull | DbError::Open(_) | DbError::Io(_) | DbError::Closed(_) | DbError::Unknown)
        )
    }

    /// True when the same transaction may succeed at its next try: another one was in its way.
    pub(super) fn is_conflict(&self) -> bool {
        self.is_contention() || matches!(self, Fault::Db(DbError::Unique(_)))
    }

    /// The same where it is certain that nothing else is wrong: a unique constraint may also be one that always says no.
    pub(super) fn is_contention(&self) -> bool {
        self.is_locked() || matches!(self, Fault::Db(DbError::Retry(_)))
    }

    /// True when somebody else holds a lock that was waited for in vain.
    pub(super) fn is_locked(&self) -> bool {
        matches!(self, Fault::Db(DbError::Locked(_)))
    }
}

impl From<contracts::money::AmountOutOfRange> for Fault {
    fn from(_: contracts::money::AmountOutOfRange) -> Self {
        Fault::Bug("an amount went out of range behind the checks at the door".into())
    }
}
