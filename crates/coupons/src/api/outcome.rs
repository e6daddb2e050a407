//! `coupons.outcome`: what a claim came to that was answered before it was settled. Only who made it may ask.

use crate::{Coupons, later, settle::Claimant, store::claims};
use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use contracts::{ClaimId, Code, CouponId};
use kit::{
    Answer,
    auth::SignedIn,
    http::{Path, Problem, ProblemBody},
};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// What a claim came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClaimOutcome {
    pub claim_id: ClaimId,
    /// `pending`; then `issued`, `waiting` or `refused`.
    #[schema(example = "issued")]
    pub state: &'static str,
    /// The status that the claim would have been answered with at once; absent while it is pending.
    #[schema(example = 201)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The body of that answer: the coupon, the place in the waitlist, or the problem. Absent while it is pending.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Box<serde_json::value::RawValue>>,
}

/// What a claim came to that was answered before it was settled
///
/// Only who made it may ask. A claim that was taken down is pending until it is settled, and stays what it then is.
#[utoipa::path(
    get, path = "/v1/coupons/{id}/claims/{claim_id}", operation_id = "coupons.outcome", tag = "coupons",
    params(("id" = CouponId, Path), ("claim_id" = ClaimId, Path)),
    responses(
        (status = 200, description = "as far as it is settled", body = ClaimOutcome,
            headers(("Retry-After" = u32, description = "while it is pending"))),
        (status = 404, description = "no claim of the caller has this id", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn outcome(
    State(coupons): State<Arc<Coupons>>,
    SignedIn(caller): SignedIn,
    Path((coupon_id, claim_id)): Path<(CouponId, ClaimId)>,
) -> Result<Response, Problem> {
    let claimant = Claimant { coupon_id, member_id: caller.member_id };
    if !later::was_given_out(&coupons.kit, claimant, claim_id) {
        return Err(Code::NotFound.into());
    }
    let settled = claims::find(&mut *coupons.kit.db.reader().await?, [claim_id]).await?.remove(&claim_id);
    let is_pending = settled.is_none();
    let shown = match settled {
        None => ClaimOutcome { claim_id, state: "pending", status: None, answer: None },
        Some(answer) => {
            let state = match answer.status {
                201 => "issued",
                202 => "waiting",
                _ => "refused",
            };
            let body = serde_json::from_slice(&answer.body).map_err(|error| {
                tracing::error!(%error, claim.id = %claim_id, "what is kept of a claim is no JSON");
                Problem::from(Code::Internal)
            })?;
            ClaimOutcome { claim_id, state, status: Some(answer.status), answer: Some(body) }
        }
    };
    let mut response = kit::http::answer(Answer::json(200, &shown).map_err(|_| Problem::from(Code::Internal))?);
    if is_pending {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Ok(response)
}
