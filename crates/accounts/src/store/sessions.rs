//! SQL over `accounts_sessions` and `accounts_refresh_tokens`.

use super::unknown;
use crate::model::{EndReason, OpenSessionCard, RefreshToken, SecretDigest, Session, TokenState};
use contracts::{MemberId, Timestamp};
use kit::{
    DbError, Row, Tx,
    auth::TOKEN_LIFETIME,
    db::{FromRow, params},
};
use std::collections::HashSet;
use uuid::Uuid;

impl FromRow for Session {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Session { id: row.get(0)?, member_id: row.get(1)?, created_at: row.get(2)?, expires_at: row.get(3)?, revoked_at: row.get(4)? })
    }
}

impl FromRow for OpenSessionCard {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(OpenSessionCard {
            id: row.get(0)?,
            created_at: row.get(1)?,
            expires_at: row.get(2)?,
            token_issued_at: row.get(3)?,
            cookie_expires_at: row.get(4)?,
        })
    }
}

impl FromRow for RefreshToken {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let state: String = row.get(2)?;
        Ok(RefreshToken {
            hash: row.get(0)?,
            session_id: row.get(1)?,
            state: TokenState::parse(&state).ok_or_else(|| unknown(2, &state))?,
            issued_at: row.get(3)?,
            expires_at: row.get(4)?,
        })
    }
}

pub async fn insert<'s>(tx: &mut Tx, sessions: impl IntoIterator<Item = &'s Session>) -> Result<(), DbError> {
    let sql = "insert into accounts_sessions (id, member_id, created_at, expires_at) values ($1,$2,$3,$4)";
    let rows = sessions.into_iter().map(|session| params![session.id, session.member_id, session.created_at, session.expires_at]);
    tx.execute_many(sql, rows).await.map(|_| ())
}

pub async fn lock(tx: &mut Tx, ids: impl IntoIterator<Item = Uuid>) -> Result<Vec<Session>, DbError> {
    let mut ids: Vec<Uuid> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    let sql = "select id, member_id, created_at, expires_at, revoked_at from accounts_sessions where id=$1 for update";
    tx.query_many(sql, ids.into_iter().map(|id| params![id])).await
}

/// The open sessions of a member, without a lock: the caller locks the sessions of several members together, in one order.
pub async fn open_of(tx: &mut Tx, member_id: MemberId) -> Result<Vec<Uuid>, DbError> {
    let sql = "select id from accounts_sessions where member_id=$1 and revoked_at is null";
    let found: Vec<(Uuid,)> = tx.query(sql, &params![member_id]).await?;
    Ok(found.into_iter().map(|(id,)| id).collect())
}

/// A member's open sessions, newest first, older than `after`. A session without a valid token or cookie is open for as long as its first
/// access token.
pub async fn page_of(
    tx: &mut Tx,
    member_id: MemberId,
    after: Option<Uuid>,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<OpenSessionCard>, DbError> {
    let sql = "select s.id, s.created_at, s.expires_at, t.issued_at, w.expires_at from accounts_sessions s \
               left join accounts_refresh_tokens t on t.session_id=s.id and t.state='LIVE' and t.expires_at>$3 \
               left join accounts_web_sessions w on w.session_id=s.id and w.expires_at>$3 \
               where s.member_id=$1 and ($2 is null or s.id<$2) and s.revoked_at is null and s.expires_at>$3 \
               and (t.session_id is not null or w.session_id is not null or s.created_at>$4) order by s.id desc limit $5";
    tx.query(sql, &params![member_id, after, now, now.before(TOKEN_LIFETIME), limit]).await
}

/// Those of the sessions that belong to the member.
pub async fn owned(tx: &mut Tx, owners: &[(Uuid, MemberId)]) -> Result<Vec<Uuid>, DbError> {
    let sql = "select id from accounts_sessions where id=$1 and member_id=$2";
    let found: Vec<(Uuid,)> = tx.query_many(sql, owners.iter().map(|(id, member_id)| params![*id, *member_id])).await?;
    Ok(found.into_iter().map(|(id,)| id).collect())
}

/// Ends sessions, given in the order of their ids, and revokes their live tokens. A session that ended before keeps its time and reason.
pub async fn revoke(tx: &mut Tx, ids: &[Uuid], reason: EndReason, now: Timestamp) -> Result<(), DbError> {
    let sql = "update accounts_sessions set revoked_at=$2, reason=$3 where id=$1 and revoked_at is null";
    tx.execute_many(sql, ids.iter().map(|id| params![*id, now, reason.as_str()])).await?;
    let sql = "update accounts_refresh_tokens set state='REVOKED' where session_id=$1 and state='LIVE'";
    tx.execute_many(sql, ids.iter().map(|id| params![*id])).await?;
    Ok(())
}

/// Sessions that ended at or after `since`, with their times.
pub async fn revoked_since(tx: &mut Tx, since: Timestamp) -> Result<Vec<(Uuid, Timestamp)>, DbError> {
    let sql = "select id, revoked_at from accounts_sessions where revoked_at is not null and revoked_at>=$1";
    tx.query(sql, &params![since]).await
}

/// The sessions of these tokens.
pub async fn of_tokens(tx: &mut Tx, hashes: &[&SecretDigest]) -> Result<Vec<Uuid>, DbError> {
    let sql = "select session_id from accounts_refresh_tokens where token_hash=$1";
    let found: Vec<(Uuid,)> = tx.query_many(sql, hashes.iter().map(|hash| params![*hash])).await?;
    Ok(found.into_iter().map(|(id,)| id).collect())
}

pub async fn lock_tokens(tx: &mut Tx, hashes: &[&SecretDigest]) -> Result<Vec<RefreshToken>, DbError> {
    let mut hashes = hashes.to_vec();
    hashes.sort_unstable();
    hashes.dedup();
    let sql = "select token_hash, session_id, state, issued_at, expires_at from accounts_refresh_tokens where token_hash=$1 for update";
    tx.query_many(sql, hashes.into_iter().map(|hash| params![hash])).await
}

pub async fn insert_tokens<'t>(tx: &mut Tx, tokens: impl IntoIterator<Item = &'t RefreshToken>) -> Result<(), DbError> {
    let sql = "insert into accounts_refresh_tokens (token_hash, session_id, state, issued_at, expires_at) values ($1,$2,$3,$4,$5)";
    let rows =
        tokens.into_iter().map(|token| params![&token.hash, token.session_id, token.state.as_str(), token.issued_at, token.expires_at]);
    tx.execute_many(sql, rows).await.map(|_| ())
}

pub async fn save_tokens<'t>(tx: &mut Tx, tokens: impl IntoIterator<Item = &'t RefreshToken>) -> Result<(), DbError> {
    let sql = "update accounts_refresh_tokens set state=$2 where token_hash=$1";
    tx.execute_many(sql, tokens.into_iter().map(|token| params![&token.hash, token.state.as_str()])).await.map(|_| ())
}

/// Refresh tokens after this one in the order of their digests, at most `limit`.
pub async fn tokens_after(tx: &mut Tx, after: &SecretDigest, limit: i64) -> Result<Vec<RefreshToken>, DbError> {
    let sql = "select token_hash, session_id, state, issued_at, expires_at from accounts_refresh_tokens where token_hash>$1 \
               order by token_hash limit $2";
    tx.query(sql, &params![after, limit]).await
}

/// Deletes those of these tokens that cannot be used and have expired by `now`, without a lock of their sessions.
pub async fn prune_tokens<'h>(tx: &mut Tx, hashes: impl IntoIterator<Item = &'h SecretDigest>, now: Timestamp) -> Result<(), DbError> {
    let sql = "delete from accounts_refresh_tokens where token_hash=$1 and state<>'LIVE' and expires_at<=$2";
    tx.execute_many(sql, hashes.into_iter().map(|hash| params![hash, now])).await.map(|_| ())
}

/// Deletes at most `limit` sessions that expired before `before`, with their cookies and tokens, and at most `max_tokens` tokens.
/// Returns true if others remain.
pub async fn prune(tx: &mut Tx, before: Timestamp, limit: i64, max_tokens: usize) -> Result<bool, DbError> {
    let sql = "select id from accounts_sessions where expires_at<$1 order by expires_at limit $2";
    let old: Vec<(Uuid,)> = tx.query(sql, &params![before, limit]).await?;
    let is_full = i64::try_from(old.len()).is_ok_and(|count| count == limit);
    let old = lock(tx, old.into_iter().map(|(id,)| id)).await?;
    let sql = format!("select session_id, token_hash from accounts_refresh_tokens where session_id=$1 limit {max_tokens}");
    let tokens: Vec<(Uuid, SecretDigest)> = tx.query_many(&sql, old.iter().map(|session| params![session.id])).await?;
    let (now, later) = tokens.split_at(tokens.len().min(max_tokens));
    tx.execute_many("delete from accounts_refresh_tokens where token_hash=$1", now.iter().map(|(_, hash)| params![hash])).await?;
    // A session with exactly so many tokens may have more of them.
    let mut is_kept: HashSet<Uuid> = later.iter().map(|(session_id, _)| *session_id).collect();
    is_kept.extend(tokens.chunk_by(|one, next| one.0 == next.0).filter(|chunk| chunk.len() == max_tokens).map(|chunk| chunk[0].0));
    let ended: Vec<Uuid> = old.iter().map(|session| session.id).filter(|id| !is_kept.contains(id)).collect();
    tx.execute_many("delete from accounts_web_sessions where session_id=$1", ended.iter().map(|id| params![*id])).await?;
    tx.execute_many("delete from accounts_sessions where id=$1", ended.iter().map(|id| params![*id])).await?;
    Ok(is_full || !is_kept.is_empty())
}
