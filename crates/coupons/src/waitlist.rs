//! Promotion: a unit that is returned or added goes to the first waiting member, once, and only while the coupon is open.
//!
//! A command that frees units calls these functions before it answers. So no unit stays free while a member waits, and no new claim
//! overtakes.

use crate::{
    loaded::LoadedCoupons,
    model::{CouponPhase, IssuedCoupon, TicketState, WaitlistEntry},
    store::{issued, waiting},
};
use contracts::{
    Code, CouponId, IssuedCouponId, MemberId, Message, Timestamp,
    messages::{CouponGone, CouponIssued},
};
use kit::{Fault, Tx, Work, ports::new_id};

/// Most promotions of one coupon per transaction, which bounds the delay of other commands. The job continues with the rest.
const MAX_PROMOTED: i64 = 2_000;

/// Promotes as many waiting members of these coupons as there are units. Returns their number.
pub async fn promote_in(work: &mut Work, ids: impl IntoIterator<Item = CouponId>) -> Result<usize, Fault> {
    let now = work.now;
    let mut promoted = 0;
    for id in ids {
        let (tx, loaded) = work.rows::<LoadedCoupons>();
        let coupons = promote_next(tx, loaded, id, now).await?;
        emit_issued(work, &coupons, true)?;
        promoted += coupons.len();
    }
    Ok(promoted)
}

async fn promote_next(tx: &mut Tx, loaded: &mut LoadedCoupons, id: CouponId, now: Timestamp) -> Result<Vec<IssuedCoupon>, Fault> {
    let Some(definition) = loaded.definitions.get_mut(id) else { return Ok(Vec::new()) };
    let count = definition.promotable(now).min(MAX_PROMOTED);
    if count == 0 {
        return Ok(Vec::new());
    }
    let next = waiting::first(tx, id, definition.head_ticket, count).await?;
    let members: Vec<(CouponId, MemberId)> = next.iter().map(|(_, member_id)| (id, *member_id)).collect();
    let holdings = issued::holdings(tx, &members).await?;
    let mut coupons = Vec::with_capacity(next.len());
    for &(ticket, member_id) in &next {
        let unit = definition.promote(ticket, now);
        let before = holdings.get(&(id, member_id)).map_or(0, |holdings| holdings.issued);
        coupons.push(IssuedCoupon::new(new_id().into(), id, member_id, before + 1, unit, now));
        loaded.gate_changes.add_member_count(id, member_id, 1);
    }
    issued::insert(tx, &coupons).await?;
    waiting::set_state(tx, id, next.iter().map(|(ticket, _)| *ticket), TicketState::Admitted).await?;
    Ok(coupons)
}

/// Emits the messages of new issued coupons. `promoted`: their members left the waitlist.
pub fn emit_issued(work: &mut Work, coupons: &[IssuedCoupon], promoted: bool) -> Result<(), Fault> {
    for &IssuedCoupon { id: issued_coupon_id, coupon_id, member_id, number, .. } in coupons {
        work.emit(coupon_id, Message::CouponIssued(CouponIssued { coupon_id, issued_coupon_id, member_id, number, promoted }))?;
    }
    Ok(())
}

/// Removes a waiting member from a waitlist. The caller has loaded the definition. False: the entry does not wait.
pub async fn leave_in(work: &mut Work, coupon_id: CouponId, entry: Option<WaitlistEntry>) -> Result<bool, Fault> {
    let Some(WaitlistEntry { ticket, state: TicketState::Waiting, .. }) = entry else { return Ok(false) };
    let (tx, loaded) = work.rows::<LoadedCoupons>();
    let Some(definition) = loaded.definitions.get_mut(coupon_id) else { return Ok(false) };
    definition.leave();
    waiting::leave(tx, coupon_id, ticket).await?;
    Ok(true)
}

/// Returns an unused coupon, whose unit goes to the first waiting member. The caller has loaded the coupon and its definition. `Err`: it
/// cannot be returned in its state.
pub async fn return_in(work: &mut Work, id: IssuedCouponId) -> Result<Result<(), Code>, Fault> {
    let now = work.now;
    let (tx, loaded) = work.rows::<LoadedCoupons>();
    let Some(coupon) = loaded.issued.get_mut(id) else { return Ok(Err(Code::NotFound)) };
    if let Err(code) = coupon.give_back(now) {
        return Ok(Err(code));
    }
    let gone = coupon_gone(coupon);
    let (coupon_id, member_id) = (gone.coupon_id, gone.member_id);
    if let Some(definition) = loaded.definitions.get_mut(coupon_id) {
        definition.return_unit();
        if definition.terms.reissue_after_cancel {
            loaded.gate_changes.add_member_count(coupon_id, member_id, -1);
        }
    }
    // Saved at once: a claim of the same member may follow in this transaction, and reads the table.
    loaded.save_issued(tx).await?;
    work.emit(coupon_id, Message::CouponCancelled(gone))?;
    promote_in(work, [coupon_id]).await?;
    Ok(Ok(()))
}

/// Expires a coupon if it is due, and returns its unit to the pool while the coupon is open. The caller has loaded its definition.
pub fn expire_in(work: &mut Work, id: IssuedCouponId) -> Result<(), Fault> {
    let now = work.now;
    let loaded = work.loaded::<LoadedCoupons>();
    let Some(coupon) = loaded.issued.get_mut(id).filter(|coupon| coupon.is_due(now)) else { return Ok(()) };
    let Some(definition) = loaded.definitions.get_mut(coupon.coupon_id) else {
        return Err(Fault::Bug(format!("definition of issued coupon {id} not loaded")));
    };
    let pool_is_open = definition.phase(now) == CouponPhase::Open;
    coupon.expire(pool_is_open);
    if pool_is_open {
        definition.return_unit();
    }
    let gone = coupon_gone(coupon);
    work.emit(gone.coupon_id, Message::CouponExpired(gone))
}

pub fn coupon_gone(coupon: &IssuedCoupon) -> CouponGone {
    CouponGone { coupon_id: coupon.coupon_id, issued_coupon_id: coupon.id, member_id: coupon.member_id }
}
