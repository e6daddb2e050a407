//! One process of Onrush: its services, their databases, and the writers in front of them.
//!
//! On SQLite one writer serves all services. On PostgreSQL each service has its own writer, and other processes may run the same services
//! on the same database.

mod check;
mod cluster_startup;
mod databases;
mod presence;
mod settings;
mod writer_health;

pub use check::{SettingError, Topology};
pub use databases::Databases;
pub use presence::{Presence, presences};
pub use settings::{
    DEFAULT_PARTITIONS, DEFAULT_QUEUE, Database, KafkaSettings, PostgresSettings, ProcessSettings, RedisServer, SplitSettings,
};
pub use writer_health::WriterHealth;

use crate::module::{Kit, Module};
use auth::{
    Auth,
    cookie::accept_cookies,
    limits::{LimitSettings, Limits},
};
use cache::redis::{Redis, RedisSettings};
use cluster_startup::{ClusterStartup, Node};
use db::{Db, Synchronous};
use engine::{
    Batch, Engine, Fault, Queue, RunningEngine, Service,
    jobs::{Job, JobLease},
    lease,
};
use kafka::{Cluster, RequestLogs, Topics};
use peers::{
    gateway::{Gateway, GatewaySettings, accept_origins},
    links::{CallHandlers, Links, Pool, Remote, RemoteSettings, Signer, internal_router},
};
use runtime::{
    breaker::BreakerSettings,
    ports::Clock,
    tasks::{self, Draining, Shutdown, ShutdownTrigger},
};
use std::sync::Arc;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use web::{
    Cursors,
    client::{Client, ClientSettings},
};

pub struct Process {
    pub kit: Kit,
    pub services: Vec<Arc<dyn Module>>,
    /// Services that run only in other processes. This process needs their routes and cookies.
    remote: Vec<Arc<dyn Module>>,
    /// All operations, without the layers that every request passes.
    pub router: axum::Router,
    pub openapi: OpenApi,
    engines: Vec<RunningEngine>,
    /// This process's name and leases. `None`: it is the only process.
    node: Option<Node>,
    trigger: ShutdownTrigger,
}

impl Process {
    /// Opens the databases, starts the writers, connects the services and lets each of them prepare.
    pub async fn start(settings: ProcessSettings, build: impl FnOnce(&Kit) -> Vec<Arc<dyn Module>>) -> Result<Process, Fault> {
        let (trigger, shutdown) = tasks::shutdown();
        let databases = Databases::open(&settings.database)?;
        let topics = Topics::default();
        let redis = settings.redis.as_ref().map(|server| connect_redis(server, &settings.clock)).transpose()?;
        let kit = Kit {
            batch: Batch::default(),
            db: databases.common.clone(),
            databases: Arc::new(databases.own.clone()),
            clock: Arc::clone(&settings.clock),
            auth: Auth::new(settings.secret, Arc::clone(&settings.clock)),
            links: Links::default(),
            cursors: Cursors::new(&settings.secret),
            limits: Arc::new(Limits::new(&settings.limits, redis.as_ref(), &settings.clock)),
            redis,
            requests: open_request_logs(&settings, &topics)?,
            draining: Draining::default(),
        };
        let all = build(&kit);
        settings.topology().check(&all.iter().map(|service| service.name()).collect::<Vec<_>>())?;
        let (services, remote) = split_services(all, settings.apart.as_ref());
        let (engines, node) = match &settings.database {
            Database::Sqlite { .. } => (vec![start_single_writer(&settings, &kit, &services).await?], None),
            Database::Postgres(postgres) => {
                let node = Node::new(&kit);
                let startup = ClusterStartup {
                    settings: &settings,
                    postgres,
                    kit: &kit,
                    services: &services,
                    node: &node,
                    topics: &topics,
                    shutdown: &shutdown,
                };
                (startup.start().await?, Some(node))
            }
        };

        let mut handlers = CallHandlers::default();
        let mut router = OpenApiRouter::new();
        for service in &services {
            Arc::clone(service).register_calls(&mut handlers);
            if let Some(node) = &node {
                handlers.advertise(service.name(), node.instance);
            }
            router = router.merge(Arc::clone(service).router());
        }
        kit.links.bind(handlers);
        let (mut router, mut openapi) = router.split_for_parts();
        let mut signer = None;
        if let Some(apart) = &settings.apart {
            let (own, gateway) = connect_remote(&settings, apart, &kit);
            router = add_remote_routes(&gateway, &remote, router, &mut openapi);
            signer = Some(own);
        }
        if let Some(cookies) = services.iter().chain(&remote).find_map(|service| Arc::clone(service).cookies()) {
            router = accept_cookies(router, cookies, &openapi);
        }
        if let Some(signer) = signer {
            router = accept_origins(router.merge(internal_router(kit.links.clone(), signer.clone())), signer);
        }
        for service in &services {
            Arc::clone(service).start().await?;
        }
        for service in &remote {
            Arc::clone(service).start_remote();
        }
        Ok(Process { kit, services, remote, router, openapi, engines, node, trigger })
    }

    pub fn jobs(&self) -> Vec<Job> {
        self.services.iter().flat_map(|service| Arc::clone(service).jobs()).collect()
    }

    /// The signs of life of this process's writers.
    pub fn writer_health(&self) -> WriterHealth {
        WriterHealth(self.engines.iter().map(|engine| engine.heartbeat().clone()).collect())
    }

    /// Starts the services' timed jobs. Of several instances of a service, one runs them.
    pub fn start_jobs(&self, shutdown: &Shutdown) {
        for service in &self.services {
            let jobs = Arc::clone(service).jobs();
            if jobs.is_empty() {
                continue;
            }
            let lease = match &self.node {
                None => JobLease::always(),
                Some(node) => {
                    JobLease::maintain(node.lease_connection(service.name()), service.name(), node.instance, shutdown.clone(), &node.tasks)
                }
            };
            for job in jobs {
                job.start(shutdown.clone(), lease.clone());
            }
        }
    }

    /// Finishes queued commands, gives the leases back, and closes the database. The caller must have told the jobs to stop before.
    pub async fn stop(self) {
        let stopping = self.engines.into_iter().map(|engine| tokio::task::spawn_blocking(move || engine.stop()));
        if futures::future::join_all(stopping).await.iter().any(Result::is_err) {
            tracing::error!("writer stopped with an error");
        }
        drop(self.remote);
        self.trigger.stop();
        // After this time the leases have expired, and other processes take over in any case.
        if let Some(node) = self.node
            && !node.tasks.wait_until_ended(lease::TTL).await
        {
            tracing::warn!("leases not released in time: they expire by themselves");
        }
    }
}

fn connect_redis(RedisServer { url, prefix }: &RedisServer, clock: &Arc<dyn Clock>) -> Result<Redis, Fault> {
    let settings = RedisSettings { prefix: prefix.clone(), ..RedisSettings::default() };
    Redis::connect(url, settings, Arc::clone(clock)).map_err(|error| Fault::Setting(format!("redis: {error}")))
}

fn open_request_logs(settings: &ProcessSettings, topics: &Topics) -> Result<Option<RequestLogs>, Fault> {
    let (Some(kafka), Database::Postgres(postgres)) = (&settings.kafka, &settings.database) else { return Ok(None) };
    let cluster = Cluster::new(&kafka.bootstrap, &kafka.prefix).map_err(|error| Fault::Setting(format!("kafka: {error}")))?;
    Ok(Some(RequestLogs::new(&cluster, postgres.partitions, topics, Arc::clone(&settings.clock))))
}

type ServiceList = Vec<Arc<dyn Module>>;

/// The services that run here, and those that run in other processes.
fn split_services(all: ServiceList, apart: Option<&SplitSettings>) -> (ServiceList, ServiceList) {
    match apart {
        None => (all, Vec::new()),
        Some(SplitSettings { only, .. }) => all.into_iter().partition(|service| only.iter().any(|name| name == service.name())),
    }
}

/// Connects to other processes: the links for calls, the gateway for requests.
fn connect_remote(settings: &ProcessSettings, apart: &SplitSettings, kit: &Kit) -> (Signer, Gateway) {
    let pool = Pool::new(&apart.peers, Client::new(ClientSettings::default()), BreakerSettings::default(), &settings.clock);
    let signer = Signer::new(&settings.secret, Arc::clone(&settings.clock));
    kit.links.connect(Remote::new(pool.clone(), signer.clone(), RemoteSettings::default()));
    let gateway = Gateway::new(pool, kit.auth.clone(), signer.clone(), kit.draining.clone(), GatewaySettings::default());
    (signer, gateway)
}

/// Adds routes that forward operations of remote services.
fn add_remote_routes(gateway: &Gateway, remote: &[Arc<dyn Module>], mut router: axum::Router, openapi: &mut OpenApi) -> axum::Router {
    for service in remote {
        let (_, document) = Arc::clone(service).router().split_for_parts();
        router = router.merge(gateway.routes(service.name(), &document));
        openapi.merge(document);
    }
    router
}

async fn start_single_writer(settings: &ProcessSettings, kit: &Kit, services: &[Arc<dyn Module>]) -> Result<RunningEngine, Fault> {
    let queue = Queue::new(settings.queue);
    kit.batch.bind(services.iter().map(|service| (service.name(), &queue)));
    let (clock, faults) = (Arc::clone(&settings.clock), settings.faults.clone());
    let services = services.iter().map(|service| Arc::clone(service) as Arc<dyn Service>).collect();
    let engine = Engine::open(&kit.db, services, clock, settings.engine.clone(), faults, None).await?;
    engine.start(queue).map_err(thread_error)
}

fn thread_error(error: std::io::Error) -> Fault {
    Fault::Bug(format!("cannot start the writer thread: {error}"))
}

/// A kit that belongs to no process: enough to ask services for their description, not to run them. Opens nothing.
pub fn detached_kit() -> Kit {
    let clock: Arc<dyn Clock> = Arc::new(runtime::ports::SystemClock);
    Kit {
        batch: Batch::default(),
        db: Db::sqlite("", Synchronous::Full),
        databases: Arc::default(),
        auth: Auth::new([0; 32], Arc::clone(&clock)),
        limits: Arc::new(Limits::new(&LimitSettings::off(), None, &clock)),
        clock,
        links: Links::default(),
        cursors: Cursors::new(&[0; 32]),
        redis: None,
        requests: None,
        draining: Draining::default(),
    }
}
