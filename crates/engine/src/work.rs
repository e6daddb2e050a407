//! A transaction in progress, as services see it.

use super::{
    envelope::{Envelope, TraceId},
    fault::Fault,
};
use crate::Service;
use contracts::{Message, Timestamp};
use db::{DbError, Tx};
use std::{
    any::{Any, TypeId},
    collections::HashMap,
};
use uuid::Uuid;

/// Called with true when the transaction is durable.
pub(super) type AtEnd = Box<dyn FnOnce(bool) + Send>;

/// A transaction in progress, in which commands are handled and messages delivered.
pub struct Work {
    pub tx: Tx,
    /// One instant for the whole transaction.
    pub now: Timestamp,
    /// The service whose code runs now. Its messages go to its own stream.
    service: &'static str,
    /// Sequence numbers of the last messages. `None`: the sequencer assigns them.
    heads: Option<HashMap<&'static str, i64>>,
    /// Emitted and not yet dispatched to the readers of this transaction.
    emitted: Vec<Envelope>,
    /// Emitted and dispatched.
    dispatched: Vec<Envelope>,
    at_end: Vec<AtEnd>,
    notifications: Vec<(&'static str, String)>,
    traces: HashMap<Uuid, TraceId>,
    /// Loaded rows of the services, by type.
    loaded: HashMap<TypeId, Box<dyn Any + Send>>,
}

impl Work {
    /// `numbers_messages`: the transaction assigns sequence numbers, because its engine is the sole writer.
    pub(super) fn new(tx: Tx, numbers_messages: bool) -> Self {
        Self {
            tx,
            now: Timestamp(0),
            service: "",
            heads: numbers_messages.then(HashMap::new),
            emitted: Vec::new(),
            dispatched: Vec::new(),
            at_end: Vec::new(),
            notifications: Vec::new(),
            traces: HashMap::new(),
            loaded: HashMap::new(),
        }
    }

    /// Begins a transaction. Its sequence numbers follow `heads`.
    pub(super) async fn begin(&mut self, now: Timestamp, heads: &HashMap<&'static str, i64>) -> Result<(), DbError> {
        if let Some(own) = &mut self.heads {
            own.clone_from(heads);
        }
        self.clear();
        self.now = now;
        self.tx.begin().await
    }

    pub(super) fn clear(&mut self) {
        self.emitted.clear();
        self.dispatched.clear();
        self.at_end.clear();
        self.notifications.clear();
        self.traces.clear();
        self.loaded.clear();
    }

    /// Runs the code of this service from now on.
    pub(super) fn act_as(&mut self, service: &'static str) {
        self.service = service;
    }

    /// Dispatches messages to a service. Messages emitted for the same keys inherit the trace of their cause.
    pub(super) async fn dispatch(&mut self, service: &dyn Service, messages: &[&Envelope]) -> Result<(), Fault> {
        self.act_as(service.name());
        self.traces.extend(messages.iter().filter_map(|envelope| Some((envelope.key, envelope.trace?))));
        service.consume(self, messages).await
    }

    /// Takes the messages that were emitted and are not dispatched yet.
    pub(super) fn take_emitted(&mut self) -> Vec<Envelope> {
        std::mem::take(&mut self.emitted)
    }

    /// Keeps dispatched messages for the outbox.
    pub(super) fn keep_dispatched(&mut self, messages: Vec<Envelope>) {
        self.dispatched.extend(messages);
    }

    /// Takes all messages for the outbox, in the order in which they were emitted.
    pub(super) fn take_messages(&mut self) -> Vec<Envelope> {
        let mut messages = std::mem::take(&mut self.dispatched);
        messages.append(&mut self.emitted);
        messages
    }

    /// Hands the sequence numbers of the last messages over to `heads`, because the transaction has committed.
    pub(super) fn hand_over_heads(&mut self, heads: &mut HashMap<&'static str, i64>) {
        if let Some(own) = &mut self.heads {
            std::mem::swap(own, heads);
        }
    }

    pub(super) fn take_hooks(&mut self) -> Vec<AtEnd> {
        std::mem::take(&mut self.at_end)
    }

    /// The notifications to other instances: service and text.
    pub(super) fn notifications(&self) -> &[(&'static str, String)] {
        &self.notifications
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

    /// The transaction and the rows that a service has loaded in it. They stay in memory until its end, so that a row changed many times
    /// is read and written once.
    pub fn rows<T: Any + Send + Default>(&mut self) -> (&mut Tx, &mut T) {
        (&mut self.tx, loaded_rows(&mut self.loaded))
    }

    /// The rows alone.
    pub fn loaded<T: Any + Send + Default>(&mut self) -> &mut T {
        loaded_rows(&mut self.loaded)
    }
}

fn loaded_rows<T: Any + Send + Default>(loaded: &mut HashMap<TypeId, Box<dyn Any + Send>>) -> &mut T {
    let slot = loaded.entry(TypeId::of::<T>()).or_insert_with(|| Box::<T>::default());
    slot.downcast_mut().expect("slots are keyed by their type")
}
