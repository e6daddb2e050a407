//! Background tasks of the process. Each has a name, a panic is logged, and all of them see the shutdown signal.

use crate::one_reader::{ReaderGuard, TaskScope};
use std::{any::Any, future::Future, time::Duration};
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task};

/// Tells every task that the process is stopping.
#[derive(Clone, Debug)]
pub struct Shutdown(CancellationToken);

/// Stops the process on request, and when it is dropped.
#[derive(Debug)]
pub struct ShutdownTrigger(CancellationToken);

pub fn shutdown() -> (ShutdownTrigger, Shutdown) {
    let token = CancellationToken::new();
    (ShutdownTrigger(token.clone()), Shutdown(token))
}

impl ShutdownTrigger {
    pub fn stop(&self) {
        self.0.cancel();
    }
}

impl Drop for ShutdownTrigger {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Shutdown {
    /// True once the process stops, or its trigger is dropped: a task of a dropped process must not run on.
    pub fn is_stopping(&self) -> bool {
        self.0.is_cancelled()
    }
    /// Returns when the process must stop, or when its trigger is gone.
    pub async fn stopping(&self) {
        self.0.cancelled().await;
    }
}

/// Signals that shutdown has begun: handlers that hold a long poll answer with the present state. Clones share the signal.
#[derive(Clone, Debug, Default)]
pub struct Draining(CancellationToken);

/// Time that long polls may go on after shutdown has begun. The server cuts requests off some seconds later.
const DRAIN_TIME: Duration = Duration::from_secs(10);

impl Draining {
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// Returns when long polls must end.
    pub async fn deadline(&self) {
        self.0.cancelled().await;
        tokio::time::sleep(DRAIN_TIME).await;
    }
}

/// Tasks that give something back when the process stops, so the process waits for them. Clones share the tasks.
#[derive(Clone, Debug, Default)]
pub struct TaskTracker(task::TaskTracker);

impl TaskTracker {
    /// Starts a named task that ends soon after the process is told to stop.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        spawn(name, self.0.track_future(future));
    }

    /// Waits for all tasks to end. `false`: some still run after this time.
    pub async fn wait_until_ended(&self, within: Duration) -> bool {
        self.0.close();
        tokio::time::timeout(within, self.0.wait()).await.is_ok()
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

/// The message of a caught panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_trigger_stops_its_tasks() {
        let (trigger, shutdown) = shutdown();
        assert!(!shutdown.is_stopping());
        drop(trigger);
        shutdown.stopping().await;
        assert!(shutdown.is_stopping());
    }
}
