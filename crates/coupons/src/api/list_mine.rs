//! `coupons.list_mine`: the caller's coupons, newest first: all, by state, or those usable now on an amount (C15, C24). Any signed-in
//! account, its own.

use super::standing::IssuedCouponState;
use crate::{
    Coupons,
    model::{Definition, IssuedCoupon},
    store::{
        definitions,
        issued::{self, IssuedFilter},
    },
};
use axum::{Json, extract::State};
use contracts::{
    Code, CouponId, IssuedCouponId, OrderId, StoreId, Timestamp, Won,
    calls::{CouponScope, Discount},
};
use kit::{
    extract::SignedIn,
    http::{Problem, ProblemBody, Query, page_limit},
};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::Arc};
use utoipa::{IntoParams, ToSchema};

const CURSOR: &str = "coupons.list_mine";

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListMyCouponsParams {
    #[param(inline)]
    state: Option<IssuedCouponState>,
    /// Only coupons that are usable now on this amount of won, each with its discount on it.
    usable_for: Option<i64>,
    /// 1 to 100, default 20.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
    #[param(min_length = 1)]
    cursor: Option<String>,
}

/// A coupon that the caller owns.
#[derive(Debug, Serialize, ToSchema)]
pub struct MyCoupon {
    issued_coupon_id: IssuedCouponId,
    coupon_id: CouponId,
    name: String,
    state: IssuedCouponState,
    number: i64,
    discount: Discount,
    scope: CouponScope,
    store_id: Option<StoreId>,
    min_order: Won,
    issued_at: Timestamp,
    valid_from: Option<Timestamp>,
    expires_at: Timestamp,
    /// The order that holds or used it.
    order_id: Option<OrderId>,
    used_at: Option<Timestamp>,
    /// Discount on the requested amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    discount_won: Option<Won>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MyCoupons {
    items: Vec<MyCoupon>,
    /// Pass it as `cursor` to get the next page. Null on the last page.
    next_cursor: Option<String>,
    /// Number of the caller's coupons that are usable now, over all pages.
    usable_count: i64,
}

/// The caller's coupons, newest first: all, by state, or those usable now on an amount
///
/// Any signed-in account, its own.
#[utoipa::path(
    get, path = "/v1/me/coupons", operation_id = "coupons.list_mine", tag = "coupons", params(ListMyCouponsParams),
    responses((status = 200, body = MyCoupons), (status = 422, description = "invalid-parameter", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn list_mine(
    State(coupons): State<Arc<Coupons>>,
    SignedIn(caller): SignedIn,
    Query(params): Query<ListMyCouponsParams>,
) -> Result<Json<MyCoupons>, Problem> {
    let limit = page_limit(params.limit)?;
    if params.usable_for.is_some_and(|amount| amount < 0) {
        return Err(Problem::field("/usable_for", Code::InvalidParameter, "must not be negative"));
    }
    let after: Option<IssuedCouponId> = params.cursor.as_deref().map(|cursor| coupons.kit.cursors.decode(CURSOR, cursor)).transpose()?;
    let filter = IssuedFilter { state: params.state.map(Into::into), usable_for: params.usable_for.map(Won) };
    let now = coupons.kit.clock.now();
    let mut reader = coupons.kit.db.reader().await?;
    let mut found = issued::page_of_member(&mut reader, caller.member_id, filter, after, now, limit + 1).await?;
    let has_more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let mut ids: Vec<CouponId> = found.iter().map(|coupon| coupon.coupon_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let definitions = definitions::find(&mut reader, &ids).await?;
    let definitions: HashMap<CouponId, Definition> = definitions.into_iter().map(|definition| (definition.id, definition)).collect();
    let usable_count = issued::count_usable(&mut reader, caller.member_id, now).await?;
    let items = found.iter().filter_map(|coupon| Some(MyCoupon::of(coupon, definitions.get(&coupon.coupon_id)?, filter, now)));
    let next_cursor = found.last().filter(|_| has_more).map(|last| coupons.kit.cursors.encode(CURSOR, &last.id));
    Ok(Json(MyCoupons { items: items.collect(), next_cursor, usable_count }))
}

impl MyCoupon {
    fn of(coupon: &IssuedCoupon, definition: &Definition, filter: IssuedFilter, now: Timestamp) -> MyCoupon {
        let terms = &definition.terms;
        MyCoupon {
            issued_coupon_id: coupon.id,
            coupon_id: coupon.coupon_id,
            name: definition.name.clone(),
            state: coupon.state_at(now).into(),
            number: coupon.number,
            discount: terms.discount,
            scope: terms.scope,
            store_id: terms.store_id,
            min_order: terms.min_order,
            issued_at: coupon.issued_at,
            valid_from: terms.valid_from,
            expires_at: coupon.expires_at,
            order_id: coupon.order_id,
            used_at: coupon.used_at,
            discount_won: filter.usable_for.and_then(|amount| terms.discount_on(amount)),
        }
    }
}
