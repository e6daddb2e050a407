//! The part of a service that the engine runs: its tables and their invariants, and its reactions to messages.

use super::{Envelope, Fault, Invariant, Work};
use contracts::Kind;
use db::Migration;
use futures::future::BoxFuture;

/// A part of the product that owns its tables and its stream. Services communicate only by messages and links.
pub trait Service: Send + Sync + 'static {
    /// Name of the service and its stream, and the prefix of its tables.
    fn name(&self) -> &'static str;

    fn migrations(&self) -> &'static [Migration] {
        &[]
    }

    /// The invariants of its own tables. The audit asks the type, because no service runs beside it.
    fn checks() -> Vec<Invariant>
    where
        Self: Sized,
    {
        Vec::new()
    }

    /// The kinds of messages it acts on.
    fn reads(&self) -> &'static [Kind] {
        &[]
    }

    /// True if it acts on messages of this kind.
    fn acts_on(&self, kind: &str) -> bool {
        self.reads().iter().any(|read| read.as_str() == kind)
    }

    /// Acts on messages, inside a transaction that also advances the reader's position. Must be safe to repeat.
    fn consume<'a>(&'a self, work: &'a mut Work, messages: &'a [&'a Envelope]) -> BoxFuture<'a, Result<(), Fault>> {
        let _ = (work, messages);
        Box::pin(async { Ok(()) })
    }

    /// Writes back the rows kept in [`Work::rows`] during the transaction. Runs before answers are completed. Must not emit messages.
    fn flush<'a>(&'a self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        let _ = work;
        Box::pin(async { Ok(()) })
    }

    /// Handles a notification from another instance, sent by [`Work::notify`]. `None`: some may have been lost, so reload. Only a hint:
    /// no required effect may depend on it.
    fn on_notification(&self, text: Option<&str>) {
        let _ = text;
    }
}
