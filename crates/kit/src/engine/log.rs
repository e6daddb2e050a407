//! The tables of a stream and its readers, one set per service, and the SQL over streams and positions.

use super::{Envelope, Fault};
use crate::db::{DbError, FromRow, Row, Tx, params};
use contracts::{Message, Timestamp};
use std::time::Duration;
use uuid::Uuid;

/// Messages that every reader has passed are kept this long, for looking into what happened.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// The only partition of a stream in one process.
pub(super) const PARTITION: i64 = 0;

/// Stream, positions, deliveries, dead letters and idempotency keys of one service. Idempotency keys alone have a row id on SQLite: an
/// answer of two kilobytes would not fit the page of a keyed table, and each would take an overflow page of its own.
pub fn kit_tables(service: &str) -> String {
    format!(
        "create table if not exists {service}_stream (epoch BIGINT primary key, started_at BIGINT not null);
         create table if not exists {service}_outbox (
             epoch BIGINT not null, partition BIGINT not null, seq BIGINT not null,
             key UUID not null, kind TEXT not null, data TEXT not null, at BIGINT not null, trace UUID,
             primary key (epoch, partition, seq)) without rowid;
         create table if not exists {service}_positions (
             source TEXT not null, epoch BIGINT not null, partition BIGINT not null, seq BIGINT not null,
             primary key (source, epoch, partition)) without rowid;
         create table if not exists {service}_deliveries (
             source TEXT not null, epoch BIGINT not null, partition BIGINT not null,
             from_seq BIGINT not null, to_seq BIGINT not null, at BIGINT not null,
             primary key (source, epoch, partition, from_seq)) without rowid;
         create table if not exists {service}_dead_letters (
             source TEXT not null, epoch BIGINT not null, partition BIGINT not null, seq BIGINT not null,
             key UUID not null, kind TEXT not null, data TEXT not null, written_at BIGINT not null, trace UUID, error TEXT not null,
             state TEXT not null check (state = 'dead' or state = 'parked' or state = 'redrive' or state = 'resolved'),
             at BIGINT not null, resolved_at BIGINT,
             primary key (source, epoch, partition, seq)) without rowid;
         create index if not exists {service}_dead_letters_state on {service}_dead_letters (state);
         create table if not exists {service}_idempotency (
             scope UUID not null, operation TEXT not null, key TEXT not null, request_hash BYTEA not null,
             status BIGINT, body BYTEA, location TEXT, at BIGINT not null,
             primary key (scope, operation, key));
         create index if not exists {service}_idempotency_at on {service}_idempotency (at);"
    )
}

/// The epoch of a service's stream and the number of its last message.
pub(super) async fn open_stream(tx: &mut Tx, service: &str, now: Timestamp) -> Result<(i64, i64), DbError> {
    let epoch: Option<(i64,)> =
        tx.query_opt(&format!("select max(epoch) from {service}_stream having max(epoch) is not null"), &[]).await?;
    let epoch = match epoch {
        Some((epoch,)) => epoch,
        None => {
            tx.execute(&format!("insert into {service}_stream (epoch, started_at) values (1, $1)"), &params![now]).await?;
            1
        }
    };
    // Retention keeps the last message, so that this number is known.
    let sql = format!("select coalesce(max(seq), 0) from {service}_outbox where epoch=$1 and partition=$2");
    let (head,): (i64,) = tx.query_one(&sql, &params![epoch, PARTITION]).await?;
    Ok((epoch, head))
}

pub(super) async fn position(tx: &mut Tx, reader: &str, source: &str, epoch: i64) -> Result<i64, DbError> {
    let sql = format!("select seq from {reader}_positions where source=$1 and epoch=$2 and partition=$3");
    let found: Option<(i64,)> = tx.query_opt(&sql, &params![source, epoch, PARTITION]).await?;
    Ok(found.map_or(0, |(seq,)| seq))
}

pub(super) async fn append(tx: &mut Tx, source: &str, epoch: i64, messages: &[&Envelope]) -> Result<(), Fault> {
    let sql = format!("insert into {source}_outbox (epoch, partition, seq, key, kind, data, at, trace) values ($1,$2,$3,$4,$5,$6,$7,$8)");
    let mut encoded = Vec::with_capacity(messages.len());
    for envelope in messages {
        let data = envelope.message.encode().map_err(|error| Fault::Bug(format!("a message does not serialize: {error}")))?;
        encoded.push((envelope, data));
    }
    let rows = encoded.iter().map(|(envelope, data)| {
        params![epoch, PARTITION, envelope.seq, envelope.key, envelope.message.kind(), data, envelope.at, envelope.trace]
    });
    tx.execute_many(&sql, rows).await?;
    Ok(())
}

/// Moves a reader on, if it still is where this process believes it to be: a zombie changes no row and its transaction must roll back.
pub(super) async fn advance(tx: &mut Tx, reader: &str, source: &str, epoch: i64, from: i64, to: i64, now: Timestamp) -> Result<(), Fault> {
    let moved = if from == 0 {
        let sql = format!(
            "insert into {reader}_positions (source, epoch, partition, seq) values ($1,$2,$3,$4) \
             on conflict (source, epoch, partition) do update set seq=$4 where {reader}_positions.seq=0"
        );
        tx.execute(&sql, &params![source, epoch, PARTITION, to]).await?
    } else {
        let sql = format!("update {reader}_positions set seq=$4 where source=$1 and epoch=$2 and partition=$3 and seq=$5");
        tx.execute(&sql, &params![source, epoch, PARTITION, to, from]).await?
    };
    if moved != 1 {
        return Err(Fault::Fenced(format!("{reader} is not at {source}:{from} any more")));
    }
    let sql = format!("insert into {reader}_deliveries (source, epoch, partition, from_seq, to_seq, at) values ($1,$2,$3,$4,$5,$6)");
    tx.execute(&sql, &params![source, epoch, PARTITION, from + 1, to, now]).await?;
    Ok(())
}

/// A message as it is stored.
pub(super) struct Stored {
    pub seq: i64,
    pub key: Uuid,
    pub kind: String,
    pub data: String,
    pub at: Timestamp,
    pub trace: Option<Uuid>,
}

impl FromRow for Stored {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { seq: row.get(0)?, key: row.get(1)?, kind: row.get(2)?, data: row.get(3)?, at: row.get(4)?, trace: row.get(5)? })
    }
}

impl Stored {
    pub fn of(envelope: &Envelope) -> Result<Self, Fault> {
        let Envelope { seq, key, at, trace, ref message, .. } = *envelope;
        let data = message.encode().map_err(|error| Fault::Bug(format!("a message does not serialize: {error}")))?;
        Ok(Self { seq, key, kind: message.kind().to_owned(), data, at, trace })
    }

    pub fn decode(&self, source: &'static str) -> Result<Envelope, Fault> {
        let message = Message::decode(&self.kind, &self.data)?;
        Ok(Envelope { source, seq: self.seq, key: self.key, message, at: self.at, trace: self.trace })
    }
}

pub(super) async fn read(tx: &mut Tx, source: &str, epoch: i64, after: i64, limit: i64) -> Result<Vec<Stored>, DbError> {
    let sql = format!(
        "select seq, key, kind, data, at, trace from {source}_outbox where epoch=$1 and partition=$2 and seq>$3 order by seq limit $4"
    );
    tx.query(&sql, &params![epoch, PARTITION, after, limit]).await
}

/// Drops messages older than a week that every reader has passed, and the delivery records of that time, at most `limit` each a call.
/// Looks only at the oldest rows, so that its cost does not grow with the stream.
/// The last message of a stream always stays: it holds the number the next one follows.
pub async fn prune(tx: &mut Tx, source: &str, readers: &[&str], now: Timestamp, limit: i64) -> Result<u64, DbError> {
    let mut passed = i64::MAX;
    for reader in readers {
        let sql = format!("select coalesce(max(seq), 0) from {reader}_positions where source=$1");
        let (seq,): (i64,) = tx.query_one(&sql, &params![source]).await?;
        passed = passed.min(seq);
    }
    let before = now.before(KEPT);
    let sql = format!(
        "delete from {source}_outbox where (epoch, partition, seq) in \
         (select epoch, partition, seq from (select epoch, partition, seq, at from {source}_outbox order by epoch, partition, seq limit $3) as oldest \
         where at<$1 and seq<=$2 and seq<(select seq from {source}_outbox order by epoch desc, partition desc, seq desc limit 1))"
    );
    let mut dropped = tx.execute(&sql, &params![before, passed, limit]).await?;
    for reader in readers {
        let sql = format!(
            "delete from {reader}_deliveries where (source, epoch, partition, from_seq) in (select source, epoch, partition, from_seq from \
             (select source, epoch, partition, from_seq, at from {reader}_deliveries where source=$1 \
             order by source, epoch, partition, from_seq limit $3) as oldest where at<$2)"
        );
        dropped += tx.execute(&sql, &params![source, before, limit]).await?;
    }
    Ok(dropped)
}
