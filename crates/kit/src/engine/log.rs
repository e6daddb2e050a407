//! The SQL over streams and positions.

use super::{Envelope, Fault, streams::Mark};
use crate::db::{DbError, FromRow, Row, Tx, params};
use contracts::{Message, Timestamp};
use std::{collections::HashMap, time::Duration};
use uuid::Uuid;

/// Messages that every reader has passed are kept this long, for looking into what happened.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// The only partition of a stream that one process numbers as it writes.
pub(super) const PARTITION: i64 = 0;

/// A service's stream: which numbering it is in, and over how many partitions its keys are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    pub epoch: i64,
    pub partitions: i64,
}

impl Stream {
    /// Where messages about this key go. Ids are time-ordered: only their tail is random.
    pub fn partition_of(&self, key: Uuid) -> i64 {
        let tail = key.as_u64_pair().1;
        i64::try_from(tail % self.partitions.unsigned_abs().max(1)).unwrap_or(0)
    }
}

/// A service's stream; made with that many partitions if it is new. An existing one keeps its own.
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

/// The number of the last message. Retention keeps that message, so that its number is known.
pub(super) async fn head(tx: &mut Tx, service: &str, epoch: i64, partition: i64) -> Result<i64, DbError> {
    let sql = format!("select coalesce(max(seq), 0) from {service}_outbox where epoch=$1 and partition=$2");
    let (head,): (i64,) = tx.query_one(&sql, &params![epoch, partition]).await?;
    Ok(head)
}

/// How far a reader is in one partition, and where on Kafka that was.
pub(super) async fn position(tx: &mut Tx, reader: &str, place: Place) -> Result<(i64, Option<i64>), DbError> {
    let sql = format!("select seq, feed_offset from {reader}_positions where source=$1 and epoch=$2 and partition=$3");
    let found: Option<(i64, Option<i64>)> = tx.query_opt(&sql, &params![place.source, place.epoch, place.partition]).await?;
    Ok(found.unwrap_or((0, None)))
}

/// The numbering a reader was last in.
pub(super) async fn last_epoch(tx: &mut Tx, reader: &str, place: Place) -> Result<Option<i64>, DbError> {
    let sql = format!("select epoch from {reader}_positions where source=$1 and partition=$2 order by epoch desc limit 1");
    let found: Option<(i64,)> = tx.query_opt(&sql, &params![place.source, place.partition]).await?;
    Ok(found.map(|(epoch,)| epoch))
}

/// Writes messages that carry their numbers already.
pub(super) async fn append(tx: &mut Tx, source: &str, epoch: i64, messages: &[&Envelope]) -> Result<(), Fault> {
    let sql = format!("insert into {source}_outbox (epoch, partition, seq, key, kind, data, at, trace) values ($1,$2,$3,$4,$5,$6,$7,$8)");
    let encoded = encode(messages)?;
    let rows = encoded.iter().map(|(envelope, data)| {
        params![epoch, PARTITION, envelope.seq, envelope.key, envelope.message.kind(), data, envelope.at, envelope.trace]
    });
    tx.execute_many(&sql, rows).await?;
    Ok(())
}

/// Writes messages that the sequencer numbers once they are committed.
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

/// One partition of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub source: &'static str,
    pub epoch: i64,
    pub partition: i64,
}

/// A reader's move over one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub place: Place,
    pub from: i64,
    pub to: Mark,
}

/// Moves a reader on where it still is where this process believes it to be: a zombie changes no row and its transaction must roll back.
pub(super) async fn advance(tx: &mut Tx, reader: &str, moves: &[Move], now: Timestamp) -> Result<(), Fault> {
    let (first, later): (Vec<&Move>, Vec<&Move>) = moves.iter().partition(|step| step.from == 0);
    let begin = format!(
        "insert into {reader}_positions (source, epoch, partition, seq, feed_offset) values ($1,$2,$3,$4,$5) \
         on conflict (source, epoch, partition) do update set seq=$4, feed_offset=$5 where {reader}_positions.seq=$6"
    );
    let go_on = format!("update {reader}_positions set seq=$4, feed_offset=$5 where source=$1 and epoch=$2 and partition=$3 and seq=$6");
    for (sql, moves) in [(begin, first), (go_on, later)] {
        if moves.is_empty() {
            continue;
        }
        let row = |step: &&Move| {
            let Place { source, epoch, partition } = step.place;
            params![source, epoch, partition, step.to.seq, step.to.offset, step.from]
        };
        let moved = tx.execute_many(&sql, moves.iter().map(row)).await?;
        if let Some((step, _)) = moves.iter().zip(&moved).find(|(_, moved)| **moved != 1) {
            let Place { source, epoch, partition } = step.place;
            return Err(Fault::Fenced(format!("{reader} is not at {source}:{epoch}:{partition}:{} any more", step.from)));
        }
    }
    let sql = format!("insert into {reader}_deliveries (source, epoch, partition, from_seq, to_seq, at) values ($1,$2,$3,$4,$5,$6)");
    let row = |step: &Move| params![step.place.source, step.place.epoch, step.place.partition, step.from + 1, step.to.seq, now];
    tx.execute_many(&sql, moves.iter().map(row)).await?;
    Ok(())
}

/// A message as it is stored.
#[derive(Clone, Debug)]
pub struct Stored {
    pub seq: i64,
    pub key: Uuid,
    pub kind: String,
    pub data: String,
    pub at: Timestamp,
    pub trace: Option<Uuid>,
    /// Where it is on Kafka, if it came from there.
    pub offset: Option<i64>,
}

impl FromRow for Stored {
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

impl Stored {
    pub fn of(envelope: &Envelope) -> Result<Self, Fault> {
        let Envelope { seq, key, at, trace, ref message, .. } = *envelope;
        let data = message.encode().map_err(|error| Fault::Bug(format!("a message does not serialize: {error}")))?;
        Ok(Self { seq, key, kind: message.kind().to_owned(), data, at, trace, offset: None })
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { seq: self.seq, offset: self.offset }
    }

    pub fn decode(&self, source: &'static str) -> Result<Envelope, Fault> {
        let message = Message::decode(&self.kind, &self.data)?;
        Ok(Envelope { source, seq: self.seq, key: self.key, message, at: self.at, trace: self.trace })
    }
}

/// All of a message.
pub(super) const WHOLE: &str = "data";

/// The messages of each of these partitions of one stream behind a number, in order, at most `limit` of each. `data` says in SQL what of
/// them is wanted.
pub(super) async fn read(tx: &mut Tx, source: &str, from: &[(Place, i64)], data: &str, limit: i64) -> Result<Vec<Vec<Stored>>, DbError> {
    let sql = format!(
        "select seq, key, kind, {data}, at, trace, partition, epoch from {source}_outbox \
         where epoch=$1 and partition=$2 and seq>$3 order by seq limit $4"
    );
    let rows = from.iter().map(|(place, after)| params![place.epoch, place.partition, *after, limit]);
    let found: Vec<Found> = tx.query_many(&sql, rows).await?;
    let mut found = found.into_iter().peekable();
    let mut next = |place: &Place| {
        let own = |found: &Found| (found.epoch, found.partition) == (place.epoch, place.partition);
        std::iter::from_fn(|| found.next_if(own).map(|found| found.stored)).collect()
    };
    Ok(from.iter().map(|(place, _)| next(place)).collect())
}

struct Found {
    stored: Stored,
    partition: i64,
    epoch: i64,
}

impl FromRow for Found {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { stored: Stored::from_row(row)?, partition: row.get(6)?, epoch: row.get(7)? })
    }
}

/// The last message of each partition of a numbering that was published to Kafka; partitions without one are missing.
pub(super) async fn relayed(tx: &mut Tx, source: &str, epoch: i64) -> Result<HashMap<i64, i64>, DbError> {
    let found: Vec<(i64, i64)> = tx.query(&format!("select partition, seq from {source}_relay where epoch=$1"), &params![epoch]).await?;
    Ok(found.into_iter().collect())
}

/// How many messages a numbering has, over all partitions.
pub(super) async fn numbered(tx: &mut Tx, source: &str, epoch: i64) -> Result<i64, DbError> {
    let sql = format!("select cast(coalesce(sum(seq), 0) as BIGINT) from {source}_heads where epoch=$1");
    let (numbered,): (i64,) = tx.query_one(&sql, &params![epoch]).await?;
    Ok(numbered)
}

/// Drops messages of a partition that are older than a week and that every reader has `passed`, at most `limit`. Looks only at the oldest
/// rows, so that its cost does not grow with the stream. The last message always stays: it holds the number the next one follows.
pub async fn prune(tx: &mut Tx, place: Place, passed: i64, now: Timestamp, limit: i64) -> Result<u64, DbError> {
    let Place { source, epoch, partition } = place;
    // Several writers' clocks: an older message may stand behind a younger one, and nothing may go from the middle.
    let sql = format!(
        "select min(case when at>=$3 then seq end), max(seq), \
         (select coalesce(max(seq), 0) from {source}_outbox where epoch=$1 and partition=$2) \
         from (select seq, at from {source}_outbox where epoch=$1 and partition=$2 order by seq limit $4) as oldest"
    );
    let (young, last, head): (Option<i64>, Option<i64>, i64) =
        tx.query_one(&sql, &params![epoch, partition, now.before(KEPT), limit]).await?;
    let Some(last) = last else { return Ok(0) };
    let kept = young.unwrap_or(last + 1).min(passed.saturating_add(1)).min(head);
    // One range: named one by one, PostgreSQL compares each of them with each.
    let sql = format!("delete from {source}_outbox where epoch=$1 and partition=$2 and seq<$3");
    tx.execute(&sql, &params![epoch, partition, kept]).await
}

/// Drops a reader's delivery records of more than a week ago, at most `limit` of each source.
pub async fn prune_deliveries(tx: &mut Tx, reader: &str, place: Place, now: Timestamp, limit: i64) -> Result<u64, DbError> {
    let Place { source, epoch, partition } = place;
    let sql = format!(
        "select max(case when at<$4 then from_seq end) from (select from_seq, at from {reader}_deliveries \
         where source=$1 and epoch=$2 and partition=$3 order by from_seq limit $5) as oldest"
    );
    let (last,): (Option<i64>,) = tx.query_one(&sql, &params![source, epoch, partition, now.before(KEPT), limit]).await?;
    let Some(last) = last else { return Ok(0) };
    let sql = format!("delete from {reader}_deliveries where source=$1 and epoch=$2 and partition=$3 and from_seq<=$4 and at<$5");
    tx.execute(&sql, &params![source, epoch, partition, last, now.before(KEPT)]).await
}

/// The numberings a service's stream was in before this one. Nobody reads them any more.
pub(super) async fn older_streams(tx: &mut Tx, service: &str, epoch: i64) -> Result<Vec<Stream>, DbError> {
    let sql = format!("select epoch, partitions from {service}_stream where epoch<$1 order by epoch");
    let found: Vec<(i64, i64)> = tx.query(&sql, &params![epoch]).await?;
    Ok(found.into_iter().map(|(epoch, partitions)| Stream { epoch, partitions }).collect())
}

/// Where a reader was in numberings of a source before this one: epoch and partition.
pub(super) async fn older_places(tx: &mut Tx, reader: &str, place: Place) -> Result<Vec<Place>, DbError> {
    let sql = format!("select epoch, partition from {reader}_positions where source=$1 and epoch<$2");
    let found: Vec<(i64, i64)> = tx.query(&sql, &params![place.source, place.epoch]).await?;
    Ok(found.into_iter().map(|(epoch, partition)| Place { source: place.source, epoch, partition }).collect())
}

/// Lets a reader that has read nothing of a partition yet begin with message `first`, although the ones before it are not kept any more:
/// what a reader that came with a new version needs, and what only a person can decide, for it looks the same as one that lost its
/// positions. That it did not read them stays on record, as a delivery from number 0. A running process takes it up within seconds.
///
/// # Errors
/// [`Fault::Fenced`] when the reader has a position there, which is never changed.
pub async fn begin_at(tx: &mut Tx, reader: &str, place: Place, first: i64, now: Timestamp) -> Result<(), Fault> {
    let Place { source, epoch, partition } = place;
    let sql = format!("insert into {reader}_positions (source, epoch, partition, seq) values ($1,$2,$3,$4) on conflict do nothing");
    if tx.execute(&sql, &params![source, epoch, partition, first - 1]).await? != 1 {
        return Err(Fault::Fenced(format!("{reader} has a position in {source}:{epoch}:{partition} already")));
    }
    let sql = format!("insert into {reader}_deliveries (source, epoch, partition, from_seq, to_seq, at) values ($1,$2,$3,0,$4,$5)");
    tx.execute(&sql, &params![source, epoch, partition, first - 1, now]).await?;
    Ok(())
}

/// Has a reader over Kafka look for its place by the messages' numbers, from the first that the topics still hold: after a topic was made
/// anew. It skips nothing: where the next number is missing, it stops as before. The number of partitions. A running process takes it up
/// within seconds.
pub async fn find_by_number(tx: &mut Tx, reader: &str, source: &str) -> Result<u64, DbError> {
    let sql = format!("update {reader}_positions set feed_offset=null where source=$1");
    tx.execute(&sql, &params![source]).await
}

/// Has the relay publish again what the outbox of a service still holds, from the oldest. Readers pass over what they have seen.
pub async fn publish_again(tx: &mut Tx, service: &str) -> Result<u64, DbError> {
    tx.execute(&format!("delete from {service}_relay"), &[]).await
}
