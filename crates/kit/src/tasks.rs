//! Background tasks of the process. Each has a name, a panic is logged, and all of them see the shutdown signal.

use crate::testing::{ReaderGuard, TaskScope};
use parking_lot::Mutex;
use std::{future::Future, sync::Arc, time::Duration};
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
    /// Returns when the process must stop, or when its trigger is gone.
    pub async fn stopping(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// Signals that shutdown has begun: handlers that hold a long poll answer with the present state. Clones share the signal.
#[derive(Clone, Debug)]
pub struct Draining(Arc<watch::Sender<bool>>);

/// Time that long polls may go on after shutdown has begun. The server cuts requests off some seconds later.
const DRAIN_TIME: Duration = Duration::from_secs(10);

impl Default for Draining {
    fn default() -> Draining {
        Draining(Arc::new(watch::Sender::new(false)))
    }
}

impl Draining {
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Returns when long polls must end.
    pub async fn deadline(&self) {
        // This cannot fail: the sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|draining| *draining).await;
        tokio::time::sleep(DRAIN_TIME).await;
    }
}

/// Tasks that give something back when the process stops, so the process waits for them. Clones share the tasks.
#[derive(Clone, Debug, Default)]
pub struct TaskTracker(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl TaskTracker {
    /// Starts a named task that ends soon after the process is told to stop.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.lock().push(spawn(name, future));
    }

    /// Waits for all tasks to end. `false`: some still run after this time.
    pub async fn wait_until_ended(&self, within: Duration) -> bool {
        let tasks = std::mem::take(&mut *self.0.lock());
        tokio::time::timeout(within, futures::future::join_all(tasks)).await.is_ok()
    }
}

/// Runs futures concurrently within the caller's task and returns their results in order. The caller must not hold a reader. Each future
/// may.
pub async fn join_concurrently<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    {
        let _none_before = ReaderGuard::begin();
    }
    futures::future::join_all(futures.into_iter().map(TaskScope::run)).await
}

/// Starts a named task on the runtime.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        use futures::FutureExt;
        if std::panic::AssertUnwindSafe(TaskScope::run(future)).catch_unwind().await.is_err() {
            tracing::error!(task = name, "task panicked");
        }
    })
}
