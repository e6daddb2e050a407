//! `coupons.change`: renames a coupon, raises or lowers its quantity, moves its end, opens or closes its waitlist. Operators; sellers for
//! the goods of a store they run. Fixed are the terms on which members rely: discount, scope and validity.

use super::{Coupon, create, may_manage, reject_mistakes};
use crate::{Coupons, loaded::LoadedCoupons, model::DefinitionChange, store::definitions, waitlist::promote_in};
use axum::{extract::State, response::Response};
use contracts::{Code, CouponId, Timestamp};
use garde::Validate;
use kit::{
    Answer, Command, Fault, Outcome, Work,
    extract::Seller,
    http::{Input, Path, Problem, ProblemBody, Trace, rules, text},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CouponChange {
    #[serde(default, deserialize_with = "text::cleaned_option")]
    #[garde(custom(rules::text(create::MAX_NAME_CHARS)))]
    name: Option<String>,
    /// May rise at any time, which serves the waitlist. Never below the issued units.
    #[garde(range(min = 1, max = create::MAX_QUANTITY))]
    quantity: Option<i64>,
    #[garde(skip)]
    issue_until: Option<Timestamp>,
    /// False: closed to new members. Waiting members are still served.
    #[garde(skip)]
    waitlist: Option<bool>,
}

/// Renames a coupon, raises or lowers its quantity, moves its end, opens or closes its waitlist
///
/// Operators; sellers for the goods of a store they run. Fixed are the terms on which members rely: discount, scope and validity.
#[utoipa::path(
    patch, path = "/v1/coupons/{id}", operation_id = "coupons.change", tag = "coupons", params(("id" = CouponId, Path)),
    request_body = CouponChange,
    responses(
        (status = 200, description = "as it is now", body = Coupon),
        (status = 404, body = ProblemBody),
        (status = 409, description = "quantity-below-issued", body = ProblemBody),
        (status = 422, description = "invalid-field", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn change(
    State(coupons): State<Arc<Coupons>>,
    Seller(caller): Seller,
    Path(id): Path<CouponId>,
    trace: Trace,
    input: Input<CouponChange>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    let CouponChange { name, quantity, issue_until, waitlist } = input.value;
    let change = DefinitionChange { name, quantity, issue_until, waitlist };
    let answer = kit::submit::run_prepared(&coupons, key, trace, async {
        let definition = definitions::find(&mut *coupons.kit.db.reader().await?, &[id]).await?.pop().ok_or(Code::NotFound)?;
        may_manage(&coupons, &caller, definition.terms.store_id).await?;
        // Checked on fields that never change, so the result still holds in the transaction.
        reject_mistakes(definition.mistakes_in(&change))?;
        Ok(ChangeCoupon { id, change })
    })
    .await;
    coupons.flush_gate().await;
    answer
}

struct ChangeCoupon {
    id: CouponId,
    change: DefinitionChange,
}

impl Command for ChangeCoupon {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.change";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let (tx, loaded) = work.rows::<LoadedCoupons>();
        loaded.load_definitions(tx, commands.iter().map(|command| command.id)).await?;
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            outcomes.push(change_in(work, command).await?);
        }
        Ok(outcomes)
    }
}

async fn change_in(work: &mut Work, command: &ChangeCoupon) -> Result<Outcome, Fault> {
    let now = work.now;
    let definitions = &mut work.loaded::<LoadedCoupons>().definitions;
    let Some(before) = definitions.get(command.id) else { return Ok(Code::NotFound.into()) };
    let mut changed = before.clone();
    if let Err(code) = changed.change(&command.change) {
        return Ok(code.into());
    }
    // A change of nothing is only answered.
    if changed != *before {
        definitions.put(command.id, changed);
    }
    promote_in(work, [command.id]).await?;
    let Some(definition) = work.loaded::<LoadedCoupons>().definitions.get(command.id) else { return Ok(Code::NotFound.into()) };
    Ok(Answer::json(200, &Coupon::of(definition, now))?.into())
}
