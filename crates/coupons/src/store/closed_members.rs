//! `coupons_closed_members`: members who closed their accounts.

use contracts::{MemberId, Timestamp};
use kit::{DbError, Tx, db::params};
use std::collections::HashSet;

pub async fn add(tx: &mut Tx, members: &[MemberId], now: Timestamp) -> Result<(), DbError> {
    let sql = "insert into coupons_closed_members (member_id, at) values ($1,$2) on conflict (member_id) do nothing";
    tx.execute_many(sql, members.iter().map(|member_id| params![*member_id, now])).await.map(|_| ())
}

/// Those of the members who closed their accounts.
pub async fn among(tx: &mut Tx, members: &[MemberId]) -> Result<HashSet<MemberId>, DbError> {
    let sql = "select member_id from coupons_closed_members where member_id=$1";
    let found: Vec<(MemberId,)> = tx.query_many(sql, members.iter().map(|member_id| params![*member_id])).await?;
    Ok(found.into_iter().map(|(member_id,)| member_id).collect())
}
