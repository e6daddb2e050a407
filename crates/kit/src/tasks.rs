//! Background tasks of the process. Each has a name, a panic is logged, and shutdown is a signal they all see.

use std::future::Future;
use tokio::sync::watch;

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

/// Starts a named task on the runtime.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn spawn<F>(name: &'static str, future: F) -> tokio::task::JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        use futures::FutureExt;
        if std::panic::AssertUnwindSafe(future).catch_unwind().await.is_err() {
            tracing::error!(task = name, "task panicked");
        }
    })
}
