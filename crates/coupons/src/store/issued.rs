//! `coupons_issued`: the coupons that members own.

use crate::model::{IssuedCoupon, IssuedState, MemberHoldings};
use contracts::{CouponId, IssuedCouponId, MemberId, Timestamp, Won};
use kit::{
    DbError, Row, Tx,
    db::{FromRow, params},
};
use std::collections::HashMap;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select id, coupon_id, member_id, nth, number, state, issued_at, expires_at, order_id, used_at, slot_returned \
             from coupons_issued ",
            $rest
        )
    };
}

impl FromRow for IssuedCoupon {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(IssuedCoupon {
            id: row.get(0)?,
            coupon_id: row.get(1)?,
            member_id: row.get(2)?,
            nth: row.get(3)?,
            number: row.get(4)?,
            state: state(row, 5)?,
            issued_at: row.get(6)?,
            expires_at: row.get(7)?,
            order_id: row.get(8)?,
            used_at: row.get(9)?,
            slot_returned: row.get(10)?,
        })
    }
}

fn state(row: &Row<'_>, column: usize) -> Result<IssuedState, DbError> {
    let text: String = row.get(column)?;
    IssuedState::parse(&text).ok_or_else(|| super::unknown(column, &text))
}

/// Holdings of members, without their tickets. The pairs are distinct, and members without the coupon are missing.
pub async fn holdings(tx: &mut Tx, claimants: &[(CouponId, MemberId)]) -> Result<HashMap<(CouponId, MemberId), MemberHoldings>, DbError> {
    let sql = "select coupon_id, member_id, state = 'CANCELLED' from coupons_issued where member_id=$1 and coupon_id=$2";
    let found: Vec<(CouponId, MemberId, bool)> =
        tx.query_many(sql, claimants.iter().map(|(coupon_id, member_id)| params![*member_id, *coupon_id])).await?;
    let mut holdings: HashMap<_, MemberHoldings> = HashMap::with_capacity(found.len());
    for (coupon_id, member_id, given_back) in found {
        let holding = holdings.entry((coupon_id, member_id)).or_default();
        holding.issued += 1;
        holding.given_back += u32::from(given_back);
    }
    Ok(holdings)
}

/// Coupons for a change. Unknown ids are missing.
pub async fn load(tx: &mut Tx, ids: &[IssuedCouponId]) -> Result<Vec<IssuedCoupon>, DbError> {
    tx.query_many(select!("where id=$1 for update"), ids.iter().map(|id| params![*id])).await
}

/// Those of the coupons that the member owns.
pub async fn owned(tx: &mut Tx, member_id: MemberId, ids: &[IssuedCouponId]) -> Result<Vec<IssuedCoupon>, DbError> {
    tx.query_many(select!("where id=$1 and member_id=$2"), ids.iter().map(|id| params![*id, member_id])).await
}

/// All coupons of this definition ever issued to a member, in the order of issue.
pub async fn of_member(tx: &mut Tx, coupon_id: CouponId, member_id: MemberId) -> Result<Vec<IssuedCoupon>, DbError> {
    tx.query(select!("where member_id=$1 and coupon_id=$2 order by nth"), &params![member_id, coupon_id]).await
}

/// The same, for a change.
pub async fn load_of_member(tx: &mut Tx, coupon_id: CouponId, member_id: MemberId) -> Result<Vec<IssuedCoupon>, DbError> {
    tx.query(select!("where member_id=$1 and coupon_id=$2 order by nth for update"), &params![member_id, coupon_id]).await
}

/// Ids, numbers and ends of the coupons from a number on. These fields never change, so they are read without a lock.
pub async fn by_number(tx: &mut Tx, coupon_id: CouponId, from: i64, limit: u32) -> Result<Vec<(IssuedCouponId, i64, Timestamp)>, DbError> {
    let sql = "select id, number, expires_at from coupons_issued where coupon_id=$1 and number >= $2 order by number limit $3";
    tx.query(sql, &params![coupon_id, from, limit]).await
}

/// The definitions of those of the coupons that are past their end. Read without a lock, as above.
pub async fn definitions_past_end(tx: &mut Tx, ids: &[IssuedCouponId], now: Timestamp) -> Result<Vec<CouponId>, DbError> {
    let sql = "select coupon_id from coupons_issued where id=$1 and expires_at <= $2";
    let found: Vec<(CouponId,)> = tx.query_many(sql, ids.iter().map(|id| params![*id, now])).await?;
    Ok(found.into_iter().map(|(id,)| id).collect())
}

/// Ids of all coupons ever issued to these members. Read without a lock, as above.
pub async fn ids_of_members(tx: &mut Tx, owners: &[(CouponId, MemberId)]) -> Result<Vec<IssuedCouponId>, DbError> {
    let sql = "select id from coupons_issued where member_id=$1 and coupon_id=$2";
    let found: Vec<(IssuedCouponId,)> =
        tx.query_many(sql, owners.iter().map(|(coupon_id, member_id)| params![*member_id, *coupon_id])).await?;
    Ok(found.into_iter().map(|(id,)| id).collect())
}

/// Ids and definitions of the unused coupons of these members. Read without a lock, as above.
pub async fn unused_of_members(tx: &mut Tx, members: &[MemberId]) -> Result<Vec<(IssuedCouponId, CouponId)>, DbError> {
    let sql = "select id, coupon_id from coupons_issued where member_id=$1 and state='ISSUED'";
    tx.query_many(sql, members.iter().map(|member_id| params![*member_id])).await
}

/// Numbers and owners of the coupons behind a number.
pub async fn owners(tx: &mut Tx, coupon_id: CouponId, after: i64, limit: u32) -> Result<Vec<(i64, MemberId)>, DbError> {
    let sql = "select number, member_id from coupons_issued where coupon_id=$1 and number > $2 order by number limit $3";
    tx.query(sql, &params![coupon_id, after, limit]).await
}

/// The same below a second number; true: given back.
pub async fn owners_below(
    tx: &mut Tx,
    coupon_id: CouponId,
    after: i64,
    below: i64,
    limit: u32,
) -> Result<Vec<(i64, MemberId, bool)>, DbError> {
    let sql = "select number, member_id, state = 'CANCELLED' from coupons_issued where coupon_id=$1 and number > $2 and number < $3 \
               order by number limit $4";
    tx.query(sql, &params![coupon_id, after, below, limit]).await
}

pub async fn insert(tx: &mut Tx, coupons: &[IssuedCoupon]) -> Result<(), DbError> {
    let rows = coupons.iter().map(|coupon| {
        params![
            coupon.id,
            coupon.coupon_id,
            coupon.member_id,
            coupon.nth,
            coupon.number,
            coupon.state.as_str(),
            coupon.issued_at,
            coupon.expires_at,
            coupon.slot_returned
        ]
    });
    tx.execute_many(
        "insert into coupons_issued (id, coupon_id, member_id, nth, number, state, issued_at, expires_at, slot_returned) \
         values ($1,$2,$3,$4,$5,$6,$7,$8,$9)",
        rows,
    )
    .await?;
    Ok(())
}

/// Saves the fields that can change. None of them is indexed.
pub async fn save(tx: &mut Tx, coupons: &[&mut IssuedCoupon]) -> Result<(), DbError> {
    let rows =
        coupons.iter().map(|coupon| params![coupon.id, coupon.state.as_str(), coupon.order_id, coupon.used_at, coupon.slot_returned]);
    tx.execute_many("update coupons_issued set state=$2, order_id=$3, used_at=$4, slot_returned=$5 where id=$1", rows).await?;
    Ok(())
}

/// Filter of a member's list.
#[derive(Clone, Copy, Debug, Default)]
pub struct IssuedFilter {
    /// By the clock: a coupon past its end counts as expired before it is marked.
    pub state: Option<IssuedState>,
    /// Usable now on this amount.
    pub usable_for: Option<Won>,
}

/// A member's coupons, newest first, behind `after`.
pub async fn page_of_member(
    tx: &mut Tx,
    member_id: MemberId,
    filter: IssuedFilter,
    after: Option<IssuedCouponId>,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<IssuedCoupon>, DbError> {
    // A member has few coupons, found by member id. The other conditions filter them.
    let sql = select!(
        "where member_id=$1 and ($2 is null or id < $2) \
         and ($3 is null or $3 = case when state='ISSUED' and expires_at <= $4 then 'EXPIRED' else state end) \
         and ($5 is null or (state='ISSUED' and expires_at > $4 and coupon_id in \
             (select id from coupons_definitions where min_order <= $5 and (valid_from is null or valid_from <= $4)))) \
         order by id desc limit $6"
    );
    let state = filter.state.map(IssuedState::as_str);
    tx.query(sql, &params![member_id, after, state, now, filter.usable_for, limit]).await
}

/// Number of coupons that the member can use now.
pub async fn count_usable(tx: &mut Tx, member_id: MemberId, now: Timestamp) -> Result<i64, DbError> {
    let sql = "select count(*) from coupons_issued join coupons_definitions on coupons_definitions.id = coupon_id \
               where member_id=$1 and state='ISSUED' and expires_at > $2 and (valid_from is null or valid_from <= $2)";
    let (count,): (i64,) = tx.query_one(sql, &params![member_id, now]).await?;
    Ok(count)
}
