use crate::{
    batch::TraceId,
    db::{DbError, Tx},
    engine::Fault,
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
    /// Dense per source and partition: the first is 1 and none is left out. 0 for one that is numbered only after its commit.
    pub seq: i64,
    /// What it is about; order is kept per key.
    pub key: Uuid,
    pub message: Message,
    pub at: Timestamp,
    /// The request that caused it, if it is known.
    pub trace: Option<TraceId>,
}

/// Is told whether the transaction is durable.
type AtEnd = Box<dyn FnOnce(bool) + Send>;

/// A transaction in progress: what commands and messages are settled in.
pub struct Work {
    pub tx: Tx,
    /// One instant for the whole transaction.
    pub now: Timestamp,
    /// The service whose code runs now; what it emits goes to its stream.
    pub(super) service: &'static str,
    /// Numbers of the last messages, where this writer gives them itself.
    pub(super) heads: Option<HashMap<&'static str, i64>>,
    /// Emitted and not yet dispatched to the readers of this transaction.
    pub(super) emitted: Vec<Envelope>,
    /// Emitted and dispatched.
    pub(super) dispatched: Vec<Envelope>,
    pub(super) at_end: Vec<AtEnd>,
    /// Services whose messages wait for their numbers once this transaction is committed.
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

    /// Messages emitted for `key` from here on belong to this request.
    pub fn trace(&mut self, key: impl Into<Uuid>, trace: TraceId) {
        self.traces.insert(key.into(), trace);
    }

    /// Tells the other instances of the running service something small once the transaction is durable: a hint that may get lost, such
    /// as which caller's wait is over. In one process there is nobody to tell.
    pub fn notice(&mut self, text: impl Into<String>) {
        self.notifications.push((self.service, text.into()));
    }

    /// What is emitted about the keys of these messages belongs to the requests that caused them.
    pub(super) fn propagate_traces(&mut self, messages: &[&Envelope]) {
        self.traces.extend(messages.iter().filter_map(|envelope| Some((envelope.key, envelope.trace?))));
    }

    /// Runs `action` once the transaction is durable; dropped if it rolls back. For gates, caches and waiters, never for effects.
    pub fn after_commit(&mut self, action: impl FnOnce() + Send + 'static) {
        self.at_end(|is_durable| {
            if is_durable {
                action();
            }
        });
    }

    /// Runs `action` once it is known what became of the transaction, with whether it is durable; dropped if nobody knows. Of the same
    /// use as [`after_commit`](Self::after_commit).
    pub fn at_end(&mut self, action: impl FnOnce(bool) + Send + 'static) {
        self.at_end.push(Box::new(action));
    }

    /// What a service keeps in memory for the length of this transaction, so that a row touched many times is read and written once.
    pub fn stash<T: Any + Send + Default>(&mut self) -> &mut T {
        let slot = self.stash.entry(TypeId::of::<T>()).or_insert_with(|| Box::<T>::default());
        slot.downcast_mut().expect("slots are keyed by their type")
    }

    /// Takes the stash out, to use it beside `tx`; give it back with [`Work::put_stash`].
    pub fn take_stash<T: Any + Send + Default>(&mut self) -> Box<T> {
        self.stash.remove(&TypeId::of::<T>()).and_then(|slot| slot.downcast().ok()).unwrap_or_default()
    }

    pub fn put_stash<T: Any + Send>(&mut self, stash: Box<T>) {
        self.stash.insert(TypeId::of::<T>(), stash);
    }
}
