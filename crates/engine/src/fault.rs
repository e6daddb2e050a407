//! Technical failures of the engine.

use db::DbError;

/// A technical failure: the transaction rolls back and is retried in smaller pieces. Never used for a refusal by a business rule.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Db(#[from] DbError),
    /// The code violated one of its own invariants.
    #[error("bug: {0}")]
    Bug(String),
    #[error("panic: {0}")]
    Panic(String),
    /// This service cannot decode the data of a message.
    #[error(transparent)]
    Decode(#[from] contracts::messages::DecodeError),
    /// The process cannot start with its settings. The text names the setting to change.
    #[error("setting: {0}")]
    Setting(String),
    /// Another instance moved this reader, or took over this duty. The transaction must not take effect.
    #[error("fenced: {0}")]
    Fenced(String),
    /// The message source cannot be read.
    #[error("message source: {0}")]
    Source(String),
    /// Injected by a test.
    #[error("injected: {0}")]
    Injected(String),
}

impl Fault {
    /// True when the database cannot work at the moment, so that smaller pieces cannot help.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Fault::Db(error) if error.is_outage())
    }

    /// True when a statement took longer than the server allows.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self, Fault::Db(DbError::Slow))
    }

    /// True when the same transaction may succeed at its next try, because it lost against another one.
    pub(super) fn is_conflict(&self) -> bool {
        self.is_contention() || matches!(self, Fault::Db(DbError::Unique(_)))
    }

    /// True when nothing but contention is wrong. Excludes unique constraints, which may fail at every try.
    pub(super) fn is_contention(&self) -> bool {
        self.is_locked() || matches!(self, Fault::Db(DbError::Retry(_)))
    }

    /// True when waiting for a lock timed out.
    pub(super) fn is_locked(&self) -> bool {
        matches!(self, Fault::Db(DbError::Locked(_)))
    }
}

impl From<contracts::money::AmountOutOfRange> for Fault {
    fn from(_: contracts::money::AmountOutOfRange) -> Self {
        Fault::Bug("an amount is out of range after the input was validated".into())
    }
}
