//! `coupons.outcome`: the outcome of a claim that was answered before it was settled. Only for the member who made the claim.

use crate::{
    Coupons,
    claims::{Claimant, deferred},
    store::claims,
};
use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use contracts::{ClaimId, Code, CouponId};
use kit::{
    Answer,
    extract::SignedIn,
    http::{Path, Problem, ProblemBody},
};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The outcome of a claim.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClaimOutcome {
    pub claim_id: ClaimId,
    /// `pending`; then `issued`, `waiting` or `refused`.
    #[schema(example = "issued")]
    pub state: &'static str,
    /// The status of the answer that the claim would have got at once. Absent while it is pending.
    #[schema(example = 201)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The body of that answer: the coupon, the position in the waitlist, or the problem. Absent while it is pending.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Box<serde_json::value::RawValue>>,
}

/// The outcome of a claim that was answered before it was settled
///
/// Only for the member who made the claim. A claim is pending until it is settled, and its outcome never changes after that.
#[utoipa::path(
    get, path = "/v1/coupons/{id}/claims/{claim_id}", operation_id = "coupons.outcome", tag = "coupons",
    params(("id" = CouponId, Path), ("claim_id" = ClaimId, Path)),
    responses(
        (status = 200, description = "pending or settled", body = ClaimOutcome,
            headers(("Retry-After" = u32, description = "while it is pending"))),
        (status = 404, description = "the caller made no claim with this id", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn outcome(
    State(coupons): State<Arc<Coupons>>,
    SignedIn(caller): SignedIn,
    Path((coupon_id, claim_id)): Path<(CouponId, ClaimId)>,
) -> Result<Response, Problem> {
    let claimant = Claimant { coupon_id, member_id: caller.member_id };
    if !deferred::verify_claim_id(&coupons.kit, claimant, claim_id) {
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
                tracing::error!(%error, claim.id = %claim_id, "recorded answer of a claim is not JSON");
                Problem::from(Code::Internal)
            })?;
            ClaimOutcome { claim_id, state, status: Some(answer.status), answer: Some(body) }
        }
    };
    let mut response = kit::http::answer(Answer::json(200, &shown).map_err(|_| Problem::from(Code::Internal))?);
    if is_pending {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(deferred::RETRY_AFTER_SECS));
    }
    Ok(response)
}
