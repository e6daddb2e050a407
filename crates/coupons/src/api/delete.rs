//! `coupons.delete`: withdraws a coupon. Operators; sellers for the goods of a store they run.
//!
//! No more coupons are issued, and the next pass of the job closes the waitlist. Issued coupons stay usable.

use super::may_manage;
use crate::{Coupons, loaded::LoadedCoupons, store::definitions};
use axum::{extract::State, response::Response};
use contracts::{Code, CouponId};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    extract::Seller,
    http::{Empty, Input, Path, Problem, ProblemBody, Trace},
};
use std::sync::Arc;

/// Withdraws a coupon
///
/// Operators; sellers for the goods of a store they run.
#[utoipa::path(
    delete, path = "/v1/coupons/{id}", operation_id = "coupons.delete", tag = "coupons", params(("id" = CouponId, Path)),
    responses((status = 204, description = "withdrawn"), (status = 404, body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn delete(
    State(coupons): State<Arc<Coupons>>,
    Seller(caller): Seller,
    Path(id): Path<CouponId>,
    trace: Trace,
    input: Input<Empty>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    let answer = kit::submit::run_prepared(&coupons, key, trace, async {
        let found = definitions::find(&mut *coupons.kit.db.reader().await?, &[id]).await?.pop().ok_or(Code::NotFound)?;
        may_manage(&coupons, &caller, found.terms.store_id).await?;
        Ok(DeleteCoupon { id })
    })
    .await;
    coupons.flush_gate().await;
    answer
}

struct DeleteCoupon {
    id: CouponId,
}

impl Command for DeleteCoupon {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.delete";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let now = work.now;
        let (tx, loaded) = work.rows::<LoadedCoupons>();
        loaded.load_definitions(tx, commands.iter().map(|command| command.id)).await?;
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(commands.len());
        for command in commands {
            let deleted = match loaded.definitions.get_mut(command.id) {
                Some(definition) => definition.delete(now),
                None => Err(Code::NotFound),
            };
            outcomes.push(deleted.map_or_else(Outcome::from, |()| Answer::empty(204).into()));
        }
        Ok(outcomes)
    }
}
