//! The operations of coupons. Shared by several of them: the public view of a coupon, and the right to manage it.

mod change;
mod claim;
mod create;
mod delete;
mod get;
mod give_back;
mod list;
mod list_mine;
mod outcome;
mod standing;

use crate::{
    Coupons,
    model::{CouponPhase, Definition, Mistake},
};
use contracts::{
    Code, CouponId, StoreId, Timestamp, Won,
    calls::{CouponScope, Discount, GetStore},
};
use kit::{
    auth::{Caller, Role},
    http::{FieldError, Problem},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

pub fn router(coupons: Arc<Coupons>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(create::create, list::list))
        .routes(routes!(get::get, change::change, delete::delete))
        .routes(routes!(claim::claim))
        .routes(routes!(standing::standing, give_back::give_back))
        .routes(routes!(outcome::outcome))
        .routes(routes!(list_mine::list_mine))
        .with_state(coupons)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CouponKind {
    /// A limited quantity, first come, first served.
    FirstCome,
    /// One for each member who claims in time.
    Unlimited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CouponState {
    /// Not issued yet.
    Upcoming,
    Open,
    /// Not issued any more.
    Closed,
}

impl From<CouponPhase> for CouponState {
    fn from(phase: CouponPhase) -> Self {
        match phase {
            CouponPhase::Upcoming => CouponState::Upcoming,
            CouponPhase::Open => CouponState::Open,
            CouponPhase::Closed => CouponState::Closed,
        }
    }
}

impl From<CouponState> for CouponPhase {
    fn from(state: CouponState) -> Self {
        match state {
            CouponState::Upcoming => CouponPhase::Upcoming,
            CouponState::Open => CouponPhase::Open,
            CouponState::Closed => CouponPhase::Closed,
        }
    }
}

/// Public view of a coupon.
#[derive(Debug, Serialize, ToSchema)]
pub struct Coupon {
    pub id: CouponId,
    pub name: String,
    pub kind: CouponKind,
    pub state: CouponState,
    pub discount: Discount,
    pub scope: CouponScope,
    /// The store to whose goods it applies.
    pub store_id: Option<StoreId>,
    /// Smallest amount to which it applies.
    pub min_order: Won,
    /// Most coupons per member.
    pub per_member: u32,
    /// A member who gave a coupon back may claim again.
    pub reissue_after_cancel: bool,
    /// Units to issue. Null: unlimited.
    pub quantity: Option<i64>,
    /// Units that members own.
    pub issued: i64,
    /// Units left. Null: unlimited.
    pub remaining: Option<i64>,
    /// Claims that come too late may wait for a free unit.
    pub waitlist: bool,
    /// Length of the waitlist.
    pub waiting: i64,
    pub issue_from: Timestamp,
    pub issue_until: Timestamp,
    /// First instant of use. Null: at once.
    pub valid_from: Option<Timestamp>,
    /// End of use.
    pub valid_until: Option<Timestamp>,
    /// Usable for this many days. With `valid_until` the earlier end counts.
    pub valid_days: Option<u32>,
    pub created_at: Timestamp,
}

impl Coupon {
    fn of(definition: &Definition, now: Timestamp) -> Coupon {
        let terms = &definition.terms;
        Coupon {
            id: definition.id,
            name: definition.name.clone(),
            kind: if definition.quantity.is_some() { CouponKind::FirstCome } else { CouponKind::Unlimited },
            state: definition.phase(now).into(),
            discount: terms.discount,
            scope: terms.scope,
            store_id: terms.store_id,
            min_order: terms.min_order,
            per_member: terms.per_member,
            reissue_after_cancel: terms.reissue_after_cancel,
            quantity: definition.quantity,
            issued: definition.issued,
            remaining: definition.remaining(),
            waitlist: definition.waitlist,
            waiting: definition.waiting,
            issue_from: terms.issue_from,
            issue_until: definition.issue_until,
            valid_from: terms.valid_from,
            valid_until: terms.valid_until,
            valid_days: terms.valid_days,
            created_at: definition.created_at,
        }
    }
}

/// Operators may manage every coupon; sellers those for the goods of a store they run. For sellers all others are not found.
async fn may_manage(coupons: &Coupons, caller: &Caller, store_id: Option<StoreId>) -> Result<(), Problem> {
    if matches!(caller.role, Role::Operator) {
        return Ok(());
    }
    let Some(store_id) = store_id else { return Err(Code::NotFound.into()) };
    match coupons.kit.links.call(GetStore { store_id }).await? {
        Some(store) if store.seller_id == Some(caller.member_id) => Ok(()),
        _ => Err(Code::NotFound.into()),
    }
}

/// Reports all mistakes of a request in one answer.
fn reject_mistakes(mistakes: Vec<Mistake>) -> Result<(), Problem> {
    if mistakes.is_empty() {
        return Ok(());
    }
    let errors = mistakes.into_iter().map(|Mistake { pointer, message }| FieldError {
        pointer: pointer.to_owned(),
        message: message.to_owned(),
        code: Code::InvalidField,
    });
    Err(Problem::fields(errors.collect()))
}
