//! Starts one of several processes on shared databases: a writer for each service, the sequencers, the relays and the notifications.

use super::{PostgresSettings, ProcessSettings, thread_error};
use crate::module::{Kit, Module};
use db::Db;
use engine::{
    Engine, Fault, MessageSource, Notifications, Queue, RunningEngine, Service, assignment::PartitionAssignment,
    lease_connection::LeaseConnection, prepare, relay::Relay, sequencer::Sequencer, subscriptions,
};
use kafka::{Cluster, KafkaError, Topics};
use runtime::{
    ports::new_id,
    tasks::{Shutdown, TaskTracker},
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};
use uuid::Uuid;

/// This process among the others on the same databases.
pub(super) struct Node {
    /// The name of this process in leases.
    pub(super) instance: Uuid,
    /// One lease connection for each database.
    common: LeaseConnection,
    own: HashMap<&'static str, LeaseConnection>,
    /// The tasks that give leases back when the process stops.
    pub(super) tasks: TaskTracker,
}

impl Node {
    pub(super) fn new(kit: &Kit) -> Node {
        let own = kit.databases.iter().map(|(name, db)| (*name, LeaseConnection::new(db.clone()))).collect();
        Node { instance: new_id(), common: LeaseConnection::new(kit.db.clone()), own, tasks: TaskTracker::default() }
    }

    /// The connection that holds this service's leases.
    pub(super) fn lease_connection(&self, service: &str) -> LeaseConnection {
        self.own.get(service).unwrap_or(&self.common).clone()
    }
}

/// Everything that starting one of several processes needs.
pub(super) struct ClusterStartup<'s> {
    pub(super) settings: &'s ProcessSettings,
    pub(super) postgres: &'s PostgresSettings,
    pub(super) kit: &'s Kit,
    pub(super) services: &'s [Arc<dyn Module>],
    pub(super) node: &'s Node,
    /// This process sends and reads nothing over Kafka before these are ready.
    pub(super) topics: &'s Topics,
    pub(super) shutdown: &'s Shutdown,
}

impl ClusterStartup<'_> {
    pub(super) async fn start(&self) -> Result<Vec<RunningEngine>, Fault> {
        self.prepare_databases().await?;
        let notifications = Notifications::new(contracts::SERVICES.iter().copied());
        let message_source = self.message_source().await?;
        let subscriptions: HashSet<(&str, &str)> = self
            .services
            .iter()
            .flat_map(|service| subscriptions::sources(service.as_ref()).into_iter().map(|(source, _)| (service.name(), source)))
            .collect();
        let subscriptions = Arc::new(subscriptions);
        let queues: Vec<Queue> = self.services.iter().map(|_| Queue::new(self.settings.queue)).collect();
        self.kit.batch.bind(self.services.iter().map(|service| service.name()).zip(&queues));
        let mut engines = Vec::with_capacity(queues.len());
        for (service, queue) in self.services.iter().zip(queues) {
            let (instance, subscriptions) = (self.node.instance, Arc::clone(&subscriptions));
            let assignment = PartitionAssignment::new(
                instance,
                notifications.clone(),
                message_source.clone(),
                subscriptions,
                service.as_ref(),
                &self.kit.batch,
            )?;
            let (clock, faults) = (Arc::clone(&self.settings.clock), self.settings.faults.clone());
            let db = self.kit.db_of(service.name());
            let service: Arc<dyn Service> = Arc::clone(service) as _;
            let engine = Engine::open(db, vec![service], clock, self.settings.engine.clone(), faults, Some(assignment)).await?;
            engines.push(engine.start(queue).map_err(thread_error)?);
        }
        self.connect_notifications(&notifications);
        if let MessageSource::Kafka { cluster, topics, .. } = &message_source {
            self.start_relays(&notifications, cluster, topics)?;
        }
        Ok(engines)
    }

    /// The source of messages: Kafka if it is set. Otherwise the outbox tables, all of which this process must then reach.
    async fn message_source(&self) -> Result<MessageSource, Fault> {
        let Some(kafka) = &self.settings.kafka else {
            let here = self.services.iter().map(|service| service.name());
            return Ok(MessageSource::Tables(here.map(|name| (name, self.kit.db_of(name).clone())).collect()));
        };
        let unusable = |error: KafkaError| Fault::Setting(format!("kafka: {error}"));
        let cluster = Cluster::new(&kafka.bootstrap, &kafka.prefix).map_err(unusable)?;
        let partitions = self.postgres.partitions;
        let read = self.services.iter().flat_map(|service| subscriptions::sources(service.as_ref())).map(|(source, _)| source);
        let names: BTreeSet<&'static str> = self.services.iter().map(|service| service.name()).chain(read).collect();
        let number = i32::try_from(partitions).unwrap_or(i32::MAX);
        self.topics.ensure(&cluster, names.into_iter().collect(), number, self.shutdown).await.map_err(unusable)?;
        Ok(MessageSource::Kafka { cluster, partitions, topics: self.topics.clone() })
    }

    fn start_relays(&self, notifications: &Notifications, cluster: &Cluster, topics: &Topics) -> Result<(), Fault> {
        let producer = Arc::new(cluster.producer().map_err(|error| Fault::Setting(format!("kafka: {error}")))?);
        for service in self.services {
            let name = service.name();
            let relay = Relay {
                service: name,
                db: self.kit.db_of(name).clone(),
                lease_connection: self.node.lease_connection(name),
                notifications: notifications.clone(),
                producer: Arc::clone(&producer),
                topics: topics.clone(),
                instance: self.node.instance,
            };
            relay.start(self.shutdown.clone(), &self.node.tasks);
        }
        Ok(())
    }

    /// Prepares tables and streams of all services here. Several processes may do this at the same time.
    async fn prepare_databases(&self) -> Result<(), Fault> {
        let mut databases: Vec<(&Db, Vec<&Arc<dyn Module>>)> = Vec::new();
        for service in self.services {
            let db = self.kit.db_of(service.name());
            match databases.iter_mut().find(|(known, _)| known.is_same_as(db)) {
                Some((_, services)) => services.push(service),
                None => databases.push((db, vec![service])),
            }
        }
        for (db, services) in databases {
            db.check().await?;
            let mut tx = db.open_writer().await?;
            for service in services {
                let stream = prepare(&mut tx, service.as_ref(), self.postgres.partitions, self.settings.clock.now()).await?;
                self.check_partitions(service.name(), stream.partitions)?;
            }
        }
        Ok(())
    }

    /// `Err`: on Kafka, the stream of this service would have another number of partitions than the others.
    fn check_partitions(&self, name: &str, there: i64) -> Result<(), Fault> {
        let wanted = self.postgres.partitions;
        if self.settings.kafka.is_none() || there == wanted {
            return Ok(());
        }
        let reason = format!("the stream of {name} has {there} partitions, not {wanted}: all streams on Kafka need the same number");
        Err(Fault::Setting(format!("partitions: {reason}")))
    }

    fn connect_notifications(&self, notifications: &Notifications) {
        for service in self.services {
            let (name, service) = (service.name(), Arc::clone(service));
            notifications.set_notification_handler(name, Arc::new(move |text| service.on_notification(text)));
            let sequencer = Sequencer {
                service: name,
                db: self.kit.db_of(name).clone(),
                lease_connection: self.node.lease_connection(name),
                notifications: notifications.clone(),
                instance: self.node.instance,
            };
            sequencer.start(self.shutdown.clone(), &self.node.tasks);
        }
        let (own, common): (Vec<&str>, Vec<&str>) =
            self.services.iter().map(|service| service.name()).partition(|name| self.kit.databases.contains_key(name));
        notifications.connect(&self.kit.db, &common, self.shutdown);
        for name in own {
            notifications.connect(self.kit.db_of(name), &[name], self.shutdown);
        }
    }
}
