//! Where a reader's messages come from: the outbox tables themselves, or Kafka.

use super::{
    Engine, Fault, Place, Stream,
    lanes::Lanes,
    log,
    streams::{Mark, Reader},
};
use crate::{
    db::Db,
    kafka::{Arrival, Cluster, Consumer, Topics},
    ports::new_id,
};
use contracts::{Message, Timestamp};
use std::{collections::HashMap, time::Duration};

/// The kind of a request that cannot be read, in the dead letters, and how much of it is kept.
const UNREADABLE: &str = "unreadable";
const KEPT_CHARS: usize = 4_096;

/// The cable between a stream and its readers in other processes.
#[derive(Clone)]
pub enum Feed {
    /// The outbox tables of each service, in the database it lives in.
    Tables(HashMap<&'static str, Db>),
    /// A topic for each service, all with so many partitions. Nothing is read before they are ready.
    Kafka { cluster: Cluster, partitions: i64, topics: Topics },
}

impl Feed {
    /// A service's stream as readers elsewhere know it. On Kafka the numbering is told by the messages: the first is taken to be that of a
    /// mall which was never moved.
    pub(super) async fn stream_of(&self, source: &str) -> Result<Option<Stream>, Fault> {
        match self {
            Feed::Tables(databases) => match databases.get(source) {
                Some(db) => Ok(log::find_stream(&mut *db.reader().await?, source).await?),
                None => Ok(None),
            },
            Feed::Kafka { topics, .. } if !topics.are_ready() => Ok(None),
            Feed::Kafka { partitions, .. } => Ok(Some(Stream { epoch: 1, partitions: *partitions })),
        }
    }

    /// Whether this instance can read at all now.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Feed::Tables(_) => true,
            Feed::Kafka { topics, .. } => topics.are_ready(),
        }
    }

    /// Whether a stream's tables are in the reader's own database, and so to be had on a connection that is there anyway.
    fn is_beside(&self, reader: &str, source: &str) -> bool {
        match self {
            Feed::Tables(databases) => databases.get(reader).zip(databases.get(source)).is_some_and(|(own, other)| own.is(other)),
            Feed::Kafka { .. } => false,
        }
    }

    /// What a stream's own tables have behind these places.
    async fn read(&self, source: &str, from: &[(Place, i64)], data: &str, limit: i64) -> Result<Vec<Vec<log::Stored>>, Fault> {
        match self {
            Feed::Tables(databases) => match databases.get(source) {
                Some(db) => Ok(log::read(&mut *db.reader().await?, source, from, data, limit).await?),
                None => Err(Fault::Feed(format!("the database of {source} is not known here"))),
            },
            Feed::Kafka { .. } => Err(Fault::Bug("a feed from Kafka without a consumer".into())),
        }
    }

    pub(super) fn consumer(&self) -> Result<Option<Consumer>, Fault> {
        match self {
            Feed::Tables(_) => Ok(None),
            Feed::Kafka { cluster, .. } => cluster.consumer().map(Some).map_err(fault),
        }
    }
}

pub(super) fn fault(error: crate::kafka::KafkaError) -> Fault {
    Fault::Feed(error.to_string())
}

impl Engine {
    /// What waits for each of these readers, in order. Those of one stream stand together.
    pub(super) async fn fetch(&mut self, indices: &[usize], limit: i64) -> Fetched {
        if let Some(consumer) = self.lanes.as_mut().and_then(|lanes| lanes.consumer.as_mut()) {
            let limit = usize::try_from(limit).unwrap_or(1);
            return indices.iter().map(|index| (*index, take(consumer, &mut self.readers[*index], limit))).collect();
        }
        let source = |index: usize| self.readers[index].place.source;
        let mut fetched = Vec::with_capacity(indices.len());
        for own in indices.chunk_by(|one, next| source(*one) == source(*next)) {
            let from: Vec<(Place, i64)> = own.iter().map(|index| (self.readers[*index].place, self.readers[*index].position.seq)).collect();
            let Reader { service, data, .. } = &self.readers[own[0]];
            let reader = service.name();
            let found = match &self.lanes {
                Some(lanes) if !lanes.feed.is_beside(reader, source(own[0])) => lanes.feed.read(source(own[0]), &from, data, limit).await,
                _ => log::read(&mut self.work.tx, source(own[0]), &from, data, limit).await.map_err(Fault::from),
            };
            match found {
                Ok(found) => fetched.extend(own.iter().copied().zip(found.into_iter().map(Ok))),
                Err(fault) => fetched.extend(own.iter().map(|index| (*index, Err(Fault::Feed(fault.to_string()))))),
            }
        }
        fetched
    }

    /// What is settled need not be seen again.
    pub(super) fn settled(lanes: &mut Lanes, reader: &Reader) {
        if let (Some(consumer), Some(offset)) = (&mut lanes.consumer, reader.position.offset) {
            consumer.advance_past(reader.place.source, reader.place.partition, offset);
        }
    }
}

/// By reader.
type Fetched = Vec<(usize, Result<Vec<log::Stored>, Fault>)>;

/// What Kafka has for a reader that comes behind its position. Repeats are passed over: relays publish again when in doubt.
fn take(consumer: &mut Consumer, reader: &mut Reader, limit: usize) -> Result<Vec<log::Stored>, Fault> {
    let Place { source, partition, .. } = reader.place;
    // Serves the client library, too.
    consumer.poll(Duration::ZERO).map_err(fault)?;
    loop {
        let (mut stored, mut passed): (Vec<log::Stored>, Option<i64>) = (Vec::new(), None);
        for arrival in consumer.peek(source, partition, limit).map_err(fault)? {
            match arrival {
                Arrival::Record(offset, record) => {
                    // Where it was in the one before must be known: the audit looks whether that was read to its end.
                    if record.epoch > reader.place.epoch && stored.is_empty() && !reader.is_ahead() {
                        begin_epoch(reader, record.epoch);
                    }
                    if record.epoch > reader.place.epoch {
                        break;
                    }
                    let last = stored.last().map_or(reader.position.seq, |message| message.seq);
                    let is_repeat = record.epoch < reader.place.epoch || record.seq <= last;
                    match (is_repeat, stored.last_mut()) {
                        (false, _) if reader.is_log && Message::decode(&record.kind, &record.data).is_err() => {
                            stored.push(unreadable(*offset, &format!("{} {}", record.kind, record.data)));
                        }
                        (false, _) => stored.push(log::Stored {
                            seq: record.seq,
                            key: record.key,
                            kind: record.kind.clone(),
                            data: record.data.clone(),
                            at: record.at,
                            trace: record.trace,
                            offset: Some(*offset),
                        }),
                        // Passed over together with the one before.
                        (true, Some(before)) => before.offset = Some(*offset),
                        (true, None) => passed = Some(*offset),
                    }
                }
                // Nobody here wrote it: a message of ours that got damaged leaves a gap in the numbers, and that stops the reader.
                Arrival::Foreign { offset, reason, data } if reader.is_log => {
                    stored.push(unreadable(*offset, &format!("{reason}: {data}")))
                }
                Arrival::Foreign { offset, reason, .. } => {
                    tracing::error!(reader = reader.service.name(), reason, "a message in our topic is not ours");
                    metrics::counter!("onrush_foreign_messages_total", "source" => source).increment(1);
                    match stored.last_mut() {
                        Some(before) => before.offset = Some(*offset),
                        None => passed = Some(*offset),
                    }
                }
            }
        }
        let Some(passed) = passed else { return Ok(stored) };
        consumer.advance_past(source, partition, passed);
        if !stored.is_empty() {
            return Ok(stored);
        }
    }
}

/// A request that nobody can read holds up no other: it is put aside under a key of its own.
fn unreadable(offset: i64, text: &str) -> log::Stored {
    // PostgreSQL keeps no zero characters.
    let data = text.chars().filter(|sign| *sign != '\0').take(KEPT_CHARS).collect();
    log::Stored { seq: offset + 1, key: new_id(), kind: UNREADABLE.into(), data, at: Timestamp(0), trace: None, offset: Some(offset) }
}

/// The stream was numbered anew, because its database was moved or restored.
fn begin_epoch(reader: &mut Reader, epoch: i64) {
    let Place { source, epoch: before, partition } = reader.place;
    // Whether this was the last of it only the sender's tables can tell: the audit compares them.
    tracing::warn!(
        reader = reader.service.name(),
        source,
        partition,
        epoch,
        before,
        read_to = reader.position.seq,
        "the stream is numbered anew"
    );
    reader.place.epoch = epoch;
    reader.position = Mark { seq: 0, ..reader.position };
    reader.kept = 0;
}
