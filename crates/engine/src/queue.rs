//! The bounded queue of commands in front of the writer.
//!
//! Commands that arrive during a commit form the next transaction. So there is no timer, and no added latency when idle. Commands of one
//! operation are handled together, in arrival order, by one call of [`Command::handle`]. Their answers leave only after the commit.

use super::{
    command::{Command, Reply, SubmitError},
    envelope::TraceId,
    group::{AnyCommand, QueuedCommand},
    idempotency::IdempotencyKey,
};
use crate::Service;
use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};
use tokio::sync::oneshot;

/// The queues of a process's writers: one for all services, or one for each.
#[derive(Clone, Default)]
pub struct Batch(Arc<OnceLock<HashMap<&'static str, QueueSender>>>);

/// The sending end of a queue.
#[derive(Clone)]
pub(crate) struct QueueSender(SyncSender<QueueItem>);

/// The writer's end of a queue.
pub struct Queue {
    pub(crate) items: Receiver<QueueItem>,
    sender: QueueSender,
}

pub(crate) enum QueueItem {
    Command(Box<dyn AnyCommand>),
    /// A stream that is read here may have new messages.
    Wake,
    Stop,
}

impl Queue {
    /// `capacity` bounds memory and waiting time under overload. Commands beyond it are rejected at once.
    pub fn new(capacity: usize) -> Queue {
        let (sender, items) = sync_channel(capacity);
        Queue { items, sender: QueueSender(sender) }
    }

    pub(crate) fn sender(&self) -> QueueSender {
        self.sender.clone()
    }
}

impl QueueSender {
    pub(crate) fn stop(&self) {
        let _ = self.0.send(QueueItem::Stop);
    }

    /// Stops the writer without waiting for room in the queue.
    pub(crate) fn try_stop(&self) {
        let _ = self.0.try_send(QueueItem::Stop);
    }
}

impl Batch {
    /// Binds services to their queues, once all services are known.
    pub fn bind<'q>(&self, queues: impl IntoIterator<Item = (&'static str, &'q Queue)>) {
        // The first binding stays, because a second one would change the writer under running requests.
        let _ = self.0.set(queues.into_iter().map(|(service, queue)| (service, queue.sender())).collect());
    }

    fn queue(&self, service: &str) -> Option<&SyncSender<QueueItem>> {
        self.0.get()?.get(service).map(|sender| &sender.0)
    }

    /// Queues a command and waits for its durable outcome.
    pub async fn submit<C: Command>(
        &self,
        service: &Arc<C::Service>,
        command: C,
        key: Option<IdempotencyKey>,
        trace: TraceId,
    ) -> Result<Reply, SubmitError> {
        let queue = self.queue(service.name()).ok_or(SubmitError::Unavailable)?;
        let (reply, answer) = oneshot::channel();
        let queued = QueuedCommand::new(Arc::clone(service), command, key, trace, reply);
        queue.try_send(QueueItem::Command(Box::new(queued))).map_err(|error| match error {
            TrySendError::Full(_) => {
                metrics::counter!("onrush_batch_shed_total").increment(1);
                SubmitError::Overloaded
            }
            TrySendError::Disconnected(_) => SubmitError::Unavailable,
        })?;
        // The writer replies even when it ends. Without a reply, nothing is known.
        answer.await.unwrap_or(Err(SubmitError::Unknown))
    }

    /// Wakes the writer of a service. A writer with a full queue is already awake.
    pub(crate) fn wake(&self, service: &str) {
        if let Some(queue) = self.queue(service) {
            let _ = queue.try_send(QueueItem::Wake);
        }
    }
}
