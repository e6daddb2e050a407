//! One process of Onrush: its services, their database, and the writers in front of it.
//!
//! On SQLite one writer serves all services. On PostgreSQL each service has a writer of its own, and other processes may run the same
//! services on the same database.

use crate::{
    Db,
    auth::Auth,
    batch::{Batch, Queue},
    breaker::BreakerSettings,
    db::{DbError, Synchronous},
    engine::{
        Engine, EngineSettings, Fault, Feed, RunningEngine, Wires, lanes::Lanes, prepare, relay::Relay, sequencer::Sequencer,
        steward::Steward, streams,
    },
    gateway::{Gateway, GatewaySettings, accept_origins},
    http::{
        Cursors,
        client::{Client, ClientSettings},
    },
    jobs::{Job, Turn},
    kafka::{Cluster, KafkaError},
    links::{Answers, Links, Peers, Pool, Remote, RemoteSettings, Signer, internal_router},
    ports::{Clock, new_id},
    redis::{Redis, RedisSettings},
    service::{Kit, Service},
    tasks::{self, Shutdown, ShutdownTrigger},
    testing::Faults,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

/// Commands that may wait for the writer. At 10,000 a second the last one waits about half a second; what comes on top is refused at once.
pub const DEFAULT_QUEUE: usize = 4_096;
/// Partitions of a new stream on PostgreSQL: so many instances of a service can read at once.
pub const DEFAULT_PARTITIONS: i64 = 4;

/// Where the data is.
#[derive(Clone)]
pub enum Database {
    /// One file for all services, for one process.
    Sqlite { path: PathBuf, synchronous: Synchronous },
    /// A schema per service, for any number of processes.
    Postgres(PostgresSettings),
}

#[derive(Clone)]
pub struct PostgresSettings {
    pub url: String,
    /// Services with a database of their own: name and URL.
    pub own: HashMap<String, String>,
    /// Read connections of this process, for each database.
    pub readers: usize,
    /// Partitions of streams that do not exist yet.
    pub partitions: i64,
}

/// URLs hold passwords.
impl std::fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresSettings").field("readers", &self.readers).field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

impl PostgresSettings {
    pub fn at(url: impl Into<String>) -> PostgresSettings {
        PostgresSettings { url: url.into(), own: HashMap::new(), readers: 8, partitions: DEFAULT_PARTITIONS }
    }
}

/// Streams over Kafka, for services whose databases other processes cannot read.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// A list of `host:port`.
    pub bootstrap: String,
    /// What stands before the dot in the name of every topic.
    pub prefix: String,
}

/// Services apart: which run here, and where the others are.
#[derive(Clone, Debug)]
pub struct Apart {
    pub only: Vec<String>,
    pub peers: Peers,
}

#[derive(Clone)]
pub struct ProcessSettings {
    pub database: Database,
    /// Absent: readers look into the outbox tables.
    pub kafka: Option<KafkaSettings>,
    /// Absent: every service runs here.
    pub apart: Option<Apart>,
    /// URL of Redis. Absent: limits count, and caches keep, for this process alone.
    pub redis: Option<String>,
    pub engine: EngineSettings,
    /// Capacity of each command queue.
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
    pub openapi: OpenApi,
    engines: Vec<RunningEngine>,
    /// What looks after this process's leases; absent where it is alone.
    member: Option<Member>,
    trigger: ShutdownTrigger,
    shutdown: Shutdown,
}

impl Process {
    /// Opens the database, starts the writers, connects the services and lets each of them prepare.
    pub async fn start(settings: ProcessSettings, build: impl FnOnce(&Kit) -> Vec<Arc<dyn Service>>) -> Result<Process, Fault> {
        let (trigger, shutdown) = tasks::shutdown();
        let databases = Databases::open(&settings.database)?;
        let kit = Kit {
            batch: Batch::default(),
            db: databases.common.clone(),
            databases: Arc::new(databases.own.clone()),
            clock: Arc::clone(&settings.clock),
            auth: Auth::new(settings.secret, Arc::clone(&settings.clock)),
            links: Links::default(),
            cursors: Cursors::new(&settings.secret),
            redis: settings.redis.as_deref().map(|url| redis(url, &settings.clock)).transpose()?,
        };
        let (services, elsewhere) = split(build(&kit), settings.apart.as_ref())?;
        let (engines, member) = match &settings.database {
            Database::Sqlite { .. } => {
                refuse_on_a_file(&settings)?;
                (vec![start_alone(&settings, &kit, &services).await?], None)
            }
            Database::Postgres(postgres) => {
                let steward = |(name, db): (&&'static str, &Db)| (*name, Steward::new(db.clone()));
                let stewards = Stewards { common: Steward::new(kit.db.clone()), own: kit.databases.iter().map(steward).collect() };
                let member = Member { instance: new_id(), stewards };
                let shared = Shared { settings: &settings, postgres, kit: &kit, services: &services, member: &member, shutdown: &shutdown };
                (shared.start().await?, Some(member))
            }
        };

        let mut answers = Answers::default();
        let mut router = OpenApiRouter::new();
        for service in &services {
            Arc::clone(service).answers(&mut answers);
            router = router.merge(Arc::clone(service).router());
        }
        kit.links.bind(answers);
        let (mut router, mut openapi) = router.split_for_parts();
        if let Some(apart) = &settings.apart {
            router = connect(&settings, apart, &kit, &elsewhere, router, &mut openapi);
        }
        for service in &services {
            Arc::clone(service).start().await?;
        }
        Ok(Process { kit, services, router, openapi, engines, member, trigger, shutdown })
    }

    pub fn jobs(&self) -> Vec<Job> {
        self.services.iter().flat_map(|service| Arc::clone(service).jobs()).collect()
    }

    /// Starts what services do by the clock; of several instances of a service, one does it.
    pub fn start_jobs(&self, shutdown: &Shutdown) {
        for service in &self.services {
            let jobs = Arc::clone(service).jobs();
            if jobs.is_empty() {
                continue;
            }
            let turn = match &self.member {
                None => Turn::always(),
                Some(member) => Turn::by_lease(member.stewards.of(service.name()), service.name(), member.instance, shutdown.clone()),
            };
            for job in jobs {
                job.start(shutdown.clone(), turn.clone());
            }
        }
    }

    /// Settles what is queued and closes the database.
    pub async fn stop(self) {
        let stopping = self.engines.into_iter().map(|engine| tokio::task::spawn_blocking(move || engine.stop()));
        if futures::future::join_all(stopping).await.iter().any(Result::is_err) {
            tracing::error!("a writer did not stop cleanly");
        }
        self.trigger.stop();
        drop(self.shutdown);
    }
}

fn redis(url: &str, clock: &Arc<dyn Clock>) -> Result<Redis, Fault> {
    Redis::connect(url, RedisSettings::default(), Arc::clone(clock)).map_err(|error| Fault::Setting(format!("redis: {error}")))
}

type Services = Vec<Arc<dyn Service>>;

/// What runs here, and what runs elsewhere.
fn split(all: Services, apart: Option<&Apart>) -> Result<(Services, Services), Fault> {
    let Some(Apart { only, peers }) = apart else { return Ok((all, Vec::new())) };
    let names: Vec<&str> = all.iter().map(|service| service.name()).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(Fault::Setting(format!("only: there is no service “{unknown}”; there are {}", names.join(", "))));
    }
    peers.check(&names).map_err(|error| Fault::Setting(format!("peers: {error}")))?;
    let (here, elsewhere): (Services, Services) = all.into_iter().partition(|service| only.iter().any(|name| name == service.name()));
    let homeless: Vec<&str> = elsewhere.iter().map(|service| service.name()).filter(|name| peers.addresses(name).is_empty()).collect();
    if !homeless.is_empty() {
        let reason = format!("no address for {}; say where they run, such as {}=http://host:8080", homeless.join(", "), homeless[0]);
        return Err(Fault::Setting(format!("peers: {reason}")));
    }
    Ok((here, elsewhere))
}

/// One file has one process.
fn refuse_on_a_file(settings: &ProcessSettings) -> Result<(), Fault> {
    if settings.apart.is_some() {
        return Err(Fault::Setting("only: services apart need PostgreSQL; set database_url".into()));
    }
    if settings.kafka.is_some() {
        return Err(Fault::Setting("kafka: streams over Kafka need PostgreSQL; set database_url".into()));
    }
    Ok(())
}

/// Makes the operations and answers of services elsewhere available here, and those of here elsewhere.
fn connect(
    settings: &ProcessSettings,
    apart: &Apart,
    kit: &Kit,
    elsewhere: &[Arc<dyn Service>],
    mut router: axum::Router,
    openapi: &mut OpenApi,
) -> axum::Router {
    let pool = Pool::new(&apart.peers, Client::new(ClientSettings::default()), BreakerSettings::default(), &settings.clock);
    let signer = Signer::new(&settings.secret, Arc::clone(&settings.clock));
    kit.links.connect(Remote::new(pool.clone(), signer.clone(), RemoteSettings::default()));
    let gateway = Gateway::new(pool, kit.auth.clone(), signer.clone(), GatewaySettings::default());
    for service in elsewhere {
        let (_, document) = Arc::clone(service).router().split_for_parts();
        router = router.merge(gateway.routes(service.name(), &document));
        openapi.merge(document);
    }
    accept_origins(router.merge(internal_router(kit.links.clone(), signer.clone())), signer)
}

/// A process among others on the same databases.
struct Member {
    /// Names it in leases.
    instance: Uuid,
    stewards: Stewards,
}

/// One steward for each database.
struct Stewards {
    common: Steward,
    own: HashMap<&'static str, Steward>,
}

impl Stewards {
    fn of(&self, service: &str) -> Steward {
        self.own.get(service).unwrap_or(&self.common).clone()
    }
}

/// The databases of a process: one for all, and those that single services have of their own.
struct Databases {
    common: Db,
    own: HashMap<&'static str, Db>,
}

impl Databases {
    fn open(database: &Database) -> Result<Databases, DbError> {
        match database {
            Database::Sqlite { path, synchronous } => Ok(Databases { common: Db::sqlite(path.clone(), *synchronous), own: HashMap::new() }),
            Database::Postgres(PostgresSettings { url, own, readers, .. }) => {
                let names = || contracts::SERVICES.iter().copied();
                let common: Vec<&str> = names().filter(|name| !own.contains_key(*name)).collect();
                let mut databases = HashMap::new();
                for name in names() {
                    if let Some(url) = own.get(name) {
                        databases.insert(name, Db::postgres_with(url, &[name], *readers)?);
                    }
                }
                Ok(Databases { common: Db::postgres_with(url, &common, *readers)?, own: databases })
            }
        }
    }
}

async fn start_alone(settings: &ProcessSettings, kit: &Kit, services: &[Arc<dyn Service>]) -> Result<RunningEngine, Fault> {
    let queue = Queue::new(settings.queue);
    kit.batch.bind(services.iter().map(|service| (service.name(), &queue)));
    let (clock, faults) = (Arc::clone(&settings.clock), settings.faults.clone());
    let engine = Engine::open(&kit.db, services.to_vec(), clock, settings.engine.clone(), faults, None).await?;
    engine.start(queue).map_err(no_thread)
}

fn no_thread(error: std::io::Error) -> Fault {
    Fault::Bug(format!("cannot start the writer thread: {error}"))
}

/// Starting one of several processes on shared databases.
struct Shared<'s> {
    settings: &'s ProcessSettings,
    postgres: &'s PostgresSettings,
    kit: &'s Kit,
    services: &'s [Arc<dyn Service>],
    member: &'s Member,
    shutdown: &'s Shutdown,
}

impl Shared<'_> {
    async fn start(&self) -> Result<Vec<RunningEngine>, Fault> {
        self.prepare().await?;
        let wires = Wires::new(contracts::SERVICES.iter().copied());
        let feed = self.feed().await?;
        let readings: HashSet<(&str, &str)> = self
            .services
            .iter()
            .flat_map(|service| streams::sources(service.as_ref()).into_iter().map(|(source, _)| (service.name(), source)))
            .collect();
        let readings = Arc::new(readings);
        let queues: Vec<Queue> = self.services.iter().map(|_| Queue::new(self.settings.queue)).collect();
        self.kit.batch.bind(self.services.iter().map(|service| service.name()).zip(&queues));
        let mut engines = Vec::with_capacity(queues.len());
        for (service, queue) in self.services.iter().zip(queues) {
            let (instance, readings) = (self.member.instance, Arc::clone(&readings));
            let lanes = Lanes::new(instance, wires.clone(), feed.clone(), readings, service.as_ref(), &self.kit.batch)?;
            let (clock, faults) = (Arc::clone(&self.settings.clock), self.settings.faults.clone());
            let db = self.kit.db_of(service.name());
            let engine = Engine::open(db, vec![Arc::clone(service)], clock, self.settings.engine.clone(), faults, Some(lanes)).await?;
            engines.push(engine.start(queue).map_err(no_thread)?);
        }
        self.connect(&wires);
        if let Feed::Kafka { cluster, .. } = &feed {
            self.relay(&wires, cluster)?;
        }
        Ok(engines)
    }

    /// The cable: Kafka where it is set, else the tables, which must then all be in reach.
    async fn feed(&self) -> Result<Feed, Fault> {
        let Some(kafka) = &self.settings.kafka else {
            if self.settings.apart.is_some() {
                return Err(Fault::Setting("kafka: services apart speak over Kafka; set kafka to its addresses".into()));
            }
            let here = self.services.iter().map(|service| service.name());
            return Ok(Feed::Tables(here.map(|name| (name, self.kit.db_of(name).clone())).collect()));
        };
        let unusable = |error: KafkaError| Fault::Setting(format!("kafka: {error}"));
        let cluster = Cluster::new(&kafka.bootstrap, &kafka.prefix).map_err(unusable)?;
        let partitions = self.postgres.partitions;
        let read = self.services.iter().flat_map(|service| streams::sources(service.as_ref())).map(|(source, _)| source);
        let topics: BTreeSet<&str> = self.services.iter().map(|service| service.name()).chain(read).collect();
        for topic in topics {
            cluster.ensure_topic(topic, i32::try_from(partitions).unwrap_or(i32::MAX)).await.map_err(unusable)?;
        }
        Ok(Feed::Kafka { cluster, partitions })
    }

    fn relay(&self, wires: &Wires, cluster: &Cluster) -> Result<(), Fault> {
        let producer = Arc::new(cluster.producer().map_err(|error| Fault::Setting(format!("kafka: {error}")))?);
        for service in self.services {
            let name = service.name();
            let relay = Relay {
                service: name,
                db: self.kit.db_of(name).clone(),
                steward: self.member.stewards.of(name),
                wires: wires.clone(),
                producer: Arc::clone(&producer),
                instance: self.member.instance,
            };
            relay.start(self.shutdown.clone());
        }
        Ok(())
    }

    /// Tables and streams of all services here; several processes may do this at once.
    async fn prepare(&self) -> Result<(), Fault> {
        for service in self.services {
            let db = self.kit.db_of(service.name());
            db.check().await?;
            let mut tx = db.open_writer().await?;
            let stream = prepare(&mut tx, service.as_ref(), self.postgres.partitions, self.settings.clock.now()).await?;
            if self.settings.kafka.is_some() && stream.partitions != self.postgres.partitions {
                let (name, there, wanted) = (service.name(), stream.partitions, self.postgres.partitions);
                let reason =
                    format!("the stream of {name} has {there} partitions, not {wanted}: all streams on Kafka need the same number");
                return Err(Fault::Setting(format!("partitions: {reason}")));
            }
        }
        Ok(())
    }

    fn connect(&self, wires: &Wires) {
        for service in self.services {
            let (name, service) = (service.name(), Arc::clone(service));
            wires.on_notice(name, Arc::new(move |text| service.noticed(text)));
            let sequencer = Sequencer {
                service: name,
                db: self.kit.db_of(name).clone(),
                steward: self.member.stewards.of(name),
                wires: wires.clone(),
                instance: self.member.instance,
            };
            sequencer.start(self.shutdown.clone());
        }
        let (own, common): (Vec<&str>, Vec<&str>) =
            self.services.iter().map(|service| service.name()).partition(|name| self.kit.databases.contains_key(name));
        wires.connect(&self.kit.db, &common, self.shutdown);
        for name in own {
            wires.connect(self.kit.db_of(name), &[name], self.shutdown);
        }
    }
}

/// A kit that belongs to no process: enough to ask services what they are, not to run them. Nothing is opened.
pub fn detached_kit() -> Kit {
    let clock: Arc<dyn Clock> = Arc::new(crate::ports::SystemClock);
    Kit {
        batch: Batch::default(),
        db: Db::sqlite("", Synchronous::Full),
        databases: Arc::default(),
        auth: Auth::new([0; 32], Arc::clone(&clock)),
        clock,
        links: Links::default(),
        cursors: Cursors::new(&[0; 32]),
        redis: None,
    }
}
