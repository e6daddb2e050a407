//! Background tasks of the process. Each has a name, and all of them see the shutdown signal.
//!
//! A panic is logged and counted. The task that panicked is restarted ([`spawn_restarting`]), or ends the process ([`spawn_vital`]), or had
//! one piece of work only ([`spawn`]).

use crate::one_reader::{ReaderGuard, TaskScope};
use futures::FutureExt;
use std::{any::Any, future::Future, panic::AssertUnwindSafe, sync::LazyLock, time::Duration};
use tokio::{sync::watch, task::JoinHandle};
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

    /// Starts a named task that ends soon after the process is told to stop, and begins anew after a panic.
    pub fn spawn_restarting<F>(&self, name: &'static str, make: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        spawn(name, self.0.track_future(run_restarting(name, make)));
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

/// Starts a named task on the runtime. A panic ends it, so it must be one piece of work that others repeat or can do without.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        run_caught(name, TaskScope::run(future)).await;
    })
}

/// Starts a named task that begins anew after a panic. `make` makes its future, with the state of a new start.
pub fn spawn_restarting<F>(name: &'static str, make: impl Fn() -> F + Send + 'static) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    spawn(name, run_restarting(name, make))
}

/// Starts a named task that the process cannot do without, and that cannot begin anew. A panic ends the process.
pub fn spawn_vital<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    spawn(name, async move {
        if run_caught(name, future).await.is_none() {
            report_fatal(name);
        }
    })
}

/// Pause before a task that panicked begins anew, so that one that always panics does not take a core.
const RESTART_DELAY: Duration = Duration::from_secs(1);

async fn run_restarting<F: Future<Output = ()>>(name: &'static str, make: impl Fn() -> F) {
    while run_caught(name, make()).await.is_none() {
        tokio::time::sleep(RESTART_DELAY).await;
        tracing::warn!(task = name, "task restarted");
    }
}

/// Runs a future. `None`: it panicked, which is logged and counted.
pub async fn run_caught<F: Future>(name: &'static str, future: F) -> Option<F::Output> {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(output) => Some(output),
        Err(panic) => {
            tracing::error!(task = name, panic = panic_text(panic.as_ref()), "task panicked");
            metrics::counter!("onrush_task_panics_total", "task" => name).increment(1);
            None
        }
    }
}

/// The part of this process that has ended for good. `None`: all parts run.
static FATAL: LazyLock<watch::Sender<Option<&'static str>>> = LazyLock::new(|| watch::Sender::new(None));

/// Reports that a part of this process has ended that it cannot do without. The process must end, so that its supervisor starts it again.
pub fn report_fatal(part: &'static str) {
    tracing::error!(part, "the process cannot go on");
    FATAL.send_replace(Some(part));
}

/// Returns the part that [`report_fatal`] has reported, as soon as there is one.
pub async fn fatal_failure() -> &'static str {
    let mut receiver = FATAL.subscribe();
    match receiver.wait_for(Option::is_some).await.map(|part| *part) {
        Ok(Some(part)) => part,
        // The sender is never dropped.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

/// The message of a caught panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    // finding 16
    #[tokio::test]
    async fn a_task_that_panics_begins_anew() {
        let starts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&starts);
        let task = spawn_restarting("stumble", move || {
            let start = counted.fetch_add(1, Ordering::SeqCst);
            async move { assert!(start >= 2, "on purpose") }
        });
        task.await.expect("no panic leaves a task");
        assert_eq!(starts.load(Ordering::SeqCst), 3);
    }

    // finding 16
    #[tokio::test]
    async fn a_vital_task_that_panics_is_fatal() {
        let failure = fatal_failure();
        spawn_vital("sound", async {}).await.expect("it ends");
        spawn_vital("heart", async { panic!("on purpose") }).await.expect("no panic leaves a task");
        assert_eq!(failure.await, "heart");
    }

    #[tokio::test]
    async fn a_dropped_trigger_stops_its_tasks() {
        let (trigger, shutdown) = shutdown();
        assert!(!shutdown.is_stopping());
        drop(trigger);
        shutdown.stopping().await;
        assert!(shutdown.is_stopping());
    }
}
