//! Starts the mall of a test: one process on SQLite, three replicas on PostgreSQL, or one process for each group
//! of services, over Kafka. `ONRUSH_TEST_SHAPE` selects the shape, so that the same test runs in each.

use super::{
    app::App,
    backends::{Processes, Shape, TestBackends},
    builder::AppBuilder,
    quiescence::Quiescence,
    topics::TestTopics,
};
use contracts::split_groups;
use kit::{
    engine::Fault,
    http::{ServerSettings, layers, serve},
    module::{Kit, Module},
    process::{Database, PostgresSettings, Process, ProcessSettings, SplitSettings},
    tasks,
};
use std::sync::Arc;
use tokio::net::TcpListener;

const REPLICAS: usize = 3;
const PARTITIONS: i64 = 2;

impl App {
    pub async fn start(build: impl FnOnce(&Kit) -> Vec<Arc<dyn Module>>) -> App {
        Self::builder().start(build).await
    }

    /// The values of [`AppBuilder::fold`] that differ on the database that the environment selects. On PostgreSQL every hop has its own
    /// transaction, regardless of the setting.
    pub fn fold_settings() -> &'static [bool] {
        if is_postgres_wanted() { &[false] } else { &[true, false] }
    }

    /// Stops everything and starts it again on the same database and clock, with default settings, in one process.
    pub async fn restart(self, build: impl FnOnce(&Kit) -> Vec<Arc<dyn Module>>) -> App {
        let (builder, _) = self.stop_processes().await;
        builder.start(build).await
    }

    /// Stops everything and starts it again in the same shape.
    pub async fn restart_mall(self, build: impl Fn(&Kit) -> Vec<Arc<dyn Module>>) -> App {
        let (builder, shape) = self.stop_processes().await;
        builder.start_in(shape, build).await
    }

    /// One more process on the same PostgreSQL database, with the same clock and the same planned faults.
    pub async fn start_another_process(&self, build: impl FnOnce(&Kit) -> Vec<Arc<dyn Module>>) -> App {
        let backends = self.backends.clone();
        assert!(backends.database.is_some(), "only PostgreSQL takes several processes");
        let (clock, faults, partitions) = (self.clock.clone(), self.faults.clone(), self.partitions);
        let builder = AppBuilder { clock, backends: Some(backends), faults, partitions, ..Self::builder() };
        builder.start(build).await
    }
}

impl AppBuilder {
    /// Starts one process.
    pub async fn start(mut self, build: impl FnOnce(&Kit) -> Vec<Arc<dyn Module>>) -> App {
        let backends = match self.backends.take() {
            Some(backends) => backends,
            None if is_postgres_wanted() => TestBackends::postgres(),
            None => TestBackends::sqlite(),
        };
        let mut settings = self.process_settings();
        if let Some(database) = &backends.database {
            let postgres = PostgresSettings { readers: self.readers, partitions: self.partitions, ..PostgresSettings::at(database.url()) };
            settings.database = Database::Postgres(postgres);
            settings.kafka = backends.kafka.as_deref().map(TestTopics::settings);
        }
        let process = Process::start(settings, |kit| backends.with_tables(build(kit))).await.expect("the services start");
        let routers = vec![layers(process.router.clone())];
        let quiescence = Arc::new(Quiescence::of(&process.kit, &process.services));
        App::assemble(self, Processes { all: vec![process], routers, servers: Vec::new(), quiescence }, backends, Shape::Solo).await
    }

    /// Starts a mall in the shape that the environment selects.
    pub async fn start_mall(self, build: impl Fn(&Kit) -> Vec<Arc<dyn Module>>) -> App {
        let shape = Shape::of_environment();
        self.start_in(shape, build).await
    }

    pub async fn start_in(mut self, shape: Shape, build: impl Fn(&Kit) -> Vec<Arc<dyn Module>>) -> App {
        if shape == Shape::Solo {
            return self.start(build).await;
        }
        let backends = self.take_or_reserve_backends(shape);
        let build = |kit: &Kit| backends.with_tables(build(kit));
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

/// True if `ONRUSH_TEST_DATABASE=postgres` selects PostgreSQL for the tests of a service, so that all of them can run there.
fn is_postgres_wanted() -> bool {
    match std::env::var("ONRUSH_TEST_DATABASE").as_deref() {
        Ok("postgres") => true,
        Ok("sqlite") | Err(_) => false,
        Ok(other) => panic!("ONRUSH_TEST_DATABASE is “{other}”: it must be sqlite or postgres"),
    }
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
    let groups = split_groups();
    for group in &groups {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        peers.extend(group.services.iter().map(|service| format!("{service}=http://{address}")));
        listeners.push(listener);
    }
    let peers: kit::links::Peers = peers.join(",").parse().expect("the list is well-formed");
    let (mut all, mut servers, mut routers) = (Vec::new(), Vec::new(), Vec::new());
    for (group, listener) in groups.iter().zip(listeners) {
        let apart = SplitSettings { only: group.services.iter().map(|name| (*name).to_owned()).collect(), peers: peers.clone() };
        let process = Process::start(ProcessSettings { apart: Some(apart), ..settings.clone() }, build).await?;
        let router = layers(process.router.clone());
        let (trigger, shutdown) = tasks::shutdown();
        let served = router.clone();
        tasks::spawn("test-server", async move {
            if let Err(error) = serve(listener, served, ServerSettings::default(), shutdown).await {
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
