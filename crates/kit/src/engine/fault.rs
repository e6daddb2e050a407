//! Technical failures of the engine.

use crate::db::DbError;

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
    #[error("message source: {0}")]
    Source(String),
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
        Fault::Bug("an amount is out of range after the input was validated".into())
    }
}
