//! Answers to calls of other services. Read-only.

use crate::{
    Coupons,
    store::{definitions, issued},
};
use contracts::{
    CouponId,
    calls::{GetIssuedCoupons, IssuedCouponTerms},
};
use kit::{DbError, links::CallHandlers};
use std::{collections::HashMap, sync::Arc};

pub fn register(coupons: &Arc<Coupons>, handlers: &mut CallHandlers) {
    handlers.register_for(coupons, issued_coupons);
}

/// Returns those of the coupons that the member owns, with the reason why each cannot be used now.
async fn issued_coupons(coupons: Arc<Coupons>, call: GetIssuedCoupons) -> Result<Vec<IssuedCouponTerms>, DbError> {
    let now = coupons.kit.clock.now();
    let mut reader = coupons.kit.db.reader().await?;
    let own = issued::owned(&mut reader, call.member_id, &call.ids).await?;
    let mut ids: Vec<CouponId> = own.iter().map(|coupon| coupon.coupon_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let found = definitions::find(&mut reader, &ids).await?;
    let definitions: HashMap<CouponId, _> = found.into_iter().map(|definition| (definition.id, definition)).collect();
    let terms = own.iter().filter_map(|coupon| {
        let definition = definitions.get(&coupon.coupon_id)?;
        Some(IssuedCouponTerms {
            issued_coupon_id: coupon.id,
            coupon_id: coupon.coupon_id,
            name: definition.name.clone(),
            discount: definition.terms.discount,
            scope: definition.terms.scope,
            store_id: definition.terms.store_id,
            min_order: definition.terms.min_order,
            expires_at: coupon.expires_at,
            refusal: coupon.refusal(&definition.terms, now),
        })
    });
    Ok(terms.collect())
}
