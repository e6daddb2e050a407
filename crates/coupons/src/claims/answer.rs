//! Answers to a claim, the same whether it is settled at once or from the claims log.

use crate::model::Ticket;
use contracts::{ClaimId, IssuedCouponId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

/// Name of the operation, also in idempotency keys: a repeat gets the same answer by either way.
pub const OPERATION: &str = "coupons.claim";

/// The caller owns the coupon.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClaimIssued {
    #[schema(example = "issued")]
    pub state: &'static str,
    pub issued_coupon_id: IssuedCouponId,
    /// Position in the order of issue, from 1.
    pub number: i64,
    pub expires_at: Timestamp,
}

/// The caller waits for a unit to become free.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClaimWaiting {
    #[schema(example = "waiting")]
    pub state: &'static str,
    pub ticket: Ticket,
    /// Position in the waitlist; 1 is next.
    pub position: i64,
}

/// The claim is durable and will be settled in its turn. `Location` has the URL of its outcome.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClaimPending {
    #[schema(example = "pending")]
    pub state: &'static str,
    pub claim_id: ClaimId,
}
