//! Closed accounts: their members leave every waitlist, and their unused coupons return to the pool, so that the next in line is served.
//!
//! A coupon that an order holds returns when the order gives it back. Used coupons stay, because they belong to an order.

use crate::{
    loaded::LoadedCoupons,
    store::{closed_members, issued, waiting},
    waitlist::{expire_in, leave_in, promote_in, return_in},
};
use contracts::{CouponId, IssuedCouponId, MemberId};
use kit::{Fault, Work, idempotency};
use uuid::Uuid;

/// Ends all that these members have of coupons. A repeat finds what came in between.
pub async fn close_members_in(work: &mut Work, members: &[MemberId]) -> Result<(), Fault> {
    let now = work.now;
    let (tx, loaded) = work.rows::<LoadedCoupons>();
    closed_members::add(tx, members, now).await?;
    let scopes: Vec<Uuid> = members.iter().map(|member_id| member_id.0).collect();
    idempotency::forget(tx, "coupons", &scopes).await?;
    let waits = waiting::coupons_of_members(tx, members).await?;
    let (unused, coupon_ids): (Vec<IssuedCouponId>, Vec<CouponId>) = issued::unused_of_members(tx, members).await?.into_iter().unzip();
    loaded.load_definitions(tx, waits.iter().map(|(coupon_id, _)| *coupon_id).chain(coupon_ids)).await?;
    loaded.load_issued(tx, unused.iter().copied()).await?;
    for (coupon_id, member_id) in waits {
        // Read again under the lock of the definition: the member may have got a unit meanwhile, which its next message finds.
        let entry = waiting::entry(&mut work.tx, coupon_id, member_id).await?;
        leave_in(work, coupon_id, entry).await?;
    }
    return_unused_in(work, unused).await
}

/// Returns those of the released coupons whose members closed their accounts. The caller has loaded the coupons.
pub async fn return_of_closed_in(work: &mut Work, released: &[IssuedCouponId]) -> Result<(), Fault> {
    let (tx, loaded) = work.rows::<LoadedCoupons>();
    let owners: Vec<(IssuedCouponId, CouponId, MemberId)> =
        released.iter().filter_map(|id| loaded.issued.get(*id)).map(|coupon| (coupon.id, coupon.coupon_id, coupon.member_id)).collect();
    if owners.is_empty() {
        return Ok(());
    }
    let members: Vec<MemberId> = owners.iter().map(|(.., member_id)| *member_id).collect();
    let closed = closed_members::among(tx, &members).await?;
    let of_closed = || owners.iter().filter(|(.., member_id)| closed.contains(member_id));
    loaded.load_definitions(tx, of_closed().map(|(_, coupon_id, _)| *coupon_id)).await?;
    return_unused_in(work, of_closed().map(|(id, ..)| *id).collect()).await
}

async fn return_unused_in(work: &mut Work, unused: Vec<IssuedCouponId>) -> Result<(), Fault> {
    let now = work.now;
    for id in unused {
        let Some(coupon) = work.loaded::<LoadedCoupons>().issued.get(id) else { continue };
        if coupon.is_due(now) {
            let coupon_id = coupon.coupon_id;
            expire_in(work, id)?;
            promote_in(work, [coupon_id]).await?;
        } else {
            // `Err`: an order holds it, and gives it back later.
            let _ = return_in(work, id).await?;
        }
    }
    Ok(())
}
