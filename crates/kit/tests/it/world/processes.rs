//! Several processes of the stub services on one PostgreSQL database, over its tables or over Kafka.

use super::{
    Ask, Failure, World,
    checks::{check_streams, eventually, number, rows},
    new_order,
    orders_stub::OrdersStub,
    stock_stub::{PlannedFailures, StockStub},
};
use crate::broker;
use contracts::OrderId;
use kit::{
    Db, Reply, Tx,
    db::FromRow,
    engine::{EngineSettings, Stream},
    kafka::Cluster,
    limits::LimitSettings,
    ports::{ManualClock, new_id},
    process::{DEFAULT_QUEUE, Database, KafkaSettings, PostgresSettings, Process, ProcessSettings},
};
use std::{
    sync::{Arc, mpsc},
    time::Duration,
};
use testkit::{Faults, START, TestDatabase, TestTopics};
use uuid::Uuid;

/// Transport of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tables,
    Kafka,
}

pub const TRANSPORTS: [Transport; 2] = [Transport::Tables, Transport::Kafka];

pub struct Mall {
    pub db: Db,
    pub faults: Faults,
    pub clock: ManualClock,
    settings: ProcessSettings,
    failures: PlannedFailures,
    partitions: i64,
    topics: Option<TestTopics>,
    database: TestDatabase,
}

/// One process, which runs all services.
pub struct Instance {
    process: Process,
    pub orders: Arc<OrdersStub>,
    pub stock: Arc<StockStub>,
}

impl Mall {
    pub async fn new(transport: Transport, partitions: i64) -> Mall {
        Self::on(TestDatabase::create().await, transport, partitions, PlannedFailures::default())
    }

    fn on(database: TestDatabase, transport: Transport, partitions: i64, failures: PlannedFailures) -> Mall {
        let (faults, clock) = (Faults::planned(), ManualClock::at(START));
        let topics = (transport == Transport::Kafka).then(|| TestTopics::new(&broker::bootstrap(), &format!("test-{}", new_id().simple())));
        let kafka = |topics: &TestTopics| KafkaSettings { bootstrap: topics.bootstrap().into(), prefix: topics.prefix().into() };
        let settings = ProcessSettings {
            database: Database::Postgres(PostgresSettings { readers: 4, partitions, ..PostgresSettings::at(database.url()) }),
            kafka: topics.as_ref().map(kafka),
            apart: None,
            redis: None,
            engine: EngineSettings { dead_letter_after: Duration::ZERO, ..EngineSettings::default() },
            queue: DEFAULT_QUEUE,
            limits: LimitSettings::off(),
            secret: [7; 32],
            clock: Arc::new(clock.clone()),
            faults: faults.clone(),
        };
        let db = Db::postgres(&database.url(), contracts::SERVICES).unwrap();
        Mall { db, faults, clock, settings, failures, partitions, topics, database }
    }

    /// A copy of the database, with its own topics. No process may run.
    pub async fn copy(self) -> (Mall, Mall) {
        let Mall { db, partitions, topics, database, failures, faults, clock, settings } = self;
        drop(db);
        let transport = if topics.is_some() { Transport::Kafka } else { Transport::Tables };
        // Idle connections would block the copy. The loop uses a connection to another database, so that this database has none.
        let beside = TestDatabase::create().await;
        let server = beside.open_client().await;
        let cut_off = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname=$1";
        while server.query_one(cut_off, &[&database.name()]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let copy = database.copy().await;
        let db = Db::postgres(&database.url(), contracts::SERVICES).unwrap();
        let copy = Self::on(copy, transport, partitions, failures.clone());
        (Mall { db, partitions, topics, database, failures, faults, clock, settings }, copy)
    }

    pub async fn join(&self) -> Instance {
        let mut made = None;
        let process = Process::start(self.settings.clone(), |kit| World::build(kit, &self.failures, &mut made)).await.unwrap();
        let (orders, stock) = made.unwrap();
        Instance { process, orders, stock }
    }

    pub async fn rows<T: FromRow>(&self, sql: &str) -> Vec<T> {
        rows(&self.db, sql).await
    }

    pub async fn number(&self, sql: &str) -> i64 {
        number(&self.db, sql).await
    }

    pub async fn eventually(&self, sql: &str, wanted: i64) {
        eventually(&self.db, sql, wanted).await;
    }

    /// A transaction of an operator that stays open, with its locks.
    pub async fn open_transaction(&self, sql: &str) -> Tx {
        super::open_transaction(self.second_writer().await, sql).await
    }

    /// A statement of an operator or of another process.
    pub async fn execute(&self, sql: &str) -> u64 {
        self.second_writer().await.execute(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub async fn second_writer(&self) -> Tx {
        self.db.open_writer().await.unwrap()
    }

    pub fn fail_for(&self, order: OrderId, how: Failure) {
        self.failures.set(order, Some(how));
    }

    pub fn stop_failing(&self, order: OrderId) {
        self.failures.set(order, None);
    }

    /// The first handler of a message of this order blocks inside its transaction, until the returned sender is dropped.
    pub fn stall(&self, order: OrderId) -> mpsc::Sender<()> {
        let (open, wait) = mpsc::channel();
        self.failures.stall(order, wait);
        open
    }

    /// The partition of messages about this order.
    pub fn partition_of(&self, order: OrderId) -> i64 {
        Stream { epoch: 1, partitions: self.partitions }.partition_of(order.into())
    }

    /// Asserts that every message is read by every reader the right number of times.
    pub async fn check(&self) {
        check_streams(&self.db, true).await;
    }

    pub async fn held(&self) -> i64 {
        self.number("select count(*) from orders_asks where state='HELD'").await
    }

    pub fn cluster(&self) -> Cluster {
        let topics = self.topics.as_ref().expect("the transport is Kafka");
        Cluster::new(topics.bootstrap(), topics.prefix()).unwrap()
    }

    /// Waits until all written messages can be read.
    pub async fn published_or_numbered(&self, service: &str) {
        match self.topics {
            Some(_) => self.published(service).await,
            None => self.eventually(&format!("select count(*) from {service}_pending"), 0).await,
        }
    }

    /// Waits until all numbered messages are on Kafka.
    pub async fn published(&self, service: &str) {
        let behind = format!(
            "select cast((select count(*) from {service}_pending)
             + (select coalesce(sum(h.seq - coalesce(r.seq, 0)), 0) from {service}_heads h
                left join {service}_relay r on r.epoch=h.epoch and r.partition=h.partition) as BIGINT)"
        );
        self.eventually(&behind, 0).await;
    }
}

impl Instance {
    pub async fn stop(self) {
        self.process.stop().await;
    }

    /// Asks for one unit of a new order, without waiting for the result.
    pub async fn ask(&self) -> OrderId {
        let order = new_order();
        self.ask_for(order).await;
        order
    }

    pub async fn ask_for(&self, order: OrderId) {
        let reply = self.process.kit.batch.submit(&self.orders, Ask::one(order), None, Uuid::nil()).await;
        assert_eq!(reply, Ok(Reply::Pending(order.into())));
    }

    pub async fn ask_all(&self, count: usize) -> Vec<OrderId> {
        let orders: Vec<OrderId> = (0..count).map(|_| new_order()).collect();
        futures::future::join_all(orders.iter().map(|order| self.ask_for(*order))).await;
        orders
    }
}
