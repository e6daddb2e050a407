//! One process of Onrush: its services around one database, one queue and one writer.

use crate::{
    Db,
    auth::Auth,
    batch::Batch,
    db::Synchronous,
    engine::{Engine, EngineSettings, Fault, RunningEngine},
    http::Cursors,
    jobs::Job,
    links::{Answers, Links},
    ports::Clock,
    service::{Kit, Service},
    tasks::Shutdown,
    testing::Faults,
};
use std::{path::PathBuf, sync::Arc};
use utoipa_axum::router::OpenApiRouter;

/// Commands that may wait for the writer. At 10,000 a second the last one waits about half a second; what comes on top is refused at once.
pub const DEFAULT_QUEUE: usize = 4_096;

#[derive(Clone)]
pub struct ProcessSettings {
    pub database: PathBuf,
    pub synchronous: Synchronous,
    pub engine: EngineSettings,
    /// Capacity of the command queue.
    pub queue: usize,
    /// Signs access tokens and page cursors.
    pub secret: [u8; 32],
    pub clock: Arc<dyn Clock>,
    pub faults: Faults,
}

pub struct Process {
    pub kit: Kit,
    pub services: Vec<Arc<dyn Service>>,
    /// All operations, without the layers every request passes.
    pub router: axum::Router,
    pub openapi: utoipa::openapi::OpenApi,
    engine: RunningEngine,
}

impl Process {
    /// Opens the database, starts the writer, connects the services and lets each of them prepare.
    pub async fn start(settings: ProcessSettings, build: impl FnOnce(&Kit) -> Vec<Arc<dyn Service>>) -> Result<Process, Fault> {
        let db = Db::new(settings.database, settings.synchronous);
        let (batch, queue) = Batch::channel(settings.queue);
        let kit = Kit {
            batch: batch.clone(),
            db: db.clone(),
            clock: Arc::clone(&settings.clock),
            auth: Auth::new(settings.secret, Arc::clone(&settings.clock)),
            links: Links::default(),
            cursors: Cursors::new(&settings.secret),
        };
        let services = build(&kit);
        let engine = Engine::open(&db, services.clone(), settings.clock, settings.engine, settings.faults)?;
        let engine = engine.start(batch, queue).map_err(|error| Fault::Bug(format!("cannot start the writer thread: {error}")))?;

        let mut answers = Answers::default();
        let mut router = OpenApiRouter::new();
        for service in &services {
            Arc::clone(service).answers(&mut answers);
            router = router.merge(Arc::clone(service).router());
        }
        kit.links.bind(answers);
        for service in &services {
            Arc::clone(service).start().await?;
        }
        let (router, openapi) = router.split_for_parts();
        Ok(Process { kit, services, router, openapi, engine })
    }

    pub fn jobs(&self) -> Vec<Job> {
        self.services.iter().flat_map(|service| Arc::clone(service).jobs()).collect()
    }

    pub fn start_jobs(&self, shutdown: &Shutdown) {
        for job in self.jobs() {
            job.start(shutdown.clone());
        }
    }

    /// Settles what is queued and closes the database.
    pub async fn stop(self) {
        let engine = self.engine;
        let stopped = tokio::task::spawn_blocking(move || engine.stop()).await;
        if stopped.is_err() {
            tracing::error!("the writer did not stop cleanly");
        }
    }
}

/// A kit that belongs to no process: enough to ask services what they are, not to run them. Nothing is opened.
pub fn detached_kit() -> Kit {
    let (batch, _) = Batch::channel(1);
    let clock: Arc<dyn Clock> = Arc::new(crate::ports::SystemClock);
    Kit {
        batch,
        db: Db::new("", Synchronous::Full),
        auth: Auth::new([0; 32], Arc::clone(&clock)),
        clock,
        links: Links::default(),
        cursors: Cursors::new(&[0; 32]),
    }
}
