//! Dead letters: messages that a reader could not act on, and messages of the same keys that are parked behind them.
//!
//! A message that fails is first set aside, marked to be retried. It becomes dead when it has failed for long enough.

use super::{fault::Fault, log::StoredMessage, position::StreamPartition};
use contracts::Timestamp;
use db::{DbError, FromRow, Row, Tx, params};
use serde::Serialize;
use uuid::Uuid;

/// Dead letters of one reader retried in one pass. Bounded because callers wait meanwhile.
pub(super) const REDRIVE_LIMIT: i64 = 100;
/// Keys of one reader looked at in one pass. More wait for the next one.
const KEY_LIMIT: i64 = 1_000;
const PARKED_REASON: &str = "waits behind a dead letter of its key";

/// Keys with a dead or parked message. Later messages of these keys are parked, too.
pub(super) async fn parked_keys(tx: &mut Tx, reader: &str) -> Result<Vec<(String, Uuid)>, DbError> {
    let sql = format!("select distinct source, key from {reader}_dead_letters where state in ('dead', 'parked', 'redrive')");
    tx.query(&sql, &[]).await
}

/// Writes one reader's dead letters from one stream partition.
pub(super) struct DeadLetterStore {
    pub reader: &'static str,
    pub stream: StreamPartition,
    pub now: Timestamp,
}

impl DeadLetterStore {
    /// Stores a message that failed, marked to be retried.
    pub async fn set_aside(&self, tx: &mut Tx, stored: &StoredMessage, error: &str) -> Result<(), DbError> {
        self.insert(tx, stored, "redrive", error).await
    }

    /// Stores a message that failed for good.
    pub async fn dead_letter(&self, tx: &mut Tx, stored: &StoredMessage, error: &str) -> Result<(), DbError> {
        self.insert(tx, stored, "dead", error).await
    }

    /// Stores a message whose key has a dead letter. A repeat of the key's last parked message is passed over: a retry handles that one, and
    /// readers handle repeats only once anyway.
    pub async fn park(&self, tx: &mut Tx, stored: &StoredMessage) -> Result<(), DbError> {
        let reader = self.reader;
        let sql = format!(
            "select kind, data from {reader}_dead_letters where state='parked' and source=$1 and key=$2 order by epoch desc, seq desc limit 1"
        );
        let last: Option<(String, String)> = tx.query_opt(&sql, &params![self.stream.source, stored.key]).await?;
        if last.is_some_and(|(kind, data)| kind == stored.kind && data == stored.data) {
            metrics::counter!("onrush_parked_repeats_total", "reader" => reader).increment(1);
            return Ok(());
        }
        self.insert(tx, stored, "parked", PARKED_REASON).await
    }

    async fn insert(&self, tx: &mut Tx, stored: &StoredMessage, state: &str, error: &str) -> Result<(), DbError> {
        let DeadLetterStore { reader, stream: StreamPartition { source, epoch, partition }, now } = *self;
        let StoredMessage { seq, key, ref kind, ref data, at, trace, .. } = *stored;
        let sql = format!(
            "insert into {reader}_dead_letters (source, epoch, partition, seq, key, kind, data, written_at, trace, error, state, at) \
             values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12)"
        );
        tx.execute(&sql, &params![source, epoch, partition, seq, key, kind, data, at, trace, error, state, now]).await?;
        Ok(())
    }
}

/// A message that a reader could not act on, or that is parked behind one of the same key.
#[derive(Clone, Debug, Serialize)]
pub struct DeadLetter {
    pub reader: String,
    pub source: String,
    pub epoch: i64,
    pub partition: i64,
    pub seq: i64,
    pub key: Uuid,
    pub kind: String,
    pub data: String,
    pub written_at: Timestamp,
    pub trace: Option<Uuid>,
    pub error: String,
    /// `dead`: failed itself. `parked`: waits behind a dead one. `redrive`: marked to be retried, by an operator or because it failed a moment ago.
    pub state: String,
    /// Time at which the message was stored as a dead letter.
    pub at: Timestamp,
}

impl FromRow for DeadLetter {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            reader: row.get(0)?,
            source: row.get(1)?,
            epoch: row.get(2)?,
            partition: row.get(3)?,
            seq: row.get(4)?,
            key: row.get(5)?,
            kind: row.get(6)?,
            data: row.get(7)?,
            written_at: row.get(8)?,
            trace: row.get(9)?,
            error: row.get(10)?,
            state: row.get(11)?,
            at: row.get(12)?,
        })
    }
}

fn select(reader: &str) -> String {
    format!(
        "select '{reader}', source, epoch, partition, seq, key, kind, data, written_at, trace, error, state, at from {reader}_dead_letters as letter"
    )
}

/// A reader's unresolved dead letters, in stream order.
pub async fn list_dead_letters(tx: &mut Tx, reader: &str) -> Result<Vec<DeadLetter>, DbError> {
    let sql = format!("{} where state in ('dead', 'parked', 'redrive') order by source, epoch, partition, seq", select(reader));
    tx.query(&sql, &[]).await
}

/// Marks a reader's dead letters for a retry: all, or those of one key. The engine retries them. Returns the number marked.
pub async fn request_redrive(tx: &mut Tx, reader: &str, key: Option<Uuid>) -> Result<u64, DbError> {
    let sql = format!("update {reader}_dead_letters set state='redrive' where state in ('dead', 'parked') and ($1 is null or key=$1)");
    tx.execute(&sql, &params![key]).await
}

/// Sources and keys whose oldest open message is to be retried, those that came first first.
///
/// A parked message without a dead one before it counts, too: it was parked while the message before it was resolved.
pub(super) async fn find_retried_keys(tx: &mut Tx, reader: &str) -> Result<Vec<(String, Uuid)>, DbError> {
    let place = "(epoch << 40) + seq";
    let sql = format!(
        "select source, key from {reader}_dead_letters where state in ('dead', 'parked', 'redrive') group by source, key \
         having coalesce(min({place}) < min(case when state='dead' then {place} end), true) order by source, min({place}), key limit $1"
    );
    tx.query(&sql, &params![KEY_LIMIT]).await
}

/// The next messages of a key to retry: those without a dead one before them.
///
/// Within an epoch a key is in one partition, so epoch and sequence number order the messages of a key.
pub(super) async fn find_redrivable(
    tx: &mut Tx,
    reader: &str,
    (source, key): &(String, Uuid),
    limit: i64,
) -> Result<Vec<DeadLetter>, DbError> {
    let sql = format!(
        "{} where source=$1 and key=$2 and state in ('redrive', 'parked') and not exists ( \
           select 1 from {reader}_dead_letters as other where other.state='dead' and other.source=letter.source \
           and other.key=letter.key and (other.epoch<letter.epoch or other.epoch=letter.epoch and other.seq<letter.seq)) \
         order by epoch, partition, seq limit $3",
        select(reader),
    );
    tx.query(&sql, &params![source, *key, limit]).await
}

/// Marks a dead letter as handled. `Err`: another instance was faster, and the reader's transaction must roll back.
pub(super) async fn resolve(tx: &mut Tx, dead_letter: &DeadLetter, now: Timestamp) -> Result<(), Fault> {
    let sql = format!(
        "update {}_dead_letters set state='resolved', resolved_at=$5 \
         where source=$1 and epoch=$2 and partition=$3 and seq=$4 and state<>'resolved'",
        dead_letter.reader
    );
    match tx.execute(&sql, &params![&dead_letter.source, dead_letter.epoch, dead_letter.partition, dead_letter.seq, now]).await? {
        1 => Ok(()),
        _ => Err(Fault::Fenced(format!(
            "the dead letter {} <- {}:{} is already resolved",
            dead_letter.reader, dead_letter.source, dead_letter.seq
        ))),
    }
}

/// Records that a message failed for good: it is dead, and marked messages of its key are parked behind it again.
pub(super) async fn mark_dead(tx: &mut Tx, dead_letter: &DeadLetter, error: &str) -> Result<(), DbError> {
    let sql = format!(
        "update {}_dead_letters set state='parked' where state='redrive' and source=$1 and key=$2 and (epoch>$3 or epoch=$3 and seq>$4)",
        dead_letter.reader
    );
    tx.execute(&sql, &params![&dead_letter.source, dead_letter.key, dead_letter.epoch, dead_letter.seq]).await?;
    let sql = format!(
        "update {}_dead_letters set state='dead', error=$5 where source=$1 and epoch=$2 and partition=$3 and seq=$4 and state<>'resolved'",
        dead_letter.reader
    );
    tx.execute(&sql, &params![&dead_letter.source, dead_letter.epoch, dead_letter.partition, dead_letter.seq, error]).await?;
    Ok(())
}
