//! The deployment shapes of a mall within one test: one process on SQLite, three replicas on PostgreSQL, or four processes that run
//! different services and share Kafka. `ONRUSH_TEST_SHAPE` selects the shape, so that the same test runs in each.

use super::{app::App, builder::AppBuilder, database::TestDatabase, quiescence::Quiescence, topics::TestTopics};
use crate::{
    engine::Fault,
    http::{ServerLimits, layers, serve},
    module::{Kit, Module},
    ports::new_id,
    process::{Database, PostgresSettings, Process, ProcessSettings, SplitSettings},
    tasks::{self, ShutdownTrigger},
};
use axum::Router;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::net::TcpListener;
use tower::{ServiceExt, service_fn};

/// The layout of a mall's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One process on SQLite.
    Solo,
    /// Three processes with all services on one PostgreSQL.
    Replicas,
    /// Four processes with different services, and Kafka between them.
    Split,
}

/// The services of each process in the split shape.
const SPLIT_GROUPS: [&[&str]; 4] = [&["accounts", "stores", "catalog"], &["orders", "payments"], &["stock", "coupons"], &["wallet"]];
const REPLICAS: usize = 3;
const PARTITIONS: i64 = 2;

impl Shape {
    pub fn of_environment() -> Shape {
        match std::env::var("ONRUSH_TEST_SHAPE").as_deref() {
            Ok("solo") | Err(_) => Shape::Solo,
            Ok("replicas") => Shape::Replicas,
            Ok("split") => Shape::Split,
            Ok(other) => panic!("ONRUSH_TEST_SHAPE is “{other}”: it must be solo, replicas or split"),
        }
    }
}

/// The servers that the processes of one mall share.
pub(super) struct TestBackends {
    pub database: Option<Arc<TestDatabase>>,
    pub kafka: Option<Arc<TestTopics>>,
}

/// The processes of a mall.
pub(super) struct Processes {
    pub all: Vec<Process>,
    /// The router of each process.
    pub routers: Vec<Router>,
    pub servers: Vec<ShutdownTrigger>,
    pub quiescence: Arc<Quiescence>,
}

impl AppBuilder {
    /// Starts a mall in the shape that the environment selects.
    pub async fn start_mall(self, build: impl Fn(&Kit) -> Vec<Arc<dyn Module>>) -> App {
        let shape = Shape::of_environment();
        self.start_in(shape, build).await
    }

    pub async fn start_in(mut self, shape: Shape, build: impl Fn(&Kit) -> Vec<Arc<dyn Module>>) -> App {
        if shape == Shape::Solo {
            return self.start(build).await;
        }
        let backends = self.take_or_create_backends(shape).await;
        let database = backends.database.as_ref().expect("both shapes use a database");
        let postgres = PostgresSettings { readers: self.readers, partitions: PARTITIONS, ..PostgresSettings::at(database.url()) };
        let settings = ProcessSettings {
            database: Database::Postgres(postgres),
            kafka: backends.kafka.as_deref().map(TestTopics::settings),
            apart: None,
            ..self.process_settings()
        };
        let processes = match shape {
            Shape::Solo | Shape::Replicas => start_replicas(&settings, &build).await,
            Shape::Split => start_split(&settings, &build).await,
        };
        App::assemble(self, processes.expect("the processes start"), backends, shape).await
    }
}

pub(super) async fn create_backends(shape: Shape) -> TestBackends {
    let kafka = (shape == Shape::Split).then(|| {
        let bootstrap = std::env::var("ONRUSH_TEST_KAFKA")
            .expect("set ONRUSH_TEST_KAFKA to the address of a broker, or run ./scripts/services run -- <command>");
        Arc::new(TestTopics::new(&bootstrap, &format!("test{}", new_id().simple())))
    });
    TestBackends { database: Some(Arc::new(TestDatabase::create().await)), kafka }
}

async fn start_replicas(settings: &ProcessSettings, build: &impl Fn(&Kit) -> Vec<Arc<dyn Module>>) -> Result<Processes, Fault> {
    let mut all = Vec::new();
    for _ in 0..REPLICAS {
        all.push(Process::start(settings.clone(), build).await?);
    }
    let routers = all.iter().map(|process| layers(process.router.clone())).collect();
    let quiescence = Arc::new(Quiescence::of(&all[0].kit, &all[0].services));
    Ok(Processes { all, routers, servers: Vec::new(), quiescence })
}

async fn start_split(settings: &ProcessSettings, build: &impl Fn(&Kit) -> Vec<Arc<dyn Module>>) -> Result<Processes, Fault> {
    let mut listeners = Vec::new();
    let mut peers = Vec::new();
    for services in SPLIT_GROUPS {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        peers.extend(services.iter().map(|service| format!("{service}=http://{address}")));
        listeners.push(listener);
    }
    let peers: crate::links::Peers = peers.join(",").parse().expect("the list is well-formed");
    let (mut all, mut servers, mut routers) = (Vec::new(), Vec::new(), Vec::new());
    for (services, listener) in SPLIT_GROUPS.into_iter().zip(listeners) {
        let apart = SplitSettings { only: services.iter().map(|name| (*name).to_owned()).collect(), peers: peers.clone() };
        let process = Process::start(ProcessSettings { apart: Some(apart), ..settings.clone() }, build).await?;
        let router = layers(process.router.clone());
        let (trigger, shutdown) = tasks::shutdown();
        let served = router.clone();
        tasks::spawn("test-server", async move {
            if let Err(error) = serve(listener, served, ServerLimits::default(), shutdown).await {
                tracing::error!(%error, "a process of the test ended");
            }
        });
        routers.push(router);
        servers.push(trigger);
        all.push(process);
    }
    let services: Vec<Arc<dyn Module>> = all.iter().flat_map(|process| process.services.iter().cloned()).collect();
    let quiescence = Arc::new(Quiescence::of(&all[0].kit, &services));
    Ok(Processes { all, routers, servers, quiescence })
}

/// Sends each request to the next process, so that every client reaches all processes.
pub(super) fn round_robin(routers: Vec<Router>) -> Router {
    if let [only] = routers.as_slice() {
        return only.clone();
    }
    let (routers, next) = (Arc::new(routers), Arc::new(AtomicUsize::new(0)));
    Router::new().fallback_service(service_fn(move |request| {
        let router = routers[next.fetch_add(1, Ordering::Relaxed) % routers.len()].clone();
        router.oneshot(request)
    }))
}
