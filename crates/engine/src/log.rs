//! SQL of streams and reader positions.

use super::{
    envelope::Envelope,
    fault::Fault,
    position::{Position, PositionUpdate, SOLE_PARTITION, Stream, StreamPartition},
};
use contracts::{Message, Timestamp};
use db::{DbError, FromRow, Row, Tx, params};
use std::{collections::HashMap, time::Duration};
use uuid::Uuid;

/// Retention of messages that every reader has passed, kept for investigations.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Opens a service's stream, and creates it with this number of partitions if it is new. An existing stream keeps its number.
pub(super) async fn open_stream(tx: &mut Tx, service: &str, partitions: i64, now: Timestamp) -> Result<Stream, DbError> {
    if let Some(stream) = find_stream(tx, service).await? {
        return Ok(stream);
    }
    let sql = format!("insert into {service}_stream (epoch, started_at, partitions) values (1, $1, $2) on conflict (epoch) do nothing");
    tx.execute(&sql, &params![now, partitions]).await?;
    let sql = format!("insert into {service}_heads (epoch, partition, seq) values (1, $1, 0) on conflict (epoch, partition) do nothing");
    let stream = find_stream(tx, service).await?.unwrap_or(Stream { epoch: 1, partitions });
    tx.execute_many(&sql, (0..stream.partitions).map(|partition| params![partition])).await?;
    Ok(stream)
}

pub(super) async fn find_stream(tx: &mut Tx, service: &str) -> Result<Option<Stream>, DbError> {
    let sql = format!("select epoch, partitions from {service}_stream order by epoch desc limit 1");
    let found: Option<(i64, i64)> = tx.query_opt(&sql, &[]).await?;
    Ok(found.map(|(epoch, partitions)| Stream { epoch, partitions }))
}

/// Sequence number of the last message. Retention never deletes that message, so that its number stays known.
pub(super) async fn head(tx: &mut Tx, service: &str, epoch: i64, partition: i64) -> Result<i64, DbError> {
    let sql = format!("select coalesce(max(seq), 0) from {service}_outbox where epoch=$1 and partition=$2");
    let (head,): (i64,) = tx.query_one(&sql, &params![epoch, partition]).await?;
    Ok(head)
}

/// A reader's position in one partition: sequence number and, from Kafka, offset.
pub(super) async fn read_position(tx: &mut Tx, reader: &str, stream: StreamPartition) -> Result<(i64, Option<i64>), DbError> {
    let sql = format!("select seq, feed_offset from {reader}_positions where source=$1 and epoch=$2 and partition=$3");
    let found: Option<(i64, Option<i64>)> = tx.query_opt(&sql, &params![stream.source, stream.epoch, stream.partition]).await?;
    Ok(found.unwrap_or((0, None)))
}

/// The epoch that a reader was last in. `None`: it has read nothing yet.
pub(super) async fn read_epoch(tx: &mut Tx, reader: &str, stream: StreamPartition) -> Result<Option<i64>, DbError> {
    let sql = format!("select epoch from {reader}_positions where source=$1 and partition=$2 order by epoch desc limit 1");
    let found: Option<(i64,)> = tx.query_opt(&sql, &params![stream.source, stream.partition]).await?;
    Ok(found.map(|(epoch,)| epoch))
}

/// Appends messages that already have their sequence numbers.
pub(super) async fn append(tx: &mut Tx, source: &str, epoch: i64, messages: &[&Envelope]) -> Result<(), Fault> {
    let sql = format!("insert into {source}_outbox (epoch, partition, seq, key, kind, data, at, trace) values ($1,$2,$3,$4,$5,$6,$7,$8)");
    let encoded = encode(messages)?;
    let rows = encoded.iter().map(|(envelope, data)| {
        params![epoch, SOLE_PARTITION, envelope.seq, envelope.key, envelope.message.kind(), data, envelope.at, envelope.trace]
    });
    tx.execute_many(&sql, rows).await?;
    Ok(())
}

/// Appends messages that the sequencer numbers after the commit.
pub(super) async fn append_pending(tx: &mut Tx, source: &str, stream: Stream, messages: &[&Envelope]) -> Result<(), Fault> {
    let sql = format!("insert into {source}_pending (partition, key, kind, data, at, trace) values ($1,$2,$3,$4,$5,$6)");
    let encoded = encode(messages)?;
    let rows = encoded.iter().map(|(envelope, data)| {
        params![stream.partition_of(envelope.key), envelope.key, envelope.message.kind(), data, envelope.at, envelope.trace]
    });
    tx.execute_many(&sql, rows).await?;
    Ok(())
}

fn encode<'e>(messages: &[&'e Envelope]) -> Result<Vec<(&'e Envelope, String)>, Fault> {
    let data =
        |envelope: &Envelope| envelope.message.encode().map_err(|error| Fault::Bug(format!("a message does not serialize: {error}")));
    messages.iter().map(|envelope| Ok((*envelope, data(envelope)?))).collect()
}

/// Advances a reader's positions. `Err`: another instance moved the reader, and the transaction must roll back.
pub(super) async fn advance(tx: &mut Tx, reader: &str, updates: &[PositionUpdate], now: Timestamp) -> Result<(), Fault> {
    let (first, later): (Vec<&PositionUpdate>, Vec<&PositionUpdate>) = updates.iter().partition(|update| update.from == 0);
    let begin_sql = format!(
        "insert into {reader}_positions (source, epoch, partition, seq, feed_offset) values ($1,$2,$3,$4,$5) \
         on conflict (source, epoch, partition) do update set seq=$4, feed_offset=$5 where {reader}_positions.seq=$6"
    );
    let advance_sql =
        format!("update {reader}_positions set seq=$4, feed_offset=$5 where source=$1 and epoch=$2 and partition=$3 and seq=$6");
    for (sql, updates) in [(begin_sql, first), (advance_sql, later)] {
        if updates.is_empty() {
            continue;
        }
        let row = |update: &&PositionUpdate| {
            let StreamPartition { source, epoch, partition } = update.stream;
            params![source, epoch, partition, update.to.seq, update.to.offset, update.from]
        };
        let moved = tx.execute_many(&sql, updates.iter().map(row)).await?;
        if let Some((update, _)) = updates.iter().zip(&moved).find(|(_, moved)| **moved != 1) {
            let StreamPartition { source, epoch, partition } = update.stream;
            return Err(Fault::Fenced(format!("another instance moved {reader} away from {source}:{epoch}:{partition}:{}", update.from)));
        }
    }
    let sql = format!("insert into {reader}_deliveries (source, epoch, partition, from_seq, to_seq, at) values ($1,$2,$3,$4,$5,$6)");
    let row = |update: &PositionUpdate| {
        params![update.stream.source, update.stream.epoch, update.stream.partition, update.from + 1, update.to.seq, now]
    };
    tx.execute_many(&sql, updates.iter().map(row)).await?;
    Ok(())
}

/// A message as it is stored.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    pub seq: i64,
    pub key: Uuid,
    pub kind: String,
    pub data: String,
    pub at: Timestamp,
    pub trace: Option<Uuid>,
    /// The message's offset. `None`: the message does not come from Kafka.
    pub offset: Option<i64>,
}

impl FromRow for StoredMessage {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            seq: row.get(0)?,
            key: row.get(1)?,
            kind: row.get(2)?,
            data: row.get(3)?,
            at: row.get(4)?,
            trace: row.get(5)?,
            offset: None,
        })
    }
}

impl StoredMessage {
    pub fn of(envelope: &Envelope) -> Result<Self, Fault> {
        let Envelope { seq, key, at, trace, ref message, .. } = *envelope;
        let data = message.encode().map_err(|error| Fault::Bug(format!("a message does not serialize: {error}")))?;
        Ok(Self { seq, key, kind: message.kind().to_owned(), data, at, trace, offset: None })
    }

    pub(super) fn position(&self) -> Position {
        Position { seq: self.seq, offset: self.offset }
    }

    pub fn decode(&self, source: &'static str) -> Result<Envelope, Fault> {
        let message = Message::decode(&self.kind, &self.data)?;
        Ok(Envelope { source, seq: self.seq, key: self.key, message, at: self.at, trace: self.trace })
    }
}

/// SQL expression for the full data of a message.
pub(super) const FULL_DATA: &str = "data";

/// Reads the messages behind a sequence number in each of these partitions of one stream: in order, at most `limit` for each partition.
/// `data_sql` is the expression for the data column.
pub(super) async fn read(
    tx: &mut Tx,
    source: &str,
    from: &[(StreamPartition, i64)],
    data_sql: &str,
    limit: i64,
) -> Result<Vec<Vec<StoredMessage>>, DbError> {
    let sql = format!(
        "select seq, key, kind, {data_sql}, at, trace, partition, epoch from {source}_outbox \
         where epoch=$1 and partition=$2 and seq>$3 order by seq limit $4"
    );
    let rows = from.iter().map(|(stream, after)| params![stream.epoch, stream.partition, *after, limit]);
    let found: Vec<PartitionRow> = tx.query_many(&sql, rows).await?;
    let mut found = found.into_iter().peekable();
    let mut next = |stream: &StreamPartition| {
        let own = |row: &PartitionRow| (row.epoch, row.partition) == (stream.epoch, stream.partition);
        std::iter::from_fn(|| found.next_if(own).map(|row| row.stored)).collect()
    };
    Ok(from.iter().map(|(stream, _)| next(stream)).collect())
}

struct PartitionRow {
    stored: StoredMessage,
    partition: i64,
    epoch: i64,
}

impl FromRow for PartitionRow {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { stored: StoredMessage::from_row(row)?, partition: row.get(6)?, epoch: row.get(7)? })
    }
}

/// The last message of each partition in an epoch that was published to Kafka. Partitions without a published message are left out.
pub(super) async fn relayed_positions(tx: &mut Tx, source: &str, epoch: i64) -> Result<HashMap<i64, i64>, DbError> {
    let found: Vec<(i64, i64)> = tx.query(&format!("select partition, seq from {source}_relay where epoch=$1"), &params![epoch]).await?;
    Ok(found.into_iter().collect())
}

/// Number of messages in an epoch, over all partitions.
pub(super) async fn count_numbered(tx: &mut Tx, source: &str, epoch: i64) -> Result<i64, DbError> {
    let sql = format!("select cast(coalesce(sum(seq), 0) as BIGINT) from {source}_heads where epoch=$1");
    let (numbered,): (i64,) = tx.query_one(&sql, &params![epoch]).await?;
    Ok(numbered)
}

/// Deletes messages of a partition that are older than a week and that every reader has `passed`, at most `limit`.
///
/// Looks only at the oldest rows, so that the cost does not grow with the stream. The last message always stays, because the next number
/// follows from it.
pub async fn prune(tx: &mut Tx, stream: StreamPartition, passed: i64, now: Timestamp, limit: i64) -> Result<u64, DbError> {
    let StreamPartition { source, epoch, partition } = stream;
    // Clocks of writers differ, so an older message may follow a younger one. Rows are deleted from the front only.
    let sql = format!(
        "select min(case when at>=$3 then seq end), max(seq), \
         (select coalesce(max(seq), 0) from {source}_outbox where epoch=$1 and partition=$2) \
         from (select seq, at from {source}_outbox where epoch=$1 and partition=$2 order by seq limit $4) as oldest"
    );
    let (young, last, head): (Option<i64>, Option<i64>, i64) =
        tx.query_one(&sql, &params![epoch, partition, now.before(RETENTION), limit]).await?;
    let Some(last) = last else { return Ok(0) };
    let kept = young.unwrap_or(last + 1).min(passed.saturating_add(1)).min(head);
    // One range, because PostgreSQL is slow with a long list of single numbers: it compares each with each.
    let sql = format!("delete from {source}_outbox where epoch=$1 and partition=$2 and seq<$3");
    tx.execute(&sql, &params![epoch, partition, kept]).await
}

/// Deletes a reader's delivery records older than a week, at most `limit` of each source.
pub async fn prune_deliveries(tx: &mut Tx, reader: &str, stream: StreamPartition, now: Timestamp, limit: i64) -> Result<u64, DbError> {
    let StreamPartition { source, epoch, partition } = stream;
    let sql = format!(
        "select max(case when at<$4 then from_seq end) from (select from_seq, at from {reader}_deliveries \
         where source=$1 and epoch=$2 and partition=$3 order by from_seq limit $5) as oldest"
    );
    let (last,): (Option<i64>,) = tx.query_one(&sql, &params![source, epoch, partition, now.before(RETENTION), limit]).await?;
    let Some(last) = last else { return Ok(0) };
    let sql = format!("delete from {reader}_deliveries where source=$1 and epoch=$2 and partition=$3 and from_seq<=$4 and at<$5");
    tx.execute(&sql, &params![source, epoch, partition, last, now.before(RETENTION)]).await
}

/// Earlier epochs of a service's stream, which have no readers any more.
pub(super) async fn older_streams(tx: &mut Tx, service: &str, epoch: i64) -> Result<Vec<Stream>, DbError> {
    let sql = format!("select epoch, partitions from {service}_stream where epoch<$1 order by epoch");
    let found: Vec<(i64, i64)> = tx.query(&sql, &params![epoch]).await?;
    Ok(found.into_iter().map(|(epoch, partitions)| Stream { epoch, partitions }).collect())
}

/// The partitions that a reader read in earlier epochs of a source.
pub(super) async fn older_partitions(tx: &mut Tx, reader: &str, stream: StreamPartition) -> Result<Vec<StreamPartition>, DbError> {
    let sql = format!("select epoch, partition from {reader}_positions where source=$1 and epoch<$2");
    let found: Vec<(i64, i64)> = tx.query(&sql, &params![stream.source, stream.epoch]).await?;
    Ok(found.into_iter().map(|(epoch, partition)| StreamPartition { source: stream.source, epoch, partition }).collect())
}

/// Lets a reader without a position begin with message `first`, although the messages before it are deleted.
///
/// A reader added by a new version needs this. Only a person can decide it, because a reader that lost its positions looks the same. The
/// skipped range stays on record as a delivery from number 0. A running process takes the position up within seconds.
///
/// # Errors
/// [`Fault::Fenced`] when the reader already has a position there, which is never changed.
pub async fn begin_at(tx: &mut Tx, reader: &str, stream: StreamPartition, first: i64, now: Timestamp) -> Result<(), Fault> {
    let StreamPartition { source, epoch, partition } = stream;
    let sql = format!("insert into {reader}_positions (source, epoch, partition, seq) values ($1,$2,$3,$4) on conflict do nothing");
    if tx.execute(&sql, &params![source, epoch, partition, first - 1]).await? != 1 {
        return Err(Fault::Fenced(format!("{reader} has a position in {source}:{epoch}:{partition} already")));
    }
    let sql = format!("insert into {reader}_deliveries (source, epoch, partition, from_seq, to_seq, at) values ($1,$2,$3,0,$4,$5)");
    tx.execute(&sql, &params![source, epoch, partition, first - 1, now]).await?;
    Ok(())
}

/// Deletes a reader's Kafka offsets, so that it finds its position by sequence number. Needed after a topic was created anew.
///
/// The reader starts at the oldest message the topics hold and skips nothing: at a missing number it stops as before. A running process
/// takes this up within seconds. Returns the number of partitions.
pub async fn reset_offsets(tx: &mut Tx, reader: &str, source: &str) -> Result<u64, DbError> {
    let sql = format!("update {reader}_positions set feed_offset=null where source=$1");
    tx.execute(&sql, &params![source]).await
}

/// Makes the relay publish everything that a service's outbox still holds, from the oldest message on. Readers skip messages they have
/// seen.
pub async fn publish_again(tx: &mut Tx, service: &str) -> Result<u64, DbError> {
    tx.execute(&format!("delete from {service}_relay"), &[]).await
}
