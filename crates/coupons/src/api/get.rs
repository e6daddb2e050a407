//! `coupons.get`: one coupon, with its remaining units and the length of its waitlist. No sign-in needed.

use super::Coupon;
use crate::{Coupons, store::definitions};
use axum::{Json, extract::State};
use contracts::{Code, CouponId};
use kit::http::{Path, Problem, ProblemBody};
use std::sync::Arc;

/// One coupon, with its remaining units and the length of its waitlist
///
/// No sign-in needed.
#[utoipa::path(
    get, path = "/v1/coupons/{id}", operation_id = "coupons.get", tag = "coupons", params(("id" = CouponId, Path)),
    responses((status = 200, body = Coupon), (status = 404, body = ProblemBody)))]
pub async fn get(State(coupons): State<Arc<Coupons>>, Path(id): Path<CouponId>) -> Result<Json<Coupon>, Problem> {
    let mut reader = coupons.kit.db.reader().await?;
    let definition = definitions::get(&mut reader, id).await?.ok_or(Code::NotFound)?;
    Ok(Json(Coupon::of(&definition, coupons.kit.clock.now())))
}
