//! `coupons.list`: the coupons of the mall, newest first, by name, store and state. No sign-in needed.

use super::{Coupon, CouponState};
use crate::{
    Coupons,
    store::definitions::{self, CouponFilter},
};
use axum::{Json, extract::State};
use contracts::{Code, CouponId, StoreId};
use kit::http::{Listing, Problem, ProblemBody, Query, page_limit};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

const CURSOR: &str = "coupons.list";
/// Longest search text: the longest name.
const MAX_SEARCH_CHARS: usize = super::create::MAX_NAME_CHARS;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListCouponsParams {
    /// Part of the name, in any case or width.
    q: Option<String>,
    store: Option<StoreId>,
    #[param(inline)]
    state: Option<CouponState>,
    /// 1 to 100, default 20.
    limit: Option<i64>,
    cursor: Option<String>,
}

/// The coupons of the mall, newest first, by name, store and state
///
/// No sign-in needed.
#[utoipa::path(
    get, path = "/v1/coupons", operation_id = "coupons.list", tag = "coupons", params(ListCouponsParams),
    responses((status = 200, body = Listing<Coupon>), (status = 422, description = "invalid-parameter", body = ProblemBody)))]
pub async fn list(State(coupons): State<Arc<Coupons>>, Query(params): Query<ListCouponsParams>) -> Result<Json<Listing<Coupon>>, Problem> {
    let limit = page_limit(params.limit)?;
    if params.q.as_ref().is_some_and(|text| text.chars().count() > MAX_SEARCH_CHARS) {
        return Err(Problem::field("/q", Code::InvalidParameter, format!("must have at most {MAX_SEARCH_CHARS} characters")));
    }
    let after: Option<CouponId> = params.cursor.as_deref().map(|cursor| coupons.kit.cursors.decode(CURSOR, cursor)).transpose()?;
    let filter = CouponFilter { text: params.q, store_id: params.store, phase: params.state.map(Into::into) };
    let now = coupons.kit.clock.now();
    let mut reader = coupons.kit.db.reader().await?;
    let mut found = definitions::page(&mut reader, &filter, after, now, limit + 1).await?;
    let has_more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next_cursor = found.last().filter(|_| has_more).map(|last| coupons.kit.cursors.encode(CURSOR, &last.id));
    Ok(Json(Listing { items: found.iter().map(|definition| Coupon::of(definition, now)).collect(), next_cursor }))
}
