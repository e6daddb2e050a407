//! SQL over `accounts_members`.

use super::unknown;
use crate::model::{Member, MemberState};
use contracts::{MemberId, Timestamp};
use kit::{
    DbError, Row, Tx,
    auth::Role,
    db::{FromRow, params},
};

macro_rules! columns {
    () => {
        "id, email_normalized, email, name, phone, password_hash, role, state, created_at, closed_at, version"
    };
}

impl FromRow for Member {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let role: String = row.get(6)?;
        let state: String = row.get(7)?;
        Ok(Member {
            id: row.get(0)?,
            email_normalized: row.get(1)?,
            email: row.get(2)?,
            name: row.get(3)?,
            phone: row.get(4)?,
            password_hash: row.get(5)?,
            role: role.parse::<Role>().map_err(|_| unknown(6, &role))?,
            state: MemberState::parse(&state).ok_or_else(|| unknown(7, &state))?,
            created_at: row.get(8)?,
            closed_at: row.get(9)?,
            version: row.get(10)?,
        })
    }
}

pub async fn by_id(tx: &mut Tx, id: MemberId) -> Result<Option<Member>, DbError> {
    tx.query_opt(concat!("select ", columns!(), " from accounts_members where id=$1"), &params![id]).await
}

/// Members by id, without a lock.
pub async fn by_ids(tx: &mut Tx, ids: impl IntoIterator<Item = MemberId>) -> Result<Vec<Member>, DbError> {
    let sql = concat!("select ", columns!(), " from accounts_members where id=$1");
    tx.query_many(sql, ids.into_iter().map(|id| params![id])).await
}

/// The account that this address identifies; `normalized` as `Email` makes it.
pub async fn by_email(tx: &mut Tx, normalized: &str) -> Result<Option<Member>, DbError> {
    tx.query_opt(concat!("select ", columns!(), " from accounts_members where email_normalized=$1"), &params![normalized]).await
}

/// Locks members to change them, sorted by id so that two batches never deadlock.
pub async fn lock(tx: &mut Tx, ids: impl IntoIterator<Item = MemberId>) -> Result<Vec<Member>, DbError> {
    let mut ids: Vec<MemberId> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    let sql = concat!("select ", columns!(), " from accounts_members where id=$1 for update");
    tx.query_many(sql, ids.into_iter().map(|id| params![id])).await
}

/// Ids of the active operators, without a lock.
async fn operator_ids(tx: &mut Tx) -> Result<Vec<MemberId>, DbError> {
    let found: Vec<(MemberId,)> = tx.query("select id from accounts_members where role='operator' and state='active'", &[]).await?;
    Ok(found.into_iter().map(|(id,)| id).collect())
}

/// Locks members to change them. If one of them is an operator, locks all active operators, so that of two processes only one removes
/// the last operator but one.
pub async fn lock_with_operators(tx: &mut Tx, ids: impl IntoIterator<Item = MemberId>) -> Result<Vec<Member>, DbError> {
    let mut ids: Vec<MemberId> = ids.into_iter().collect();
    let operators = operator_ids(tx).await?;
    if ids.iter().any(|id| operators.contains(id)) {
        ids.extend(operators);
    }
    lock(tx, ids).await
}

/// All operators that are not closed, oldest first.
pub async fn operators(tx: &mut Tx) -> Result<Vec<Member>, DbError> {
    let sql = concat!("select ", columns!(), " from accounts_members where role='operator' and state<>'closed' order by id");
    tx.query(sql, &[]).await
}

/// Records the number of `member.closed` messages.
pub async fn set_closings(tx: &mut Tx, ids: &[MemberId], closings: i64) -> Result<(), DbError> {
    let sql = "update accounts_members set closings=$2 where id=$1";
    tx.execute_many(sql, ids.iter().map(|id| params![*id, closings])).await.map(|_| ())
}

/// At most `limit` accounts that were closed by `before` and have not had their second message. Without a lock.
pub async fn unsettled(tx: &mut Tx, before: Timestamp, limit: i64) -> Result<Vec<MemberId>, DbError> {
    let sql = "select id from accounts_members where state='closed' and closings<2 and closed_at<=$1 order by closed_at limit $2";
    let found: Vec<(MemberId,)> = tx.query(sql, &params![before, limit]).await?;
    Ok(found.into_iter().map(|(id,)| id).collect())
}

pub async fn with_emails<'e>(tx: &mut Tx, normalized: impl IntoIterator<Item = &'e str>) -> Result<Vec<Member>, DbError> {
    let sql = concat!("select ", columns!(), " from accounts_members where email_normalized=$1");
    tx.query_many(sql, normalized.into_iter().map(|email| params![email])).await
}

pub async fn insert<'m>(tx: &mut Tx, members: impl IntoIterator<Item = &'m Member>) -> Result<(), DbError> {
    let sql = concat!("insert into accounts_members (", columns!(), ") values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)");
    let rows = members.into_iter().map(|member| {
        params![
            member.id,
            member.email_normalized.as_ref(),
            &member.email,
            &member.name,
            member.phone.as_ref(),
            &member.password_hash,
            member.role.as_str(),
            member.state.as_str(),
            member.created_at,
            member.closed_at,
            member.version,
        ]
    });
    tx.execute_many(sql, rows).await.map(|_| ())
}

pub async fn save<'m>(tx: &mut Tx, members: impl IntoIterator<Item = &'m Member>) -> Result<(), DbError> {
    let sql = "update accounts_members set email_normalized=$2, email=$3, name=$4, phone=$5, password_hash=$6, role=$7, state=$8, \
               closed_at=$9, version=$10 where id=$1";
    let rows = members.into_iter().map(|member| {
        params![
            member.id,
            member.email_normalized.as_ref(),
            &member.email,
            &member.name,
            member.phone.as_ref(),
            &member.password_hash,
            member.role.as_str(),
            member.state.as_str(),
            member.closed_at,
            member.version,
        ]
    });
    tx.execute_many(sql, rows).await.map(|_| ())
}
