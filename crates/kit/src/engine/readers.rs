//! Opening an engine: tables, streams and readers.

use super::{
    Engine, EngineSettings, Fault, Stream, StreamPartition, Work,
    assignment::PartitionAssignment,
    dead_letters,
    lock_budget::LockBudget,
    log,
    reader::{Position, StreamReader, data_sql_for, sources},
    source,
    stalls::Stalls,
    tables,
};
use crate::{
    db::{Db, Tx, migrate},
    failpoints::Faults,
    ports::Clock,
    service::Service,
};
use contracts::{Timestamp, messages};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Migrates a service's tables and opens its stream. A new stream gets this number of partitions.
pub async fn prepare(tx: &mut Tx, service: &dyn Service, partitions: i64, now: Timestamp) -> Result<Stream, Fault> {
    tables::migrate_kit(tx, service.name()).await?;
    migrate(tx, service.name(), service.migrations()).await?;
    Ok(log::open_stream(tx, service.name(), partitions, now).await?)
}

impl Engine {
    /// Opens the engine of these services with their streams and readers.
    ///
    /// With `assignment` it is one of several engines, each for one service that is already prepared. Without, it is the only one.
    pub async fn open(
        db: &Db,
        services: Vec<Arc<dyn Service>>,
        clock: Arc<dyn Clock>,
        settings: EngineSettings,
        faults: Faults,
        assignment: Option<PartitionAssignment>,
    ) -> Result<Engine, Fault> {
        // Only a sole writer numbers its messages as it writes, and can dispatch them before the commit.
        let settings = EngineSettings { fold: settings.fold && assignment.is_none(), ..settings };
        let mut engine = Engine {
            work: Work::new(db.open_writer().await?),
            clock,
            settings,
            services,
            readers: Vec::new(),
            streams: HashMap::new(),
            heads: HashMap::new(),
            faults,
            stalls: Stalls::default(),
            lock_budget: LockBudget::default(),
            last_flush_failure: None,
            next_retention_at: Timestamp(0),
            since_lag_report: None,
            assignment,
        };
        engine.open_streams().await?;
        Ok(engine)
    }

    async fn open_streams(&mut self) -> Result<(), Fault> {
        let now = self.clock.now();
        for service in self.services.clone() {
            let name = service.name();
            let stream = match &self.assignment {
                Some(_) => {
                    log::find_stream(&mut self.work.tx, name).await?.ok_or_else(|| Fault::Bug(format!("{name} was not prepared")))?
                }
                None => prepare(&mut self.work.tx, service.as_ref(), 1, now).await?,
            };
            self.streams.insert(name, stream);
            if self.assignment.is_none() {
                let head = log::head(&mut self.work.tx, name, stream.epoch, log::SOLE_PARTITION).await?;
                self.heads.insert(name, head);
            }
        }
        if self.assignment.is_none() {
            self.work.heads = Some(HashMap::new());
            self.open_partition(log::SOLE_PARTITION).await?;
        }
        Ok(())
    }

    /// Opens readers for one partition of every stream that is read here.
    pub(super) async fn open_partition(&mut self, partition: i64) -> Result<(), Fault> {
        for service in self.services.clone() {
            for (source, kinds) in sources(service.as_ref()) {
                let Some(stream) = self.find_stream(source).await? else { continue };
                if partition >= stream.partitions {
                    continue;
                }
                let mut reader = StreamReader {
                    service: Arc::clone(&service),
                    stream: StreamPartition { source, epoch: stream.epoch, partition },
                    data_sql: data_sql_for(&kinds, source),
                    kinds,
                    is_request_log: messages::REQUEST_LOGS.contains(&source),
                    position: Position::START,
                    stored_position: 0,
                    pending: None,
                    parked_keys: HashSet::new(),
                    tries: 0,
                    is_due: true,
                    locked_since: None,
                };
                self.load_position(&mut reader).await?;
                self.readers.push(reader);
            }
        }
        Ok(())
    }

    /// Loads a reader's position and parked keys from its service's tables: first the position, then the keys.
    ///
    /// Between the two, another instance may store a dead letter and advance, in one transaction. In this order, a reader that sees the
    /// new position also sees the new key. In the other order it would see only the position, and deliver later messages of the key too
    /// early. An outdated position does no harm with any keys, because it cannot be advanced.
    pub(super) async fn load_position(&mut self, reader: &mut StreamReader) -> Result<(), Fault> {
        let (name, StreamPartition { source, partition, .. }) = (reader.service.name(), reader.stream);
        if self.reads_kafka() {
            reader.stream.epoch = log::read_epoch(&mut self.work.tx, name, reader.stream).await?.unwrap_or(reader.stream.epoch);
        }
        let (position, offset) = log::read_position(&mut self.work.tx, name, reader.stream).await?;
        let parked = dead_letters::parked_keys(&mut self.work.tx, name).await?;
        if let Some(consumer) = self.assignment.as_mut().and_then(|assignment| assignment.consumer.as_mut()) {
            let assigned = match offset {
                _ if reader.is_request_log => consumer.assign_log(source, partition, offset),
                // Without an offset, the sequence numbers tell which message is next: the stream was read from tables before, or the
                // offsets were deleted.
                None if position > 0 => consumer.assign_oldest(source, partition),
                _ => consumer.assign(source, partition, offset),
            };
            assigned.map_err(source::kafka_fault)?;
        }
        (reader.position, reader.stored_position, reader.pending) = (Position { seq: position, offset }, position, None);
        reader.parked_keys = parked.into_iter().filter(|(from, _)| from == source).map(|(_, key)| key).collect();
        (reader.tries, reader.is_due, reader.locked_since) = (0, true, None);
        Ok(())
    }

    /// The stream of a source. A sole writer knows all streams; other engines ask the message source. `None`: the stream does not exist
    /// yet.
    async fn find_stream(&mut self, source: &'static str) -> Result<Option<Stream>, Fault> {
        match &self.assignment {
            None => Ok(self.streams.get(source).copied()),
            Some(assignment) => assignment.message_source.find_stream(source).await,
        }
    }

    fn reads_kafka(&self) -> bool {
        self.assignment.as_ref().is_some_and(|assignment| assignment.consumer.is_some())
    }

    /// Opens all readers again, because their positions in memory are outdated.
    pub(super) async fn reopen_readers(&mut self) -> Result<(), Fault> {
        let partitions: HashSet<i64> = self.readers.iter().map(|reader| reader.stream.partition).collect();
        self.readers.clear();
        for partition in partitions {
            if let Err(fault) = self.open_partition(partition).await {
                // No reader is left: a partition without readers is opened again, but one with some readers counts as complete.
                self.readers.clear();
                return Err(fault);
            }
        }
        Ok(())
    }
}
