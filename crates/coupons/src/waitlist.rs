//! Promotion: a unit that is returned or added goes to the first waiting member, once, and only while the coupon is open.
//!
//! A command that frees units calls these functions before it answers. So no unit stays free while a member waits, and no new claim
//! overtakes.

use crate::{
    loaded::LoadedCoupons,
    model::{CouponPhase, IssuedCoupon, TicketState, Unit},
    store::{issued, waiting},
};
use contracts::{
    CouponId, IssuedCouponId, MemberId, Message,
    messages::{CouponGone, CouponIssued},
};
use kit::{Fault, Work, ports::new_id};

/// Most promotions of one coupon per transaction, which bounds the delay of other commands. The job continues with the rest.
const MAX_PROMOTED: i64 = 2_000;

/// Promotes as many waiting members of these coupons as there are units. Returns their number.
pub async fn promote_in(work: &mut Work, loaded: &mut LoadedCoupons, ids: impl IntoIterator<Item = CouponId>) -> Result<usize, Fault> {
    let mut promoted = 0;
    for id in ids {
        let Some(definition) = loaded.definitions.get_mut(id) else { continue };
        let count = definition.promotable(work.now).min(MAX_PROMOTED);
        if count == 0 {
            continue;
        }
        let next = waiting::first(&mut work.tx, id, definition.head_ticket, count).await?;
        let members: Vec<(CouponId, MemberId)> = next.iter().map(|(_, member_id)| (id, *member_id)).collect();
        let holdings = issued::holdings(&mut work.tx, &members).await?;
        let mut coupons = Vec::with_capacity(next.len());
        for &(ticket, member_id) in &next {
            let unit = definition.promote(ticket, work.now);
            let before = holdings.get(&(id, member_id)).map_or(0, |holdings| holdings.issued);
            coupons.push(issue(work, id, member_id, before + 1, unit, true)?);
            loaded.gate_changes.add_member_count(id, member_id, 1);
        }
        issued::insert(&mut work.tx, &coupons).await?;
        waiting::set_state(&mut work.tx, id, next.iter().map(|(ticket, _)| *ticket), TicketState::Admitted).await?;
        promoted += next.len();
    }
    Ok(promoted)
}

/// Makes the issued coupon and emits its message. The caller inserts the row, together with the others of its batch.
pub fn issue(
    work: &mut Work,
    coupon_id: CouponId,
    member_id: MemberId,
    nth: u32,
    unit: Unit,
    promoted: bool,
) -> Result<IssuedCoupon, Fault> {
    let coupon = IssuedCoupon::new(new_id().into(), coupon_id, member_id, nth, unit, work.now);
    let message = CouponIssued { coupon_id, issued_coupon_id: coupon.id, member_id, number: coupon.number, promoted };
    work.emit(coupon_id, Message::CouponIssued(message))?;
    Ok(coupon)
}

/// Expires a coupon if it is due, and returns its unit to the pool while the coupon is open. The caller has loaded its definition.
pub fn expire_in(work: &mut Work, loaded: &mut LoadedCoupons, id: IssuedCouponId) -> Result<(), Fault> {
    let Some(coupon) = loaded.issued.get_mut(id).filter(|coupon| coupon.is_due(work.now)) else { return Ok(()) };
    let Some(definition) = loaded.definitions.get_mut(coupon.coupon_id) else {
        return Err(Fault::Bug(format!("definition of issued coupon {id} not loaded")));
    };
    let pool_is_open = definition.phase(work.now) == CouponPhase::Open;
    coupon.expire(pool_is_open);
    if pool_is_open {
        definition.return_unit();
    }
    work.emit(coupon.coupon_id, Message::CouponExpired(coupon_gone(coupon)))
}

pub fn coupon_gone(coupon: &IssuedCoupon) -> CouponGone {
    CouponGone { coupon_id: coupon.coupon_id, issued_coupon_id: coupon.id, member_id: coupon.member_id }
}
