//! `coupons.standing`: the caller's coupon, or position in the waitlist. Any signed-in account, its own.

use crate::{
    Coupons,
    model::{self, IssuedCoupon, Ticket, TicketState, WaitlistEntry},
    store::{definitions, issued, waiting},
};
use axum::{Json, extract::State};
use contracts::{Code, CouponId, IssuedCouponId, OrderId, Timestamp};
use kit::{
    DbError, Tx,
    extract::SignedIn,
    http::{Path, Problem, ProblemBody},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IssuedCouponState {
    Issued,
    /// An unpaid order holds it.
    Held,
    Used,
    /// Given back.
    Cancelled,
    Expired,
}

impl From<model::IssuedState> for IssuedCouponState {
    fn from(state: model::IssuedState) -> Self {
        match state {
            model::IssuedState::Issued => IssuedCouponState::Issued,
            model::IssuedState::Held => IssuedCouponState::Held,
            model::IssuedState::Used => IssuedCouponState::Used,
            model::IssuedState::Cancelled => IssuedCouponState::Cancelled,
            model::IssuedState::Expired => IssuedCouponState::Expired,
        }
    }
}

impl From<IssuedCouponState> for model::IssuedState {
    fn from(state: IssuedCouponState) -> Self {
        match state {
            IssuedCouponState::Issued => model::IssuedState::Issued,
            IssuedCouponState::Held => model::IssuedState::Held,
            IssuedCouponState::Used => model::IssuedState::Used,
            IssuedCouponState::Cancelled => model::IssuedState::Cancelled,
            IssuedCouponState::Expired => model::IssuedState::Expired,
        }
    }
}

/// The caller's coupon, or position in the waitlist.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ClaimStanding {
    /// The coupon that was issued to the caller last.
    Coupon {
        state: IssuedCouponState,
        issued_coupon_id: IssuedCouponId,
        number: i64,
        issued_at: Timestamp,
        expires_at: Timestamp,
        /// The order that holds or used it.
        order_id: Option<OrderId>,
    },
    Waiting {
        #[schema(example = "waiting")]
        state: &'static str,
        ticket: Ticket,
        /// 1 is next.
        position: i64,
    },
    /// The waitlist was closed before the caller's turn.
    Closed {
        #[schema(example = "closed")]
        state: &'static str,
        ticket: Ticket,
    },
}

/// The caller's coupon, or position in the waitlist
///
/// Any signed-in account, its own.
#[utoipa::path(
    get, path = "/v1/coupons/{id}/claims/mine", operation_id = "coupons.standing", tag = "coupons", params(("id" = CouponId, Path)),
    responses((status = 200, body = ClaimStanding), (status = 404, description = "nothing of this coupon", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn standing(
    State(coupons): State<Arc<Coupons>>,
    SignedIn(caller): SignedIn,
    Path(id): Path<CouponId>,
) -> Result<Json<ClaimStanding>, Problem> {
    let now = coupons.kit.clock.now();
    let mut reader = coupons.kit.db.reader().await?;
    let entry = waiting::entry(&mut reader, id, caller.member_id).await?;
    if let Some(WaitlistEntry { ticket, state: TicketState::Waiting, .. }) = entry {
        let position = position(&mut reader, id, ticket).await?;
        return Ok(Json(ClaimStanding::Waiting { state: "waiting", ticket, position }));
    }
    let coupons = issued::of_member(&mut reader, id, caller.member_id).await?;
    let standing = match (latest(&coupons), entry) {
        (Some(coupon), _) => ClaimStanding::Coupon {
            state: coupon.state_at(now).into(),
            issued_coupon_id: coupon.id,
            number: coupon.number,
            issued_at: coupon.issued_at,
            expires_at: coupon.expires_at,
            order_id: coupon.order_id,
        },
        (None, Some(WaitlistEntry { ticket, state: TicketState::Closed, .. })) => ClaimStanding::Closed { state: "closed", ticket },
        (None, _) => return Err(Code::NotFound.into()),
    };
    Ok(Json(standing))
}

/// The last coupon that was not given back. If all were given back, the last one.
fn latest(coupons: &[IssuedCoupon]) -> Option<&IssuedCoupon> {
    coupons.iter().rev().find(|coupon| coupon.state != model::IssuedState::Cancelled).or_else(|| coupons.last())
}

async fn position(tx: &mut Tx, id: CouponId, ticket: Ticket) -> Result<i64, DbError> {
    let head = definitions::find(tx, &[id]).await?.pop().map_or(1, |definition| definition.head_ticket);
    waiting::position_of(tx, id, ticket, head).await
}
