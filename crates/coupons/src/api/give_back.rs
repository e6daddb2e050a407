//! `coupons.give_back`: the caller leaves the waitlist, or returns an unused coupon. Its unit goes to the first waiting member. Any
//! signed-in account, its own.
//!
//! A repeat must not give back a second thing. So the request names what it gives back, or has a key, or the member has one thing only.

use crate::{
    Coupons,
    loaded::LoadedCoupons,
    model::{IssuedCoupon, IssuedState, Ticket, TicketState, WaitlistEntry},
    store::{issued, waiting},
    waitlist::{leave_in, return_in},
};
use axum::{extract::State, response::Response};
use contracts::{Code, CouponId, IssuedCouponId, MemberId, Refusal, Timestamp};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    extract::SignedIn,
    http::{Empty, FieldError, Input, Path, Problem, ProblemBody, Query, Trace},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Names the one thing to give back. Without a name it is the place in the waitlist, or else the last coupon.
#[derive(Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ToGiveBack {
    /// The coupon to return.
    pub issued_coupon_id: Option<IssuedCouponId>,
    /// The place in the waitlist to leave.
    pub ticket: Option<Ticket>,
}

/// The caller leaves the waitlist, or returns an unused coupon, whose unit goes to the first waiting member
///
/// Any signed-in account, its own. A member with several things to give back names one of them, or sends an `Idempotency-Key`:
/// a repeat then gives back nothing more.
#[utoipa::path(
    delete, path = "/v1/coupons/{id}/claims/mine", operation_id = "coupons.give_back", tag = "coupons",
    params(("id" = CouponId, Path), ToGiveBack),
    responses(
        (status = 204, description = "left, or given back; also when that was done before"),
        (status = 400, description = "idempotency-key-missing: several things could be given back, and none is named", body = ProblemBody),
        (status = 404, description = "nothing of this coupon, or not the named thing", body = ProblemBody),
        (status = 409, description = "coupon-not-returnable: held by an order, used or expired", body = ProblemBody),
        (status = 422, description = "both things are named", body = ProblemBody)),
    extensions(("x-idempotent" = json!(false))),
    security(("bearer" = [])))]
pub async fn give_back(
    State(coupons): State<Arc<Coupons>>,
    SignedIn(caller): SignedIn,
    Path(coupon_id): Path<CouponId>,
    Query(named): Query<ToGiveBack>,
    trace: Trace,
    input: Input<Empty>,
) -> Result<Response, Problem> {
    if named.issued_coupon_id.is_some() && named.ticket.is_some() {
        let (pointer, message) = ("ticket".to_owned(), "name a coupon or a ticket, not both".to_owned());
        return Err(Problem::fields(vec![FieldError { pointer, message, code: Code::InvalidParameter }]));
    }
    let key = input.key(caller.member_id);
    let command = GiveBackCoupon { coupon_id, member_id: caller.member_id, named, is_keyed: key.is_some() };
    let answer = kit::submit::run(&coupons, command, key, trace).await;
    coupons.flush_gate().await;
    answer
}

struct GiveBackCoupon {
    coupon_id: CouponId,
    member_id: MemberId,
    named: ToGiveBack,
    is_keyed: bool,
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

/// The thing that a request gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GiveBackStep {
    Leave(Ticket),
    Return(IssuedCouponId),
    /// The member gave it back before.
    Done,
}

async fn give_back_in(work: &mut Work, command: &GiveBackCoupon) -> Result<Outcome, Fault> {
    let &GiveBackCoupon { coupon_id, member_id, named, is_keyed } = command;
    let now = work.now;
    let (tx, loaded) = work.rows::<LoadedCoupons>();
    if loaded.definitions.get(coupon_id).is_none() {
        return Ok(Code::NotFound.into());
    }
    let entry = waiting::entry(tx, coupon_id, member_id).await?;
    let coupons = issued::load_of_member(tx, coupon_id, member_id).await?;
    let coupons: Vec<&IssuedCoupon> = loaded.issued.add_all_stored(coupons.into_iter().map(|coupon| (coupon.id, coupon)));
    let step = match named {
        ToGiveBack { issued_coupon_id: Some(id), .. } => return_named(&coupons, id, now).map_err(Refusal::from),
        ToGiveBack { ticket: Some(ticket), .. } => leave_named(entry, ticket).map_err(Refusal::from),
        ToGiveBack { issued_coupon_id: None, ticket: None } => choose(&coupons, entry, now, is_keyed),
    };
    match step {
        Ok(GiveBackStep::Leave(_)) => {
            leave_in(work, coupon_id, entry).await?;
            Ok(Answer::empty(204).into())
        }
        Ok(GiveBackStep::Return(id)) => Ok(match return_in(work, id).await? {
            Ok(()) => Answer::empty(204).into(),
            Err(code) => code.into(),
        }),
        Ok(GiveBackStep::Done) => Ok(Answer::empty(204).into()),
        Err(refusal) => Ok(refusal.into()),
    }
}

fn return_named(coupons: &[&IssuedCoupon], id: IssuedCouponId, now: Timestamp) -> Result<GiveBackStep, Code> {
    match coupons.iter().find(|coupon| coupon.id == id).map(|coupon| coupon.state_at(now)) {
        None => Err(Code::NotFound),
        Some(IssuedState::Issued) => Ok(GiveBackStep::Return(id)),
        Some(IssuedState::Cancelled) => Ok(GiveBackStep::Done),
        Some(_) => Err(Code::CouponNotReturnable),
    }
}

/// A member who joined again has another ticket, so the repeat of an earlier leave is not found.
fn leave_named(entry: Option<WaitlistEntry>, ticket: Ticket) -> Result<GiveBackStep, Code> {
    match entry.filter(|entry| entry.ticket == ticket).map(|entry| entry.state) {
        None => Err(Code::NotFound),
        Some(TicketState::Waiting) => Ok(GiveBackStep::Leave(ticket)),
        Some(TicketState::Left) => Ok(GiveBackStep::Done),
        Some(_) => Err(Code::CouponNotReturnable),
    }
}

/// Chooses the place in the waitlist, or else the last coupon that can be returned.
fn choose(coupons: &[&IssuedCoupon], entry: Option<WaitlistEntry>, now: Timestamp, is_keyed: bool) -> Result<GiveBackStep, Refusal> {
    let place = entry.filter(|entry| entry.state == TicketState::Waiting).map(|entry| GiveBackStep::Leave(entry.ticket));
    let returnable = coupons.iter().rev().filter(|coupon| coupon.state_at(now) == IssuedState::Issued);
    let things: Vec<GiveBackStep> = place.into_iter().chain(returnable.map(|coupon| GiveBackStep::Return(coupon.id))).collect();
    match things.as_slice() {
        [first, _, ..] if is_keyed => Ok(*first),
        [_, _, ..] => Err(Refusal::new(
            Code::IdempotencyKeyMissing,
            "Several things can be given back, and a repeat would give back the next one. Name one with issued_coupon_id or ticket, or \
             send an Idempotency-Key.",
        )),
        [only] => Ok(*only),
        [] if coupons.iter().any(|coupon| coupon.state != IssuedState::Cancelled) => Err(Code::CouponNotReturnable.into()),
        [] if coupons.is_empty() && entry.is_none_or(|entry| entry.state != TicketState::Left) => Err(Code::NotFound.into()),
        [] => Ok(GiveBackStep::Done),
    }
}
