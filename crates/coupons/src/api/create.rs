//! `coupons.create`: announces a coupon. Operators; sellers for the goods of a store they run.

use super::{Coupon, CouponKind, may_manage, reject_mistakes};
use crate::{
    Coupons,
    model::{Mistake, NewDefinition, Terms},
    store::definitions,
};
use axum::{extract::State, response::Response};
use contracts::{
    Code, StoreId, Timestamp, Won,
    calls::{CouponScope, Discount, GetStore},
};
use garde::Validate;
use kit::{
    Answer, Command, Fault, Outcome, Work,
    auth::{Caller, Role},
    extract::Seller,
    http::{Input, Problem, ProblemBody, Trace, rules, text},
    ports::new_id,
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Longest name: one line on a phone.
pub const MAX_NAME_CHARS: usize = 100;
/// Most units of one coupon: numbers and counts stay readable.
pub const MAX_QUANTITY: i64 = 1_000_000_000;
/// Most coupons per member: each claim reads all of them.
const MAX_PER_MEMBER: u32 = 100;
/// Ten years.
const MAX_VALID_DAYS: u32 = 3_650;

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCoupon {
    #[serde(deserialize_with = "text::cleaned")]
    #[garde(custom(rules::text(MAX_NAME_CHARS)))]
    #[schema(example = "Autumn 10 %")]
    name: String,
    #[garde(skip)]
    kind: CouponKind,
    #[garde(skip)]
    discount: NewCouponDiscount,
    #[garde(skip)]
    scope: CouponScope,
    /// Required with scope `store`, allowed with `item`, not allowed with `order`.
    #[garde(skip)]
    store_id: Option<StoreId>,
    /// Units to issue: required for `first_come`, not allowed for `unlimited`.
    #[garde(range(min = 1, max = MAX_QUANTITY))]
    quantity: Option<i64>,
    /// Most coupons per member.
    #[serde(default = "default_per_member")]
    #[garde(range(min = 1, max = MAX_PER_MEMBER))]
    per_member: u32,
    /// A member who gave a coupon back may claim again.
    #[serde(default)]
    #[garde(skip)]
    reissue_after_cancel: bool,
    /// Smallest amount to which the coupon applies.
    #[serde(default)]
    #[garde(skip)]
    min_order: Won,
    /// First instant of issue.
    #[garde(skip)]
    issue_from: Timestamp,
    /// End of issue: the last coupon is issued just before it. A window in the past is accepted: the coupon is `closed` at once.
    #[garde(skip)]
    issue_until: Timestamp,
    /// First instant of use. Absent: at once.
    #[garde(skip)]
    valid_from: Option<Timestamp>,
    /// End of use: the coupon is usable until just before it.
    #[garde(skip)]
    valid_until: Option<Timestamp>,
    /// Usable for this many days. At least one of `valid_until` and `valid_days` is required; the earlier end counts.
    #[garde(range(min = 1, max = MAX_VALID_DAYS))]
    valid_days: Option<u32>,
    /// Claims that come too late may wait for a free unit.
    #[serde(default)]
    #[garde(skip)]
    waitlist: bool,
}

/// An amount of won, or a rate with an optional cap.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCouponDiscount {
    r#type: NewCouponDiscountType,
    /// For `amount`.
    won: Option<Won>,
    /// For `rate`: hundredths of a percent, 1 to 10000. The discount is rounded down to whole won.
    basis_points: Option<i64>,
    /// For `rate`: the cap.
    max_won: Option<Won>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum NewCouponDiscountType {
    Amount,
    Rate,
}

fn default_per_member() -> u32 {
    1
}

/// Announces a coupon
///
/// Operators; sellers for the goods of a store they run.
#[utoipa::path(
    post, path = "/v1/coupons", operation_id = "coupons.create", tag = "coupons", request_body = NewCoupon,
    responses(
        (status = 201, description = "announced", body = Coupon),
        (status = 403, description = "a seller without a store", body = ProblemBody),
        (status = 404, description = "a store the seller does not run", body = ProblemBody),
        (status = 422, description = "invalid-field", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn create(
    State(coupons): State<Arc<Coupons>>,
    Seller(caller): Seller,
    trace: Trace,
    input: Input<NewCoupon>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    let new = input.value.into_definition()?;
    kit::submit::run_prepared(&coupons, key, trace, async {
        check_store(&coupons, &caller, new.terms.store_id).await?;
        Ok(CreateCoupon { new })
    })
    .await
}

impl NewCoupon {
    fn into_definition(self) -> Result<NewDefinition, Problem> {
        let mut mistakes = self.discount.mistakes();
        match (self.kind, self.quantity) {
            (CouponKind::FirstCome, None) => mistakes.push(Mistake { pointer: "/quantity", message: "is required for first_come" }),
            (CouponKind::Unlimited, Some(_)) => mistakes.push(Mistake { pointer: "/quantity", message: "does not belong to unlimited" }),
            _ => {}
        }
        let new = NewDefinition {
            name: self.name,
            terms: Terms {
                discount: self.discount.terms(),
                scope: self.scope,
                store_id: self.store_id,
                min_order: self.min_order,
                per_member: self.per_member,
                reissue_after_cancel: self.reissue_after_cancel,
                issue_from: self.issue_from,
                valid_from: self.valid_from,
                valid_until: self.valid_until,
                valid_days: self.valid_days,
            },
            quantity: self.quantity,
            issue_until: self.issue_until,
            waitlist: self.waitlist,
        };
        for mistake in new.mistakes() {
            // One mistake per field: a missing value is not also too small.
            if mistakes.iter().all(|known| known.pointer != mistake.pointer) {
                mistakes.push(mistake);
            }
        }
        reject_mistakes(mistakes)?;
        Ok(new)
    }
}

impl NewCouponDiscount {
    /// Finds fields that are missing, or belong to the other type (C2).
    fn mistakes(&self) -> Vec<Mistake> {
        let fields = match self.r#type {
            NewCouponDiscountType::Amount => {
                [(self.won.is_some(), true), (self.basis_points.is_some(), false), (self.max_won.is_some(), false)]
            }
            // The cap is optional.
            NewCouponDiscountType::Rate => [(self.won.is_some(), false), (self.basis_points.is_some(), true), (false, false)],
        };
        ["/discount/won", "/discount/basis_points", "/discount/max_won"]
            .into_iter()
            .zip(fields)
            .filter_map(|(pointer, (is_given, is_required))| match (is_given, is_required) {
                (false, true) => Some(Mistake { pointer, message: "is required for this type of discount" }),
                (true, false) => Some(Mistake { pointer, message: "does not belong to this type of discount" }),
                _ => None,
            })
            .collect()
    }

    /// A missing value, or one out of range, becomes 0. The terms reject 0.
    fn terms(&self) -> Discount {
        match self.r#type {
            NewCouponDiscountType::Amount => Discount::Amount { won: self.won.unwrap_or_default() },
            NewCouponDiscountType::Rate => Discount::Rate {
                basis_points: self.basis_points.and_then(|points| u32::try_from(points).ok()).unwrap_or(0),
                max_won: self.max_won,
            },
        }
    }
}

/// A seller announces coupons for an own store; only operators announce coupons of the whole mall.
async fn check_store(coupons: &Coupons, caller: &Caller, store_id: Option<StoreId>) -> Result<(), Problem> {
    match (caller.role, store_id) {
        (Role::Operator, None) => Ok(()),
        (Role::Operator, Some(store_id)) => match coupons.kit.links.call(GetStore { store_id }).await? {
            Some(_) => Ok(()),
            None => Err(Problem::field("/store_id", Code::InvalidField, "there is no such store")),
        },
        (_, None) => Err(Problem::new(Code::Forbidden, "Sellers announce coupons for the goods of their own stores.")),
        (_, Some(_)) => may_manage(coupons, caller, store_id).await,
    }
}

struct CreateCoupon {
    new: NewDefinition,
}

impl Command for CreateCoupon {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.create";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            let definition = command.new.announce(new_id().into(), work.now);
            definitions::insert(&mut work.tx, &definition).await?;
            let answer = Answer::json(201, &Coupon::of(&definition, work.now))?;
            outcomes.push(answer.at(format!("/v1/coupons/{}", definition.id)).into());
        }
        Ok(outcomes)
    }
}
