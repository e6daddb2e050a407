//! The servers behind a test's mall, and the processes in front of them.

use super::{database::TestDatabase, quiescence::Quiescence, topics::TestTopics};
use axum::Router;
use kit::{module::Module, ports::new_id, process::Process, tasks::ShutdownTrigger};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
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
#[derive(Clone)]
pub(super) struct TestBackends {
    pub database: Option<Arc<TestDatabase>>,
    pub kafka: Option<Arc<TestTopics>>,
}

impl TestBackends {
    pub fn sqlite() -> TestBackends {
        TestBackends { database: None, kafka: None }
    }

    /// One PostgreSQL database, which the first process creates.
    pub fn postgres() -> TestBackends {
        TestBackends { database: Some(Arc::new(TestDatabase::reserve())), kafka: None }
    }

    /// The services of a process, after making their tables.
    pub fn with_tables(&self, services: Vec<Arc<dyn Module>>) -> Vec<Arc<dyn Module>> {
        if let Some(database) = &self.database {
            database.create_tables(&services);
        }
        services
    }
}

pub(super) fn reserve_backends(shape: Shape) -> TestBackends {
    let kafka = (shape == Shape::Split).then(|| {
        let bootstrap = std::env::var("ONRUSH_TEST_KAFKA")
            .expect("set ONRUSH_TEST_KAFKA to the address of a broker, or run ./scripts/services run -- <command>");
        Arc::new(TestTopics::new(&bootstrap, &format!("test{}", new_id().simple())))
    });
    TestBackends { kafka, ..TestBackends::postgres() }
}

/// The processes of a mall.
pub(super) struct Processes {
    pub all: Vec<Process>,
    /// The router of each process.
    pub routers: Vec<Router>,
    pub servers: Vec<ShutdownTrigger>,
    pub quiescence: Arc<Quiescence>,
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
