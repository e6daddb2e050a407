//! Background tasks of the process. Each has a name, a panic is logged, and shutdown is a signal they all see.

use crate::testing::{Course, ReaderGuard};
use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};

/// Tells every task that the process is stopping.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<bool>);

pub fn shutdown() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (ShutdownTrigger(sender), Shutdown(receiver))
}

impl ShutdownTrigger {
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow()
    }
    /// Returns when the process is to stop (or its trigger is gone).
    pub async fn stopping(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// Whether the process is about to stop: whoever lets a caller wait gives him the answer that there is. Clones share it.
#[derive(Clone, Debug)]
pub struct Leaving(Arc<watch::Sender<bool>>);

/// How long callers may go on waiting in a process that leaves; what is under way is cut off some seconds later.
const DRAIN_TIME: Duration = Duration::from_secs(10);

impl Default for Leaving {
    fn default() -> Leaving {
        Leaving(Arc::new(watch::Sender::new(false)))
    }
}

impl Leaving {
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Returns when nobody should wait here any longer.
    pub async fn last_wait(&self) {
        // It cannot fail: the sender is here.
        let _ = self.0.subscribe().wait_for(|leaving| *leaving).await;
        tokio::time::sleep(DRAIN_TIME).await;
    }
}

/// Tasks that have something to give back when the process stops, and are therefore waited for. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Crew(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl Crew {
    /// Starts a named task that ends soon after the process is told to stop.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(spawn(name, future));
    }

    /// Returns when all have ended; false when they have not by then.
    pub async fn wait_until_ended(&self, within: Duration) -> bool {
        let tasks = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::time::timeout(within, futures::future::join_all(tasks)).await.is_ok()
    }
}

/// Runs futures beside each other within the task that asks; what they come to, in their order. Whoever asks must not hold a reader, and
/// each of them may.
pub async fn beside_each_other<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    {
        let _none_before = ReaderGuard::begin();
    }
    futures::future::join_all(futures.into_iter().map(Course::run)).await
}

/// Starts a named task on the runtime.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        use futures::FutureExt;
        if std::panic::AssertUnwindSafe(Course::run(future)).catch_unwind().await.is_err() {
            tracing::error!(task = name, "task panicked");
        }
    })
}
