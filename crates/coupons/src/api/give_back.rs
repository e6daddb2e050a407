//! `coupons.give_back`: the caller leaves the waitlist, or gives his unused coupon back; its unit goes to who waits longest. Any
//! signed-in account, its own.

use crate::{
    Coupons,
    model::{self, Entry, IssuedCoupon, TicketState},
    store::{Books, issued, waiting},
    waitlist::{gone, promote_in},
};
use axum::{extract::State, response::Response};
use contracts::{Code, CouponId, IssuedCouponId, MemberId, Message, Timestamp};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    auth::SignedIn,
    http::{Empty, Input, Path, Problem, ProblemBody, Trace},
};
use std::sync::Arc;

/// The caller leaves the waitlist, or gives his unused coupon back; its unit goes to who waits longest
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
    let answer = kit::http::run(&coupons, GiveBack { coupon_id, member_id: caller.member_id }, key, trace).await;
    coupons.told().await;
    answer
}

struct GiveBack {
    coupon_id: CouponId,
    member_id: MemberId,
}

impl Command for GiveBack {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.give_back";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut books = work.take_stash::<Books>();
        books.load_definitions(&mut work.tx, commands.iter().map(|command| command.coupon_id)).await?;
        // All that may be given back, in one order: below, each command looks only at its own.
        let owners: Vec<_> = commands.iter().map(|command| (command.coupon_id, command.member_id)).collect();
        let ids = issued::ids_of_members(&mut work.tx, &owners).await?;
        books.load_issued(&mut work.tx, ids).await?;
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            // One after the other: who leaves here may be who would have been served by the next.
            outcomes.push(give_back_in(work, &mut books, command).await?);
        }
        work.put_stash(books);
        Ok(outcomes)
    }
}

async fn give_back_in(work: &mut Work, books: &mut Books, command: &GiveBack) -> Result<Outcome, Fault> {
    let &GiveBack { coupon_id, member_id } = command;
    let Some(definition) = books.definitions.get_mut(coupon_id) else { return Ok(Code::NotFound.into()) };
    let entry = waiting::entry(&mut work.tx, coupon_id, member_id).await?;
    if let Some(Entry { ticket, state: TicketState::Waiting, .. }) = entry {
        definition.leave();
        waiting::leave(&mut work.tx, coupon_id, ticket).await?;
        return Ok(Answer::empty(204).into());
    }
    let coupons = issued::load_of_member(&mut work.tx, coupon_id, member_id).await?;
    let coupons: Vec<&IssuedCoupon> = books.issued.learn_all(coupons.into_iter().map(|coupon| (coupon.id, coupon)));
    match choose(&coupons, entry, work.now) {
        Ok(Some(id)) => return_in(work, books, id).await,
        Ok(None) => Ok(Answer::empty(204).into()),
        Err(code) => Ok(code.into()),
    }
}

/// The coupon to give back: the last he could. `None`: he gave back what he had, or left, before.
fn choose(coupons: &[&IssuedCoupon], entry: Option<Entry>, now: Timestamp) -> Result<Option<IssuedCouponId>, Code> {
    if let Some(coupon) = coupons.iter().rev().find(|coupon| coupon.state_at(now) == model::State::Issued) {
        Ok(Some(coupon.id))
    } else if coupons.iter().any(|coupon| coupon.state != model::State::Cancelled) {
        Err(Code::CouponNotReturnable)
    } else if coupons.is_empty() && entry.is_none_or(|entry| entry.state != TicketState::Left) {
        Err(Code::NotFound)
    } else {
        Ok(None)
    }
}

async fn return_in(work: &mut Work, books: &mut Books, id: IssuedCouponId) -> Result<Outcome, Fault> {
    let Some(coupon) = books.issued.get_mut(id) else { return Ok(Code::NotFound.into()) };
    if let Err(code) = coupon.give_back(work.now) {
        return Ok(code.into());
    }
    let (coupon_id, member_id) = (coupon.coupon_id, coupon.member_id);
    work.emit(coupon_id, Message::CouponCancelled(gone(coupon)))?;
    if let Some(definition) = books.definitions.get_mut(coupon_id) {
        definition.take_back();
        if definition.terms.reissue_after_cancel {
            books.changes.share(coupon_id, member_id, -1);
        }
    }
    // At once: a claim of the same member may follow in this transaction, and looks in the table for what he has.
    books.save_issued(&mut work.tx).await?;
    promote_in(work, books, [coupon_id]).await?;
    Ok(Answer::empty(204).into())
}
