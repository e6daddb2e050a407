//! Units that come back or are added go to those who wait: exactly the next, once each, and only while the coupon is given out.
//!
//! These functions join the running transaction. Whoever changes what a pool holds calls them before it answers, so no unit lies idle
//! while somebody waits, and no newcomer can come between.

use crate::{
    model::{IssuedCoupon, Phase, TicketState, Unit},
    store::{Books, issued, waiting},
};
use contracts::{
    CouponId, IssuedCouponId, MemberId, Message,
    messages::{CouponGone, CouponIssued},
};
use kit::{Fault, Work, ports::new_id};

/// Most who are served of one coupon in one transaction, which bounds how long others wait for it. The job goes on with the rest.
const SERVED: i64 = 2_000;

/// Serves those who can be served of these coupons; how many were.
pub async fn promote_in(work: &mut Work, books: &mut Books, ids: impl IntoIterator<Item = CouponId>) -> Result<usize, Fault> {
    let mut served = 0;
    for id in ids {
        let Some(definition) = books.definitions.get_mut(id) else { continue };
        let count = definition.admissible(work.now).min(SERVED);
        if count == 0 {
            continue;
        }
        let next = waiting::first(&mut work.tx, id, definition.head_ticket, count).await?;
        let members: Vec<(CouponId, MemberId)> = next.iter().map(|(_, member_id)| (id, *member_id)).collect();
        let standings = issued::standings(&mut work.tx, &members).await?;
        let mut coupons = Vec::with_capacity(next.len());
        for &(ticket, member_id) in &next {
            let unit = definition.admit(ticket, work.now);
            let before = standings.get(&(id, member_id)).map_or(0, |standing| standing.issued);
            coupons.push(issue(work, id, member_id, before + 1, unit, true)?);
            books.changes.share(id, member_id, 1);
        }
        issued::insert(&mut work.tx, &coupons).await?;
        waiting::settle(&mut work.tx, id, next.iter().map(|(ticket, _)| *ticket), TicketState::Admitted).await?;
        served += next.len();
    }
    Ok(served)
}

/// Puts a unit into a member's hands, and says so. The row is the caller's to insert, with the others of its batch.
pub fn issue(
    work: &mut Work,
    coupon_id: CouponId,
    member_id: MemberId,
    nth: u32,
    unit: Unit,
    promoted: bool,
) -> Result<IssuedCoupon, Fault> {
    let coupon = IssuedCoupon::new(new_id().into(), coupon_id, member_id, nth, unit, work.now);
    let told = CouponIssued { coupon_id, issued_coupon_id: coupon.id, member_id, number: coupon.number, promoted };
    work.emit(coupon_id, Message::CouponIssued(told))?;
    Ok(coupon)
}

/// Marks a coupon expired if it is due, and puts its unit back into the pool if the pool is open. Its definition must be loaded.
pub fn expire_in(work: &mut Work, books: &mut Books, id: IssuedCouponId) -> Result<(), Fault> {
    let Some(coupon) = books.issued.get_mut(id).filter(|coupon| coupon.is_due(work.now)) else { return Ok(()) };
    let Some(definition) = books.definitions.get_mut(coupon.coupon_id) else {
        return Err(Fault::Bug(format!("coupon {id} has no definition at hand")));
    };
    let pool_is_open = definition.phase(work.now) == Phase::Open;
    coupon.expire(pool_is_open);
    if pool_is_open {
        definition.take_back();
    }
    work.emit(coupon.coupon_id, Message::CouponExpired(gone(coupon)))
}

pub fn gone(coupon: &IssuedCoupon) -> CouponGone {
    CouponGone { coupon_id: coupon.coupon_id, issued_coupon_id: coupon.id, member_id: coupon.member_id }
}
