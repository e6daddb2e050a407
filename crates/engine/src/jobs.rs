//! Periodic jobs of services: a name, a period, and an async pass with a bounded amount of work. One instance runs them.

use crate::{lease, lease_connection::LeaseConnection};
use db::DbError;
use futures::future::BoxFuture;
use runtime::{
    one_reader::TaskScope,
    tasks::{self, Shutdown, TaskTracker},
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::sync::watch;
use uuid::Uuid;

/// Result of a pass. After `More` the next pass follows at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Done,
    More,
}

type PassFn = Arc<dyn Fn() -> BoxFuture<'static, Result<Pass, String>> + Send + Sync>;

#[derive(Clone)]
pub struct Job {
    /// Name of the job, such as `coupons.expire`.
    pub name: &'static str,
    pub every: Duration,
    run: PassFn,
}

impl Job {
    pub fn new<F, R, E>(name: &'static str, every: Duration, pass: F) -> Job
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<Pass, E>> + Send + 'static,
        E: std::fmt::Display,
    {
        let run: PassFn = Arc::new(move || {
            let pass = pass();
            Box::pin(async move { pass.await.map_err(|error| error.to_string()) })
        });
        Job { name, every, run }
    }

    /// Runs one pass now. Tests drive jobs with this.
    pub async fn pass(&self) -> Result<Pass, String> {
        TaskScope::run((self.run)()).await
    }

    /// Runs one pass. A panic counts as a failure, so that the schedule continues in the instance that holds the lease.
    async fn caught_pass(&self) -> Result<Pass, String> {
        let pass = tasks::run_caught(self.name, self.pass()).await.unwrap_or_else(|| Err("panicked".into()));
        if pass.is_err() {
            metrics::counter!("onrush_job_failures_total", "job" => self.name).increment(1);
        }
        pass
    }

    /// Runs passes until no work is left. Returns the number of passes.
    pub async fn drain(&self) -> Result<u32, String> {
        let mut passes = 1;
        while self.pass().await? == Pass::More {
            passes += 1;
        }
        Ok(passes)
    }

    /// Starts the schedule, which pauses while another instance holds the lease. A failed pass is logged and retried one period later.
    pub fn start(self, shutdown: Shutdown, mut lease: JobLease) {
        tasks::spawn(self.name, async move {
            let failed_in_a_row = metrics::gauge!("onrush_job_failed_passes", "job" => self.name);
            let mut failures = 0_u32;
            loop {
                tokio::select! {
                    () = lease.wait_until_held() => {}
                    () = shutdown.stopping() => return,
                }
                let result = self.caught_pass().await;
                failures = if result.is_ok() { 0 } else { failures.saturating_add(1) };
                failed_in_a_row.set(f64::from(failures));
                let wait = match result {
                    Ok(Pass::More) => Duration::ZERO,
                    Ok(Pass::Done) => self.every,
                    Err(error) => {
                        tracing::error!(job = self.name, error, failures, "job pass failed");
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

const LEASE: &str = "jobs";

/// Lease on a service's jobs: they run only while this process holds it.
///
/// A pass that outlives the lease does no harm, because its commands are decided on current rows, like any request.
#[derive(Clone)]
pub struct JobLease(Option<watch::Receiver<bool>>);

impl JobLease {
    /// For the only instance: always held.
    pub fn always() -> JobLease {
        JobLease(None)
    }

    /// For one of several instances: held while the lease in the database is.
    pub fn maintain(
        connection: LeaseConnection,
        service: &'static str,
        instance: Uuid,
        shutdown: Shutdown,
        tasks: &TaskTracker,
    ) -> JobLease {
        let (sender, receiver) = watch::channel(false);
        let holder = Arc::new(JobLeaseHolder { connection, service, instance, sender });
        tasks.spawn_restarting("jobs-lease", move || Arc::clone(&holder).run(shutdown.clone()));
        JobLease(Some(receiver))
    }

    /// Waits until this instance holds the lease.
    async fn wait_until_held(&mut self) {
        let Some(receiver) = &mut self.0 else { return };
        if receiver.wait_for(|is_held| *is_held).await.is_err() {
            // The process stops, and the lease is not renewed any more.
            std::future::pending::<()>().await;
        }
    }
}

/// Renews the lease for jobs of one service, and tells the jobs whether this instance holds it.
struct JobLeaseHolder {
    connection: LeaseConnection,
    service: &'static str,
    instance: Uuid,
    sender: watch::Sender<bool>,
}

impl JobLeaseHolder {
    async fn run(self: Arc<Self>, shutdown: Shutdown) {
        while !shutdown.is_stopping() {
            let is_held = match self.try_acquire().await {
                Ok(is_held) => is_held,
                Err(error) => {
                    tracing::warn!(%error, service = self.service, "jobs lease renewal failed");
                    false
                }
            };
            self.sender.send_if_modified(|before| std::mem::replace(before, is_held) != is_held);
            tokio::select! {
                () = tokio::time::sleep(lease::TTL / 3) => {}
                () = shutdown.stopping() => {}
            }
        }
        if let Ok(mut tx) = self.connection.tx().await {
            let _ = lease::release(&mut tx, self.service, LEASE, self.instance).await;
        }
    }

    async fn try_acquire(&self) -> Result<bool, DbError> {
        let mut tx = self.connection.tx().await?;
        Ok(lease::acquire(&mut tx, self.service, LEASE, self.instance).await?.is_some())
    }
}
