//! The operations of coupons, and what several of them share: how a coupon is shown, and who may change one.

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

pub use claim::{ClaimIssued, ClaimPending, ClaimWaiting, OPERATION as CLAIM};

use crate::{
    Coupons,
    model::{Definition, Mistake, Phase},
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
    /// As many as the quantity says; who comes first is served first.
    FirstCome,
    /// For everybody who asks in time.
    Unlimited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CouponState {
    /// Not given out yet.
    Upcoming,
    Open,
    /// Not given out any more.
    Closed,
}

impl From<Phase> for CouponState {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Upcoming => CouponState::Upcoming,
            Phase::Open => CouponState::Open,
            Phase::Closed => CouponState::Closed,
        }
    }
}

impl From<CouponState> for Phase {
    fn from(state: CouponState) -> Self {
        match state {
            CouponState::Upcoming => Phase::Upcoming,
            CouponState::Open => Phase::Open,
            CouponState::Closed => Phase::Closed,
        }
    }
}

/// A coupon as everybody sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Coupon {
    pub id: CouponId,
    pub name: String,
    pub kind: CouponKind,
    pub state: CouponState,
    pub discount: Discount,
    pub scope: CouponScope,
    /// The store whose goods it is for.
    pub store_id: Option<StoreId>,
    /// What it is applied to must cost at least this much.
    pub min_order: Won,
    /// How many of it one member may have.
    pub per_member: u32,
    /// Whether a member who gave one back may take another.
    pub reissue_after_cancel: bool,
    /// Units to give out; null without limit.
    pub quantity: Option<i64>,
    /// Units in members' hands.
    pub issued: i64,
    /// Units left; null without limit.
    pub remaining: Option<i64>,
    /// Whether those who come too late may wait for a unit to come free.
    pub waitlist: bool,
    /// How many wait.
    pub waiting: i64,
    pub issue_from: Timestamp,
    pub issue_until: Timestamp,
    /// Usable from here on; null: at once.
    pub valid_from: Option<Timestamp>,
    /// Usable until here.
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

/// Operators may manage every coupon; sellers those for the goods of a store they run. Any other looks to them as if it did not exist.
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

/// All mistakes of a request in one answer.
fn refuse(mistakes: Vec<Mistake>) -> Result<(), Problem> {
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
