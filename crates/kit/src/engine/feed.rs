//! Where a reader's messages come from: the outbox tables themselves, or Kafka.

use super::{Engine, Fault, Place, Stream, lanes::Lanes, log, streams::Reader};
use crate::{
    db::Db,
    kafka::{Arrival, Cluster, Consumer},
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
    /// A topic for each service, all with so many partitions.
    Kafka { cluster: Cluster, partitions: i64 },
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
            Feed::Kafka { partitions, .. } => Ok(Some(Stream { epoch: 1, partitions: *partitions })),
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
    /// What waits for this reader, in order.
    pub(super) async fn fetch(&mut self, index: usize, limit: i64) -> Result<Vec<log::Stored>, Fault> {
        let reader = &mut self.readers[index];
        let (place, position) = (reader.place, reader.position);
        let Some(lanes) = &mut self.lanes else {
            return Ok(log::read(&mut self.work.tx, place, position, limit).await?);
        };
        match (&lanes.feed, &mut lanes.consumer) {
            (Feed::Kafka { .. }, Some(consumer)) => take(consumer, reader, usize::try_from(limit).unwrap_or(1)),
            (Feed::Tables(databases), _) => match databases.get(place.source) {
                Some(db) => Ok(log::read(&mut *db.reader().await?, place, position, limit).await?),
                None => Err(Fault::Feed(format!("the database of {} is not known here", place.source))),
            },
            (Feed::Kafka { .. }, None) => Err(Fault::Bug("a feed from Kafka without a consumer".into())),
        }
    }

    /// What is settled need not be seen again.
    pub(super) fn settled(lanes: &mut Lanes, reader: &Reader) {
        if let (Some(consumer), Some(offset)) = (&mut lanes.consumer, reader.offset) {
            consumer.advance_past(reader.place.source, reader.place.partition, offset);
        }
    }
}

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
                    if record.epoch > reader.place.epoch && stored.is_empty() {
                        begin_epoch(reader, record.epoch);
                    }
                    if record.epoch > reader.place.epoch {
                        break;
                    }
                    let last = stored.last().map_or(reader.position, |message| message.seq);
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
    tracing::warn!(reader = reader.service.name(), source = reader.place.source, epoch, "the stream is numbered anew");
    reader.place.epoch = epoch;
    reader.position = 0;
    reader.pending = 0;
}
