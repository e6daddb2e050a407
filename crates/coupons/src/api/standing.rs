//! `coupons.standing`: what the caller has of a coupon: his coupon, or his place in the waitlist. Any signed-in account, its own.

use crate::{
    Coupons,
    model::{self, Entry, IssuedCoupon, Ticket, TicketState},
    store::{definitions, issued, waiting},
};
use axum::{Json, extract::State};
use contracts::{Code, CouponId, IssuedCouponId, OrderId, Timestamp};
use kit::{
    DbError, Tx,
    auth::SignedIn,
    http::{Path, Problem, ProblemBody},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IssuedCouponState {
    Issued,
    /// An order that is not paid yet has it.
    Held,
    Used,
    /// Given back.
    Cancelled,
    Expired,
}

impl From<model::State> for IssuedCouponState {
    fn from(state: model::State) -> Self {
        match state {
            model::State::Issued => IssuedCouponState::Issued,
            model::State::Held => IssuedCouponState::Held,
            model::State::Used => IssuedCouponState::Used,
            model::State::Cancelled => IssuedCouponState::Cancelled,
            model::State::Expired => IssuedCouponState::Expired,
        }
    }
}

impl From<IssuedCouponState> for model::State {
    fn from(state: IssuedCouponState) -> Self {
        match state {
            IssuedCouponState::Issued => model::State::Issued,
            IssuedCouponState::Held => model::State::Held,
            IssuedCouponState::Used => model::State::Used,
            IssuedCouponState::Cancelled => model::State::Cancelled,
            IssuedCouponState::Expired => model::State::Expired,
        }
    }
}

/// Where the caller stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ClaimStanding {
    /// The coupon issued to him last.
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
    /// The waitlist ended before his turn.
    Closed {
        #[schema(example = "closed")]
        state: &'static str,
        ticket: Ticket,
    },
}

/// What the caller has of a coupon: his coupon, or his place in the waitlist
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
    if let Some(Entry { ticket, state: TicketState::Waiting, .. }) = entry {
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
        (None, Some(Entry { ticket, state: TicketState::Closed, .. })) => ClaimStanding::Closed { state: "closed", ticket },
        (None, _) => return Err(Code::NotFound.into()),
    };
    Ok(Json(standing))
}

/// The last that is still his; the last he gave back only if there is no other.
fn latest(coupons: &[IssuedCoupon]) -> Option<&IssuedCoupon> {
    coupons.iter().rev().find(|coupon| coupon.state != model::State::Cancelled).or_else(|| coupons.last())
}

async fn position(tx: &mut Tx, id: CouponId, ticket: Ticket) -> Result<i64, DbError> {
    let head = definitions::find(tx, &[id]).await?.pop().map_or(1, |definition| definition.head_ticket);
    waiting::position_of(tx, id, ticket, head).await
}
