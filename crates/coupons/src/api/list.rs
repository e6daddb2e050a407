//! `coupons.list`: the coupons of the mall, newest first, by name, store and state. No sign-in needed.

use super::{Coupon, CouponState};
use crate::{
    Coupons,
    store::definitions::{self, CouponFilter},
};
use axum::{Json, extract::State};
use contracts::{Code, CouponId, StoreId};
use kit::http::{Listing, Problem, ProblemBody, Query, page_limit, text};
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
    /// Part of the name. Case, width and the composition of letters do not count.
    #[param(max_length = 100)]
    q: Option<String>,
    store: Option<StoreId>,
    #[param(inline)]
    state: Option<CouponState>,
    /// Coupons per page; 20 when absent.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
    /// The `next_cursor` of the previous page.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

/// The coupons of the mall, newest first, by name, store and state
///
/// No sign-in needed. With `q`, `store` or `state`, a page looks at a bounded number of coupons. It may then have fewer items than `limit`,
/// or none, although more follow. Only a null `next_cursor` ends the list.
#[utoipa::path(
    get, path = "/v1/coupons", operation_id = "coupons.list", tag = "coupons", params(ListCouponsParams),
    responses((status = 200, body = Listing<Coupon>), (status = 422, description = "invalid-parameter", body = ProblemBody),
        (status = 503, description = "too many searches at once; `Retry-After` tells when to repeat", body = ProblemBody)))]
pub async fn list(State(coupons): State<Arc<Coupons>>, Query(params): Query<ListCouponsParams>) -> Result<Json<Listing<Coupon>>, Problem> {
    let limit = page_limit(params.limit)?;
    if params.q.as_ref().is_some_and(|text| text.chars().count() > MAX_SEARCH_CHARS) {
        return Err(Problem::field("/q", Code::InvalidParameter, format!("must have at most {MAX_SEARCH_CHARS} characters")));
    }
    let after: Option<CouponId> = params.cursor.as_deref().map(|cursor| coupons.kit.cursors.decode(CURSOR, cursor)).transpose()?;
    let text = params.q.as_deref().map(|q| text::fold(q.trim()));
    let filter = CouponFilter { text, store_id: params.store, phase: params.state.map(Into::into) };
    let now = coupons.kit.clock.now();
    let db = &coupons.kit.db;
    let mut reader = if filter.passes_over() { db.heavy_reader().await? } else { db.reader().await? };
    let (found, next) = definitions::page(&mut reader, &filter, after, now, limit).await?;
    let next_cursor = next.map(|last| coupons.kit.cursors.encode(CURSOR, &last));
    Ok(Json(Listing { items: found.iter().map(|definition| Coupon::of(definition, now)).collect(), next_cursor }))
}
