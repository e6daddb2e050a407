use crate::{
    db::{DbError, Tx},
    engine::Fault,
    trace::TraceId,
};
use contracts::{Message, Timestamp};
use std::{
    any::{Any, TypeId},
    collections::HashMap,
};
use uuid::Uuid;

/// A message in its stream.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub source: &'static str,
    /// Sequence number, dense within source and partition, starting at 1. 0: the sequencer numbers the message after its commit.
    pub seq: i64,
    /// The entity that the message is about. Order is kept within a key.
    pub key: Uuid,
    pub message: Message,
    pub at: Timestamp,
    /// The request that caused the message, if known.
    pub trace: Option<TraceId>,
}

/// Called with true when the transaction is durable.
type AtEnd = Box<dyn FnOnce(bool) + Send>;

/// A transaction in progress, in which commands are handled and messages delivered.
pub struct Work {
    pub tx: Tx,
    /// One instant for the whole transaction.
    pub now: Timestamp,
    /// The service whose code runs now. Its messages go to its own stream.
    pub(super) service: &'static str,
    /// Sequence numbers of the last messages. `None`: the sequencer assigns them.
    pub(super) heads: Option<HashMap<&'static str, i64>>,
    /// Emitted and not yet dispatched to the readers of this transaction.
    pub(super) emitted: Vec<Envelope>,
    /// Emitted and dispatched.
    pub(super) dispatched: Vec<Envelope>,
    pub(super) at_end: Vec<AtEnd>,
    /// Services whose messages the sequencer must number after the commit.
    pub(super) emitting_services: Vec<&'static str>,
    pub(super) notifications: Vec<(&'static str, String)>,
    traces: HashMap<Uuid, TraceId>,
    stash: HashMap<TypeId, Box<dyn Any + Send>>,
}

impl Work {
    pub(super) fn new(tx: Tx) -> Self {
        Self {
            tx,
            now: Timestamp(0),
            service: "",
            heads: None,
            emitted: Vec::new(),
            dispatched: Vec::new(),
            at_end: Vec::new(),
            emitting_services: Vec::new(),
            notifications: Vec::new(),
            traces: HashMap::new(),
            stash: HashMap::new(),
        }
    }

    pub(super) async fn begin(&mut self, now: Timestamp) -> Result<(), DbError> {
        self.clear();
        self.now = now;
        self.tx.begin().await
    }

    pub(super) fn clear(&mut self) {
        self.emitted.clear();
        self.dispatched.clear();
        self.at_end.clear();
        self.emitting_services.clear();
        self.notifications.clear();
        self.traces.clear();
        self.stash.clear();
    }

    /// Writes a message into the running service's stream. It is read only if this transaction commits.
    pub fn emit(&mut self, key: impl Into<Uuid>, message: Message) -> Result<(), Fault> {
        if message.source() != self.service {
            return Err(Fault::Bug(format!("{} is not a message of {}", message.kind(), self.service)));
        }
        let key = key.into();
        let seq = self.heads.as_mut().map_or(0, |heads| {
            let head = heads.entry(self.service).or_insert(0);
            *head += 1;
            *head
        });
        let trace = self.traces.get(&key).copied();
        self.emitted.push(Envelope { source: self.service, seq, key, message, at: self.now, trace });
        Ok(())
    }

    /// Assigns messages emitted for `key` from now on to this request.
    pub fn trace(&mut self, key: impl Into<Uuid>, trace: TraceId) {
        self.traces.insert(key.into(), trace);
    }

    /// Notifies the other instances of the running service once the transaction is durable, for instance that a caller's wait is over. A
    /// hint that may get lost. Does nothing where the process is the only one.
    pub fn notify(&mut self, text: impl Into<String>) {
        self.notifications.push((self.service, text.into()));
    }

    /// Assigns messages emitted for the keys of these messages to the requests that caused them.
    pub(super) fn propagate_traces(&mut self, messages: &[&Envelope]) {
        self.traces.extend(messages.iter().filter_map(|envelope| Some((envelope.key, envelope.trace?))));
    }

    /// Runs `action` once the transaction is durable, and drops it after a rollback. For gates, caches and waiters, never for effects.
    pub fn after_commit(&mut self, action: impl FnOnce() + Send + 'static) {
        self.at_end(|is_durable| {
            if is_durable {
                action();
            }
        });
    }

    /// Runs `action` once the transaction's outcome is known, with true if it is durable. Drops it if the outcome stays unknown. For the
    /// same uses as [`after_commit`](Self::after_commit).
    pub fn at_end(&mut self, action: impl FnOnce(bool) + Send + 'static) {
        self.at_end.push(Box::new(action));
    }

    /// A service's rows in memory for the length of this transaction, so that a row changed many times is read and written once.
    pub fn stash<T: Any + Send + Default>(&mut self) -> &mut T {
        let slot = self.stash.entry(TypeId::of::<T>()).or_insert_with(|| Box::<T>::default());
        slot.downcast_mut().expect("slots are keyed by their type")
    }

    /// Takes the stash out, to use it beside `tx`. The caller must give it back with [`Work::put_stash`].
    pub fn take_stash<T: Any + Send + Default>(&mut self) -> Box<T> {
        self.stash.remove(&TypeId::of::<T>()).and_then(|slot| slot.downcast().ok()).unwrap_or_default()
    }

    pub fn put_stash<T: Any + Send>(&mut self, stash: Box<T>) {
        self.stash.insert(TypeId::of::<T>(), stash);
    }
}
