//! What services do by the clock: a name, a period and an async pass with a bounded amount of work. One instance runs them.

use crate::tasks::{self, Shutdown};
use futures::future::BoxFuture;
use std::{future::Future, sync::Arc, time::Duration};

/// One pass says whether more work waits, in which case the next one follows at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Done,
    More,
}

type Run = Arc<dyn Fn() -> BoxFuture<'static, Result<Pass, String>> + Send + Sync>;

#[derive(Clone)]
pub struct Job {
    /// Such as `coupons.expire`.
    pub name: &'static str,
    pub every: Duration,
    run: Run,
}

impl Job {
    pub fn new<F, R, E>(name: &'static str, every: Duration, pass: F) -> Job
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<Pass, E>> + Send + 'static,
        E: std::fmt::Display,
    {
        let run: Run = Arc::new(move || {
            let pass = pass();
            Box::pin(async move { pass.await.map_err(|error| error.to_string()) })
        });
        Job { name, every, run }
    }

    /// One pass, now. Tests drive jobs with this.
    pub async fn pass(&self) -> Result<Pass, String> {
        (self.run)().await
    }

    /// Passes until nothing is left; returns the number of passes.
    pub async fn drain(&self) -> Result<u32, String> {
        let mut passes = 1;
        while self.pass().await? == Pass::More {
            passes += 1;
        }
        Ok(passes)
    }

    /// Starts the schedule. A failed pass is logged and tried again at the next turn.
    pub fn start(self, mut shutdown: Shutdown) {
        tasks::spawn(self.name, async move {
            loop {
                let wait = match self.pass().await {
                    Ok(Pass::More) => Duration::ZERO,
                    Ok(Pass::Done) => self.every,
                    Err(error) => {
                        tracing::error!(job = self.name, error, "job pass failed");
                        self.every
                    }
                };
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = shutdown.stopping() => return,
                }
            }
        });
    }
}
