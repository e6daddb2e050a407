//! `coupons_claims`: the outcomes of deferred claims.

use contracts::{ClaimId, CouponId, MemberId, Timestamp};
use kit::{Answer, DbError, Tx, db::params};
use std::collections::HashMap;

/// A claim with its answer.
#[derive(Debug)]
pub struct SettledClaim {
    pub id: ClaimId,
    pub coupon_id: CouponId,
    pub member_id: MemberId,
    pub answer: Answer,
}

/// Returns the answers of these claims. Claims that are not settled are missing.
pub async fn find(tx: &mut Tx, ids: impl IntoIterator<Item = ClaimId>) -> Result<HashMap<ClaimId, Answer>, DbError> {
    let sql = "select id, status, body from coupons_claims where id=$1";
    let found: Vec<(ClaimId, i64, Vec<u8>)> = tx.query_many(sql, ids.into_iter().map(|id| params![id])).await?;
    let answer =
        |status, body: Vec<u8>| Answer { status: u16::try_from(status).unwrap_or(500), body: body.into(), location: None, replayed: false };
    Ok(found.into_iter().map(|(id, status, body)| (id, answer(status, body))).collect())
}

/// If another transaction has settled one of them meanwhile, the primary key rejects it, and this transaction is repeated.
pub async fn insert(tx: &mut Tx, claims: &[SettledClaim], now: Timestamp) -> Result<(), DbError> {
    let rows = claims.iter().map(|SettledClaim { id, coupon_id, member_id, answer }| {
        params![*id, *coupon_id, *member_id, i64::from(answer.status), answer.body.as_ref(), now]
    });
    tx.execute_many("insert into coupons_claims (id, coupon_id, member_id, status, body, at) values ($1,$2,$3,$4,$5,$6)", rows).await?;
    Ok(())
}
