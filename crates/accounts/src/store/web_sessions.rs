//! SQL over `accounts_web_sessions`.

use super::{sessions, unknown};
use crate::model::{SecretDigest, SessionCookie};
use contracts::{MemberId, Timestamp};
use kit::{
    DbError, Row, Tx,
    auth::Role,
    db::{FromRow, params},
};
use uuid::Uuid;

/// A cookie with its member and the expiry of its session.
pub struct CookieWithMember {
    pub cookie: SessionCookie,
    pub member_id: MemberId,
    pub role: Role,
    pub session_ends: Timestamp,
}

impl FromRow for CookieWithMember {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let role: String = row.get(4)?;
        Ok(CookieWithMember {
            cookie: SessionCookie { hash: row.get(0)?, session_id: row.get(1)?, expires_at: row.get(2)? },
            member_id: row.get(3)?,
            role: role.parse::<Role>().map_err(|_| unknown(4, &role))?,
            session_ends: row.get(5)?,
        })
    }
}

/// A cookie that is valid at `now`, without a lock. `None`: unknown, expired, or its session or member is not active.
pub async fn find(tx: &mut Tx, hash: &SecretDigest, now: Timestamp) -> Result<Option<CookieWithMember>, DbError> {
    let sql = "select w.hash, w.session_id, w.expires_at, s.member_id, m.role, s.expires_at from accounts_web_sessions w \
               join accounts_sessions s on s.id=w.session_id join accounts_members m on m.id=s.member_id \
               where w.hash=$1 and w.expires_at>$2 and s.revoked_at is null and m.state='active'";
    tx.query_opt(sql, &params![hash, now]).await
}

pub async fn insert<'c>(tx: &mut Tx, cookies: impl IntoIterator<Item = &'c SessionCookie>) -> Result<(), DbError> {
    let sql = "insert into accounts_web_sessions (hash, session_id, expires_at) values ($1,$2,$3)";
    tx.execute_many(sql, cookies.into_iter().map(|cookie| params![&cookie.hash, cookie.session_id, cookie.expires_at])).await.map(|_| ())
}

/// Moves expiries forward, never back. The caller has locked the sessions.
pub async fn extend<'h>(tx: &mut Tx, ends: impl IntoIterator<Item = (&'h SecretDigest, Timestamp)>) -> Result<(), DbError> {
    let sql = "update accounts_web_sessions set expires_at=$2 where hash=$1 and expires_at<$2";
    tx.execute_many(sql, ends.into_iter().map(|(hash, end)| params![hash, end])).await.map(|_| ())
}

/// Deletes the cookies of these sessions and returns them. The caller has locked the sessions.
pub async fn end(tx: &mut Tx, session_ids: &[Uuid]) -> Result<Vec<SecretDigest>, DbError> {
    let sql = "select hash from accounts_web_sessions where session_id=$1";
    let found: Vec<(SecretDigest,)> = tx.query_many(sql, session_ids.iter().map(|id| params![*id])).await?;
    if !found.is_empty() {
        tx.execute_many("delete from accounts_web_sessions where session_id=$1", session_ids.iter().map(|id| params![*id])).await?;
    }
    Ok(found.into_iter().map(|(hash,)| hash).collect())
}

/// Deletes at most `limit` cookies that expired by `now`. Returns their number.
pub async fn prune(tx: &mut Tx, now: Timestamp, limit: i64) -> Result<usize, DbError> {
    let sql = "select hash, session_id from accounts_web_sessions where expires_at<=$1 order by expires_at limit $2";
    let old: Vec<(SecretDigest, Uuid)> = tx.query(sql, &params![now, limit]).await?;
    sessions::lock(tx, old.iter().map(|(_, session_id)| *session_id)).await?;
    let sql = "delete from accounts_web_sessions where hash=$1 and expires_at<=$2";
    tx.execute_many(sql, old.iter().map(|(hash, _)| params![hash, now])).await?;
    Ok(old.len())
}
