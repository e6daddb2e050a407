//! Fetching: the messages behind the readers' positions, from tables or from Kafka.

use super::{
    super::{
        fault::Fault,
        log::{self, StoredMessage},
        position::StreamPartition,
        source::kafka_fault,
    },
    Readers, StreamReader,
};
use contracts::{Message, Timestamp};
use db::Tx;
use kafka::{Arrival, Consumer, Record};
use runtime::ports::new_id;
use std::time::Duration;

/// Kind of the dead letter for a request that cannot be decoded, and the number of its characters that are stored.
const UNREADABLE: &str = "unreadable";
const MAX_UNREADABLE_CHARS: usize = 4_096;

/// Fetched messages by reader index.
type FetchResults = Vec<(usize, Result<Vec<log::StoredMessage>, Fault>)>;

impl Readers {
    /// Fetches the messages that wait for each of these readers, in order. Readers of one stream must be next to each other in `indices`.
    pub async fn fetch(&mut self, tx: &mut Tx, indices: &[usize], limit: i64) -> FetchResults {
        if let Some(consumer) = self.assignment.as_mut().and_then(|assignment| assignment.consumer()) {
            let limit = usize::try_from(limit).unwrap_or(1);
            return indices.iter().map(|index| (*index, fetch_from_kafka(consumer, &mut self.list[*index], limit))).collect();
        }
        let source = |index: usize| self.list[index].stream().source;
        let mut fetched = Vec::with_capacity(indices.len());
        for own in indices.chunk_by(|one, next| source(*one) == source(*next)) {
            let from: Vec<(StreamPartition, i64)> =
                own.iter().map(|index| (self.list[*index].stream(), self.list[*index].position().seq)).collect();
            let (reader, source) = (&self.list[own[0]], source(own[0]));
            let found = match &self.assignment {
                Some(assignment) if !assignment.message_source.is_same_database(reader.name(), source) => {
                    assignment.message_source.read(source, &from, reader.data_sql(), limit).await
                }
                _ => log::read(tx, source, &from, reader.data_sql(), limit).await.map_err(Fault::from),
            };
            match found {
                Ok(found) => fetched.extend(own.iter().copied().zip(found.into_iter().map(Ok))),
                Err(fault) => fetched.extend(own.iter().map(|index| (*index, Err(Fault::Source(fault.to_string()))))),
            }
        }
        fetched
    }
}

/// Fetches messages behind the reader's position from Kafka. Skips repeats, because a relay publishes again when in doubt.
fn fetch_from_kafka(consumer: &mut Consumer, reader: &mut StreamReader, limit: usize) -> Result<Vec<StoredMessage>, Fault> {
    let StreamPartition { source, partition, .. } = reader.stream();
    // Also lets the client library run its callbacks.
    consumer.poll(Duration::ZERO).map_err(kafka_fault)?;
    loop {
        let mut taken = Taken::default();
        for arrival in consumer.peek(source, partition, limit).map_err(kafka_fault)? {
            match arrival {
                Arrival::Record(offset, record) => {
                    if !taken.add(reader, *offset, record) {
                        break;
                    }
                }
                Arrival::Foreign { offset, reason, data } => taken.add_foreign(reader, *offset, reason, data),
            }
        }
        let Some(skipped) = taken.skipped else { return Ok(taken.stored) };
        consumer.advance_past(source, partition, skipped);
        if !taken.stored.is_empty() {
            return Ok(taken.stored);
        }
    }
}

/// Messages taken from a consumer's buffer.
#[derive(Default)]
struct Taken {
    stored: Vec<StoredMessage>,
    /// Offset of the last record that was skipped before the first message.
    skipped: Option<i64>,
}

impl Taken {
    /// Takes a record, or skips it if it is a repeat. Returns false for a record of a later epoch that the reader cannot begin yet.
    fn add(&mut self, reader: &mut StreamReader, offset: i64, record: &Record) -> bool {
        // The position in the old epoch must be stored first: the audit checks that the old epoch was read to its end.
        if record.epoch > reader.stream().epoch && self.stored.is_empty() && !reader.has_unflushed_position() {
            reader.begin_epoch(record.epoch);
        }
        if record.epoch > reader.stream().epoch {
            return false;
        }
        let last = self.stored.last().map_or(reader.position().seq, |message| message.seq);
        let is_repeat = record.epoch < reader.stream().epoch || record.seq <= last;
        if is_repeat {
            self.skip(offset);
        } else if reader.is_request_log() && Message::decode(&record.kind, &record.data).is_err() {
            self.stored.push(unreadable_request(offset, &format!("{} {}", record.kind, record.data)));
        } else {
            self.stored.push(StoredMessage {
                seq: record.seq,
                key: record.key,
                kind: record.kind.clone(),
                data: record.data.clone(),
                at: record.at,
                trace: record.trace,
                offset: Some(offset),
            });
        }
        true
    }

    /// Takes a record that was not written by a service. If it was a damaged message of ours, its number is missing, and the gap stops
    /// the reader.
    fn add_foreign(&mut self, reader: &StreamReader, offset: i64, reason: &str, data: &str) {
        if reader.is_request_log() {
            self.stored.push(unreadable_request(offset, &format!("{reason}: {data}")));
            return;
        }
        tracing::error!(reader = reader.name(), reason, "foreign message skipped");
        metrics::counter!("onrush_foreign_messages_total", "source" => reader.stream().source).increment(1);
        self.skip(offset);
    }

    /// Skips a record. The position of the message before covers it.
    fn skip(&mut self, offset: i64) {
        match self.stored.last_mut() {
            Some(before) => before.offset = Some(offset),
            None => self.skipped = Some(offset),
        }
    }
}

/// A request that cannot be decoded. It gets a key of its own, so that no other request is parked behind it.
fn unreadable_request(offset: i64, text: &str) -> StoredMessage {
    // PostgreSQL stores no zero characters.
    let data = text.chars().filter(|sign| *sign != '\0').take(MAX_UNREADABLE_CHARS).collect();
    StoredMessage { seq: offset + 1, key: new_id(), kind: UNREADABLE.into(), data, at: Timestamp(0), trace: None, offset: Some(offset) }
}
