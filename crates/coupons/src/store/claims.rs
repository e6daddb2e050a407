//! `coupons_claims`: what claims came to that were taken down to be settled later.

use contracts::{ClaimId, CouponId, MemberId, Timestamp};
use kit::{Answer, DbError, Tx, db::params};
use std::collections::HashMap;

/// A settled claim, as it is kept.
#[derive(Debug)]
pub struct Claimed {
    pub id: ClaimId,
    pub coupon_id: CouponId,
    pub member_id: MemberId,
    pub answer: Answer,
}

/// What these claims came to; those that are not settled are missing.
pub async fn find(tx: &mut Tx, ids: impl IntoIterator<Item = ClaimId>) -> Result<HashMap<ClaimId, Answer>, DbError> {
    let sql = "select id, status, body from coupons_claims where id=$1";
    let found: Vec<(ClaimId, i64, Vec<u8>)> = tx.query_many(sql, ids.into_iter().map(|id| params![id])).await?;
    let answer =
        |status, body: Vec<u8>| Answer { status: u16::try_from(status).unwrap_or(500), body: body.into(), location: None, replayed: false };
    Ok(found.into_iter().map(|(id, status, body)| (id, answer(status, body))).collect())
}

/// Should somebody else have settled one meanwhile, the primary key refuses it, and the transaction is repeated.
pub async fn insert(tx: &mut Tx, claims: &[Claimed], now: Timestamp) -> Result<(), DbError> {
    let rows = claims.iter().map(|Claimed { id, coupon_id, member_id, answer }| {
        params![*id, *coupon_id, *member_id, i64::from(answer.status), answer.body.as_ref(), now]
    });
    tx.execute_many("insert into coupons_claims (id, coupon_id, member_id, status, body, at) values ($1,$2,$3,$4,$5,$6)", rows).await?;
    Ok(())
}
