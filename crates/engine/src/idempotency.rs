//! Idempotency keys: the answer is stored in the transaction of the effect, and repeated byte for byte.
//!
//! A key belongs to a member and an operation. A repeat is refused while the answer is still open, for instance during a checkout that
//! the caller waits for.

use super::answer::Answer;
use contracts::Timestamp;
use db::{DbError, FromRow, Row, Tx, params};
use std::{collections::HashMap, time::Duration};
use uuid::Uuid;

/// Retention of answers: 24 hours. A repeat after that is a new request.
pub const RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Longest accepted key, in bytes.
pub const MAX_KEY_LENGTH: usize = 255;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Owner of the key. The same text from another member is another key.
    pub scope: Uuid,
    pub key: String,
    /// SHA-256 of method, path and body.
    pub request_hash: [u8; 32],
}

#[derive(Debug)]
pub enum KeyState {
    Fresh,
    Answered(Answer),
    OtherRequest,
    Running,
}

type StoredAnswer = (Vec<u8>, Option<i64>, Option<Vec<u8>>, Option<String>);

/// Looks up the state of a key for this request.
pub async fn look_up(tx: &mut Tx, service: &str, operation: &str, key: &IdempotencyKey) -> Result<KeyState, DbError> {
    let states = look_up_all(tx, service, operation, &[key]).await?;
    Ok(states.into_iter().next().unwrap_or(KeyState::Fresh))
}

/// Looks up the keys of many requests, in their order.
pub async fn look_up_all(tx: &mut Tx, service: &str, operation: &str, keys: &[&IdempotencyKey]) -> Result<Vec<KeyState>, DbError> {
    let sql = format!(
        "select scope, key, request_hash, status, body, location from {service}_idempotency where scope=$1 and operation=$2 and key=$3"
    );
    let found: Vec<StoredKey> = tx.query_many(&sql, keys.iter().map(|key| params![key.scope, operation, &key.key])).await?;
    let by_key: HashMap<(Uuid, &str), &StoredKey> = found.iter().map(|row| ((row.scope, row.key.as_str()), row)).collect();
    Ok(keys.iter().map(|key| by_key.get(&(key.scope, key.key.as_str())).map_or(KeyState::Fresh, |row| row.state_for(key))).collect())
}

/// A key as it is stored.
struct StoredKey {
    scope: Uuid,
    key: String,
    request_hash: Vec<u8>,
    status: Option<i64>,
    body: Option<Vec<u8>>,
    location: Option<String>,
}

impl FromRow for StoredKey {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let (scope, key, request_hash) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Self { scope, key, request_hash, status: row.get(3)?, body: row.get(4)?, location: row.get(5)? })
    }
}

impl StoredKey {
    fn state_for(&self, key: &IdempotencyKey) -> KeyState {
        match self.status {
            _ if self.request_hash != key.request_hash => KeyState::OtherRequest,
            None => KeyState::Running,
            Some(status) => KeyState::Answered(Answer {
                status: u16::try_from(status).unwrap_or(500),
                body: self.body.clone().unwrap_or_default().into(),
                location: self.location.clone(),
                replayed: true,
            }),
        }
    }
}

/// Stores keys with their answers, or without while the answer is open.
pub async fn store(
    tx: &mut Tx,
    service: &str,
    operation: &str,
    answers: &[(&IdempotencyKey, Option<&Answer>)],
    now: Timestamp,
) -> Result<(), DbError> {
    let sql = format!(
        "insert into {service}_idempotency (scope, operation, key, request_hash, status, body, location, at) values ($1,$2,$3,$4,$5,$6,$7,$8)"
    );
    let rows = answers.iter().map(|(key, answer)| {
        let status = answer.map(|answer| i64::from(answer.status));
        let body = answer.map(|answer| answer.body.as_ref());
        let location = answer.and_then(|answer| answer.location.as_deref());
        params![key.scope, operation, &key.key, &key.request_hash, status, body, location, now]
    });
    tx.execute_many(&sql, rows).await?;
    Ok(())
}

/// The answer for a key that is still open.
pub struct Completion<'s> {
    pub operation: &'s str,
    pub scope: Uuid,
    pub key: &'s str,
    pub answer: &'s Answer,
}

/// Stores the answers of open keys. An answer is stored once, and later calls change nothing. Returns true for each key that this call
/// completed.
pub async fn complete(tx: &mut Tx, service: &str, completions: &[Completion<'_>]) -> Result<Vec<bool>, DbError> {
    let sql = format!(
        "update {service}_idempotency set status=$4, body=$5, location=$6 where scope=$1 and operation=$2 and key=$3 and status is null"
    );
    let rows = completions.iter().map(|Completion { operation, scope, key, answer }| {
        params![*scope, *operation, *key, i64::from(answer.status), answer.body.as_ref(), answer.location.as_deref()]
    });
    Ok(tx.execute_many(&sql, rows).await?.into_iter().map(|changed| changed == 1).collect())
}

/// The stored answer of a key. `None`: the key is unknown or still open.
pub async fn answer(tx: &mut Tx, service: &str, operation: &str, scope: Uuid, key: &str) -> Result<Option<Answer>, DbError> {
    let sql = format!("select request_hash, status, body, location from {service}_idempotency where scope=$1 and operation=$2 and key=$3");
    let found: Option<StoredAnswer> = tx.query_opt(&sql, &params![scope, operation, key]).await?;
    Ok(found.and_then(|(_, status, body, location)| {
        Some(Answer { status: u16::try_from(status?).ok()?, body: body?.into(), location, replayed: false })
    }))
}

/// Deletes the keys of these owners with their answers. Keys whose answer is still open stay.
pub async fn forget(tx: &mut Tx, service: &str, scopes: &[Uuid]) -> Result<(), DbError> {
    let sql = format!("delete from {service}_idempotency where scope=$1 and status is not null");
    tx.execute_many(&sql, scopes.iter().map(|scope| params![*scope])).await.map(|_| ())
}

/// Deletes keys older than [`RETENTION`], at most `limit` in a call.
pub async fn prune(tx: &mut Tx, service: &str, now: Timestamp, limit: i64) -> Result<u64, DbError> {
    let sql = format!(
        "delete from {service}_idempotency where (scope, operation, key) in \
         (select scope, operation, key from {service}_idempotency where at < $1 and status is not null limit $2)"
    );
    tx.execute(&sql, &params![now.before(RETENTION), limit]).await
}
