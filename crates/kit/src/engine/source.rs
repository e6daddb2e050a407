//! Message sources: the outbox tables, or Kafka.

use super::{
    Engine, Fault, Stream, StreamPartition,
    assignment::PartitionAssignment,
    log,
    reader::{Position, StreamReader},
};
use crate::{
    db::Db,
    kafka::{Arrival, Cluster, Consumer, Topics},
    ports::new_id,
};
use contracts::{Message, Timestamp};
use std::{collections::HashMap, time::Duration};

/// Kind of the dead letter for a request that cannot be decoded, and the number of its characters that are stored.
const UNREADABLE: &str = "unreadable";
const MAX_UNREADABLE_CHARS: usize = 4_096;

/// Source of messages for readers in other processes.
#[derive(Clone)]
pub enum MessageSource {
    /// The outbox tables of each service, in its database.
    Tables(HashMap<&'static str, Db>),
    /// One topic for each service, all with the same number of partitions. Nothing is read before the topics are ready.
    Kafka { cluster: Cluster, partitions: i64, topics: Topics },
}

impl MessageSource {
    /// The stream of a service. On Kafka the messages carry the epoch, so reading begins with epoch 1, that of a mall that was never
    /// moved. `None`: the stream does not exist yet.
    pub(super) async fn find_stream(&self, source: &str) -> Result<Option<Stream>, Fault> {
        match self {
            MessageSource::Tables(databases) => match databases.get(source) {
                Some(db) => Ok(log::find_stream(&mut *db.reader().await?, source).await?),
                None => Ok(None),
            },
            MessageSource::Kafka { topics, .. } if !topics.are_ready() => Ok(None),
            MessageSource::Kafka { partitions, .. } => Ok(Some(Stream { epoch: 1, partitions: *partitions })),
        }
    }

    /// True when this instance can read now.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            MessageSource::Tables(_) => true,
            MessageSource::Kafka { topics, .. } => topics.are_ready(),
        }
    }

    /// True when the stream's tables are in the reader's own database, so that its open connection can read them.
    fn is_same_database(&self, reader: &str, source: &str) -> bool {
        match self {
            MessageSource::Tables(databases) => {
                databases.get(reader).zip(databases.get(source)).is_some_and(|(own, other)| own.is_same_as(other))
            }
            MessageSource::Kafka { .. } => false,
        }
    }

    /// Reads messages behind these positions from the stream's tables.
    async fn read(
        &self,
        source: &str,
        from: &[(StreamPartition, i64)],
        data_sql: &str,
        limit: i64,
    ) -> Result<Vec<Vec<log::StoredMessage>>, Fault> {
        match self {
            MessageSource::Tables(databases) => match databases.get(source) {
                Some(db) => Ok(log::read(&mut *db.reader().await?, source, from, data_sql, limit).await?),
                None => Err(Fault::Source(format!("the database of {source} is not known here"))),
            },
            MessageSource::Kafka { .. } => Err(Fault::Bug("a Kafka message source without a consumer".into())),
        }
    }

    pub(super) fn open_consumer(&self) -> Result<Option<Consumer>, Fault> {
        match self {
            MessageSource::Tables(_) => Ok(None),
            MessageSource::Kafka { cluster, .. } => cluster.consumer().map(Some).map_err(kafka_fault),
        }
    }
}

pub(super) fn kafka_fault(error: crate::kafka::KafkaError) -> Fault {
    Fault::Source(error.to_string())
}

impl Engine {
    /// Fetches the messages that wait for each of these readers, in order. Readers of one stream must be next to each other in `indices`.
    pub(super) async fn fetch(&mut self, indices: &[usize], limit: i64) -> FetchResults {
        if let Some(consumer) = self.assignment.as_mut().and_then(|assignment| assignment.consumer.as_mut()) {
            let limit = usize::try_from(limit).unwrap_or(1);
            return indices.iter().map(|index| (*index, fetch_from_kafka(consumer, &mut self.readers[*index], limit))).collect();
        }
        let source = |index: usize| self.readers[index].stream.source;
        let mut fetched = Vec::with_capacity(indices.len());
        for own in indices.chunk_by(|one, next| source(*one) == source(*next)) {
            let from: Vec<(StreamPartition, i64)> =
                own.iter().map(|index| (self.readers[*index].stream, self.readers[*index].position.seq)).collect();
            let StreamReader { service, data_sql, .. } = &self.readers[own[0]];
            let reader = service.name();
            let found = match &self.assignment {
                Some(assignment) if !assignment.message_source.is_same_database(reader, source(own[0])) => {
                    assignment.message_source.read(source(own[0]), &from, data_sql, limit).await
                }
                _ => log::read(&mut self.work.tx, source(own[0]), &from, data_sql, limit).await.map_err(Fault::from),
            };
            match found {
                Ok(found) => fetched.extend(own.iter().copied().zip(found.into_iter().map(Ok))),
                Err(fault) => fetched.extend(own.iter().map(|index| (*index, Err(Fault::Source(fault.to_string()))))),
            }
        }
        fetched
    }

    /// Releases the messages up to the reader's position from the consumer's buffer.
    pub(super) fn advance_consumer(assignment: &mut PartitionAssignment, reader: &StreamReader) {
        if let (Some(consumer), Some(offset)) = (&mut assignment.consumer, reader.position.offset) {
            consumer.advance_past(reader.stream.source, reader.stream.partition, offset);
        }
    }
}

/// Fetched messages by reader index.
type FetchResults = Vec<(usize, Result<Vec<log::StoredMessage>, Fault>)>;

/// Fetches messages behind the reader's position from Kafka. Skips repeats, because a relay publishes again when in doubt.
fn fetch_from_kafka(consumer: &mut Consumer, reader: &mut StreamReader, limit: usize) -> Result<Vec<log::StoredMessage>, Fault> {
    let StreamPartition { source, partition, .. } = reader.stream;
    // Also lets the client library run its callbacks.
    consumer.poll(Duration::ZERO).map_err(kafka_fault)?;
    loop {
        let (mut stored, mut skipped): (Vec<log::StoredMessage>, Option<i64>) = (Vec::new(), None);
        for arrival in consumer.peek(source, partition, limit).map_err(kafka_fault)? {
            match arrival {
                Arrival::Record(offset, record) => {
                    // The position in the old epoch must be stored first: the audit checks that the old epoch was read to its end.
                    if record.epoch > reader.stream.epoch && stored.is_empty() && !reader.has_unflushed_position() {
                        begin_epoch(reader, record.epoch);
                    }
                    if record.epoch > reader.stream.epoch {
                        break;
                    }
                    let last = stored.last().map_or(reader.position.seq, |message| message.seq);
                    let is_repeat = record.epoch < reader.stream.epoch || record.seq <= last;
                    match (is_repeat, stored.last_mut()) {
                        (false, _) if reader.is_request_log && Message::decode(&record.kind, &record.data).is_err() => {
                            stored.push(unreadable_request(*offset, &format!("{} {}", record.kind, record.data)));
                        }
                        (false, _) => stored.push(log::StoredMessage {
                            seq: record.seq,
                            key: record.key,
                            kind: record.kind.clone(),
                            data: record.data.clone(),
                            at: record.at,
                            trace: record.trace,
                            offset: Some(*offset),
                        }),
                        // The position of the message before covers the repeat.
                        (true, Some(before)) => before.offset = Some(*offset),
                        (true, None) => skipped = Some(*offset),
                    }
                }
                // Not written by this service. If it was a damaged message of ours, its number is missing, and the gap stops the reader.
                Arrival::Foreign { offset, reason, data } if reader.is_request_log => {
                    stored.push(unreadable_request(*offset, &format!("{reason}: {data}")))
                }
                Arrival::Foreign { offset, reason, .. } => {
                    tracing::error!(reader = reader.service.name(), reason, "foreign message skipped");
                    metrics::counter!("onrush_foreign_messages_total", "source" => source).increment(1);
                    match stored.last_mut() {
                        Some(before) => before.offset = Some(*offset),
                        None => skipped = Some(*offset),
                    }
                }
            }
        }
        let Some(skipped) = skipped else { return Ok(stored) };
        consumer.advance_past(source, partition, skipped);
        if !stored.is_empty() {
            return Ok(stored);
        }
    }
}

/// A request that cannot be decoded. It gets a key of its own, so that no other request is parked behind it.
fn unreadable_request(offset: i64, text: &str) -> log::StoredMessage {
    // PostgreSQL stores no zero characters.
    let data = text.chars().filter(|sign| *sign != '\0').take(MAX_UNREADABLE_CHARS).collect();
    log::StoredMessage {
        seq: offset + 1,
        key: new_id(),
        kind: UNREADABLE.into(),
        data,
        at: Timestamp(0),
        trace: None,
        offset: Some(offset),
    }
}

/// Begins a new epoch of the stream, whose database was moved or restored.
fn begin_epoch(reader: &mut StreamReader, epoch: i64) {
    let StreamPartition { source, epoch: before, partition } = reader.stream;
    // Only the sender's tables show whether this was the last message of the old epoch. The audit compares them.
    tracing::warn!(reader = reader.service.name(), source, partition, epoch, before, read_to = reader.position.seq, "new epoch begun");
    reader.stream.epoch = epoch;
    reader.position = Position { seq: 0, ..reader.position };
    reader.stored_position = 0;
}
