//! `coupons_waiting`, the waiting members, and `coupons_departures`, the tree that counts departures.

use crate::model::{Ticket, TicketState, WaitlistEntry, nodes_counting, nodes_up_to, position};
use contracts::{CouponId, MemberId};
use kit::{
    DbError, Row, Tx,
    db::{FromRow, params},
};

impl FromRow for WaitlistEntry {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let state: String = row.get(2)?;
        let state = TicketState::parse(&state).ok_or_else(|| super::unknown(2, &state))?;
        Ok(WaitlistEntry { ticket: row.get(0)?, member_id: row.get(1)?, state, at: row.get(3)? })
    }
}

/// The tickets of the waiting ones among these members.
pub async fn tickets(tx: &mut Tx, claimants: &[(CouponId, MemberId)]) -> Result<Vec<(CouponId, MemberId, Ticket)>, DbError> {
    let sql = "select coupon_id, member_id, ticket from coupons_waiting where coupon_id=$1 and member_id=$2 and state='WAITING'";
    tx.query_many(sql, claimants.iter().map(|(coupon_id, member_id)| params![*coupon_id, *member_id])).await
}

/// A member's entry, in any state.
pub async fn entry(tx: &mut Tx, coupon_id: CouponId, member_id: MemberId) -> Result<Option<WaitlistEntry>, DbError> {
    let sql = "select ticket, member_id, state, at from coupons_waiting where coupon_id=$1 and member_id=$2";
    tx.query_opt(sql, &params![coupon_id, member_id]).await
}

/// The coupons that these members wait for. Read without a lock.
pub async fn coupons_of_members(tx: &mut Tx, members: &[MemberId]) -> Result<Vec<(CouponId, MemberId)>, DbError> {
    // Few coupons have a waitlist at any time, and an entry is found by coupon and member.
    let sql = "select w.coupon_id, w.member_id from coupons_definitions d \
               join coupons_waiting w on w.coupon_id=d.id and w.member_id=$1 and w.state='WAITING' where d.waiting > 0";
    tx.query_many(sql, members.iter().map(|member_id| params![*member_id])).await
}

/// The first waiting members, in the order of their tickets.
pub async fn first(tx: &mut Tx, coupon_id: CouponId, head: Ticket, limit: i64) -> Result<Vec<(Ticket, MemberId)>, DbError> {
    let sql = "select ticket, member_id from coupons_waiting where coupon_id=$1 and ticket >= $2 and state='WAITING' \
               order by ticket limit $3 for update";
    tx.query(sql, &params![coupon_id, head, limit]).await
}

/// Inserts entries. A member who waited before gets the new ticket in place of the old one.
pub async fn join(tx: &mut Tx, entries: &[(CouponId, WaitlistEntry)]) -> Result<(), DbError> {
    let rows = entries.iter().map(|(coupon_id, entry)| params![*coupon_id, entry.ticket, entry.member_id, entry.state.as_str(), entry.at]);
    tx.execute_many(
        "insert into coupons_waiting (coupon_id, ticket, member_id, state, at) values ($1,$2,$3,$4,$5) \
         on conflict (coupon_id, member_id) do update set ticket=excluded.ticket, state=excluded.state, at=excluded.at",
        rows,
    )
    .await?;
    Ok(())
}

/// Sets the state of waiting tickets.
pub async fn set_state(tx: &mut Tx, coupon_id: CouponId, tickets: impl Iterator<Item = Ticket>, state: TicketState) -> Result<(), DbError> {
    let rows = tickets.map(|ticket| params![coupon_id, ticket, state.as_str()]);
    tx.execute_many("update coupons_waiting set state=$3 where coupon_id=$1 and ticket=$2", rows).await?;
    Ok(())
}

/// Removes a ticket out of turn.
pub async fn leave(tx: &mut Tx, coupon_id: CouponId, ticket: Ticket) -> Result<(), DbError> {
    set_state(tx, coupon_id, std::iter::once(ticket), TicketState::Left).await?;
    tx.execute_many(
        "insert into coupons_departures (coupon_id, node, departed) values ($1,$2,1) \
         on conflict (coupon_id, node) do update set departed = coupons_departures.departed + 1",
        nodes_counting(ticket).map(|node| params![coupon_id, node]),
    )
    .await?;
    Ok(())
}

/// Position of a waiting ticket; 1 is next. It takes a few point reads, however long the queue is.
pub async fn position_of(tx: &mut Tx, coupon_id: CouponId, ticket: Ticket, head: Ticket) -> Result<i64, DbError> {
    let left_before_head = left_up_to(tx, coupon_id, head - 1).await?;
    let left_before = left_up_to(tx, coupon_id, ticket - 1).await?;
    Ok(position(ticket, head, left_before, left_before_head))
}

async fn left_up_to(tx: &mut Tx, coupon_id: CouponId, ticket: Ticket) -> Result<i64, DbError> {
    let sql = "select departed from coupons_departures where coupon_id=$1 and node=$2";
    let counts: Vec<(i64,)> = tx.query_many(sql, nodes_up_to(ticket).map(|node| params![coupon_id, node])).await?;
    Ok(counts.into_iter().map(|(departed,)| departed).sum())
}
