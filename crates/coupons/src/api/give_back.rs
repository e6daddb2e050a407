//! `coupons.give_back`: the caller leaves the waitlist, or returns an unused coupon. Its unit goes to the first waiting member. Any
//! signed-in account, its own.

use crate::{
    Coupons,
    loaded::LoadedCoupons,
    model::{self, IssuedCoupon, TicketState, WaitlistEntry},
    store::{issued, waiting},
    waitlist::{leave_in, return_in},
};
use axum::{extract::State, response::Response};
use contracts::{Code, CouponId, IssuedCouponId, MemberId, Timestamp};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    extract::SignedIn,
    http::{Empty, Input, Path, Problem, ProblemBody, Trace},
};
use std::sync::Arc;

/// The caller leaves the waitlist, or returns an unused coupon, whose unit goes to the first waiting member
///
/// Any signed-in account, its own.
#[utoipa::path(
    delete, path = "/v1/coupons/{id}/claims/mine", operation_id = "coupons.give_back", tag = "coupons", params(("id" = CouponId, Path)),
    responses(
        (status = 204, description = "left, or given back; also when that was done before"),
        (status = 404, description = "nothing of this coupon", body = ProblemBody),
        (status = 409, description = "coupon-not-returnable: held by an order, used or expired", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn give_back(
    State(coupons): State<Arc<Coupons>>,
    SignedIn(caller): SignedIn,
    Path(coupon_id): Path<CouponId>,
    trace: Trace,
    input: Input<Empty>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    let answer = kit::submit::run(&coupons, GiveBackCoupon { coupon_id, member_id: caller.member_id }, key, trace).await;
    coupons.flush_gate().await;
    answer
}

struct GiveBackCoupon {
    coupon_id: CouponId,
    member_id: MemberId,
}

impl Command for GiveBackCoupon {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.give_back";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let (tx, loaded) = work.rows::<LoadedCoupons>();
        loaded.load_definitions(tx, commands.iter().map(|command| command.coupon_id)).await?;
        // Loads the coupons of all commands at once, sorted, so that all transactions lock in one order.
        let owners: Vec<_> = commands.iter().map(|command| (command.coupon_id, command.member_id)).collect();
        let ids = issued::ids_of_members(tx, &owners).await?;
        loaded.load_issued(tx, ids).await?;
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            // One after the other: the next command might promote the member who leaves here.
            outcomes.push(give_back_in(work, command).await?);
        }
        Ok(outcomes)
    }
}

async fn give_back_in(work: &mut Work, command: &GiveBackCoupon) -> Result<Outcome, Fault> {
    let &GiveBackCoupon { coupon_id, member_id } = command;
    let now = work.now;
    let (tx, loaded) = work.rows::<LoadedCoupons>();
    if loaded.definitions.get(coupon_id).is_none() {
        return Ok(Code::NotFound.into());
    }
    let entry = waiting::entry(tx, coupon_id, member_id).await?;
    if leave_in(work, coupon_id, entry).await? {
        return Ok(Answer::empty(204).into());
    }
    let (tx, loaded) = work.rows::<LoadedCoupons>();
    let coupons = issued::load_of_member(tx, coupon_id, member_id).await?;
    let coupons: Vec<&IssuedCoupon> = loaded.issued.add_all_stored(coupons.into_iter().map(|coupon| (coupon.id, coupon)));
    match coupon_to_return(&coupons, entry, now) {
        Ok(Some(id)) => Ok(match return_in(work, id).await? {
            Ok(()) => Answer::empty(204).into(),
            Err(code) => code.into(),
        }),
        Ok(None) => Ok(Answer::empty(204).into()),
        Err(code) => Ok(code.into()),
    }
}

/// Chooses the last coupon that can be returned. `None`: the member returned it, or left the waitlist, before.
fn coupon_to_return(coupons: &[&IssuedCoupon], entry: Option<WaitlistEntry>, now: Timestamp) -> Result<Option<IssuedCouponId>, Code> {
    if let Some(coupon) = coupons.iter().rev().find(|coupon| coupon.state_at(now) == model::IssuedState::Issued) {
        Ok(Some(coupon.id))
    } else if coupons.iter().any(|coupon| coupon.state != model::IssuedState::Cancelled) {
        Err(Code::CouponNotReturnable)
    } else if coupons.is_empty() && entry.is_none_or(|entry| entry.state != TicketState::Left) {
        Err(Code::NotFound)
    } else {
        Ok(None)
    }
}
