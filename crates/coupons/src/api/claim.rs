//! `coupons.claim`: takes a coupon, first come, first served. Any signed-in account, for itself.
//!
//! All claims that arrived while the last transaction committed are settled by one: the coupon is read once, they are decided in the
//! order of their arrival, and it is saved once. Each is answered after the commit.

use crate::{
    Coupons, Strategy,
    model::{Claim as Decision, Entry, IssuedCoupon, Standing, Ticket, TicketState},
    store::{Books, issued, waiting},
    waitlist::issue,
};
use axum::{extract::State, response::Response};
use contracts::{Code, CouponId, IssuedCouponId, MemberId, Timestamp};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    auth::SignedIn,
    http::{Empty, Input, Path, Problem, ProblemBody, Trace},
};
use serde::Serialize;
use std::{collections::HashMap, sync::Arc};
use utoipa::ToSchema;

/// The coupon is the caller's.
#[derive(Debug, Serialize, ToSchema)]
struct ClaimIssued {
    #[schema(example = "issued")]
    state: &'static str,
    issued_coupon_id: IssuedCouponId,
    /// The first that was issued has 1.
    number: i64,
    expires_at: Timestamp,
}

/// The caller waits for a unit to come free.
#[derive(Debug, Serialize, ToSchema)]
struct ClaimWaiting {
    #[schema(example = "waiting")]
    state: &'static str,
    ticket: Ticket,
    /// 1 is next.
    position: i64,
}

/// Takes a coupon, first come, first served
///
/// Any signed-in account, for itself.
#[utoipa::path(
    post, path = "/v1/coupons/{id}/claims", operation_id = "coupons.claim", tag = "coupons", params(("id" = CouponId, Path)),
    responses(
        (status = 201, description = "issued", body = ClaimIssued),
        (status = 202, description = "on the waitlist; asked again, the same ticket", body = ClaimWaiting),
        (status = 404, description = "unknown or withdrawn", body = ProblemBody),
        (status = 409, description = "already-issued, sold-out, not-open or closed", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn claim(
    State(coupons): State<Arc<Coupons>>,
    SignedIn(caller): SignedIn,
    Path(coupon_id): Path<CouponId>,
    trace: Trace,
    input: Input<Empty>,
) -> Result<Response, Problem> {
    let (member_id, key) = (caller.member_id, input.key(caller.member_id));
    // With a key the answer may have been given before, and must then be the same: that is for the batch to know.
    if key.is_none()
        && let Some(code) = coupons.gate.refusal(&coupons.kit, coupon_id, member_id).await
    {
        return Err(code.into());
    }
    let alone = coupons.settings.strategy == Strategy::RowLock;
    kit::http::run(&coupons, Claim { coupon_id, member_id, alone }, key, trace).await
}

struct Claim {
    coupon_id: CouponId,
    member_id: MemberId,
    alone: bool,
}

impl Command for Claim {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.claim";

    fn alone(&self) -> bool {
        self.alone
    }

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, claims: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut books = work.take_stash::<Books>();
        books.load_definitions(&mut work.tx, claims.iter().map(|claim| claim.coupon_id)).await?;
        let mut settled = Settled { standings: standings(work, &books, claims).await?, ..Settled::default() };
        let mut outcomes = Vec::with_capacity(claims.len());
        for claim in claims {
            outcomes.push(settled.decide(work, &mut books, claim).await?);
        }
        issued::insert(&mut work.tx, &settled.issued).await?;
        waiting::join(&mut work.tx, &settled.joined).await?;
        work.put_stash(books);
        Ok(outcomes)
    }
}

/// What the applicants have already: one point query each, and one more where somebody may wait.
async fn standings(work: &mut Work, books: &Books, claims: &[&Claim]) -> Result<HashMap<(CouponId, MemberId), Standing>, Fault> {
    let mut applicants: Vec<(CouponId, MemberId)> = claims.iter().map(|claim| (claim.coupon_id, claim.member_id)).collect();
    applicants.sort_unstable();
    applicants.dedup();
    let mut standings = issued::standings(&mut work.tx, &applicants).await?;
    applicants.retain(|(coupon_id, _)| books.definitions.get(*coupon_id).is_some_and(|definition| definition.waiting > 0));
    for (coupon_id, member_id, ticket) in waiting::tickets(&mut work.tx, &applicants).await? {
        standings.entry((coupon_id, member_id)).or_default().ticket = Some(ticket);
    }
    Ok(standings)
}

/// A batch as far as it is decided: each claim sees what the ones before it got.
#[derive(Default)]
struct Settled {
    standings: HashMap<(CouponId, MemberId), Standing>,
    issued: Vec<IssuedCoupon>,
    joined: Vec<(CouponId, Entry)>,
}

impl Settled {
    async fn decide(&mut self, work: &mut Work, books: &mut Books, claim: &Claim) -> Result<Outcome, Fault> {
        let &Claim { coupon_id, member_id, .. } = claim;
        let Some(definition) = books.definitions.get_mut(coupon_id) else { return Ok(Code::NotFound.into()) };
        let standing = self.standings.entry((coupon_id, member_id)).or_default();
        let answer = match definition.claim(*standing, work.now) {
            Decision::Granted => {
                let unit = definition.issue(work.now);
                standing.issued += 1;
                let coupon = issue(work, coupon_id, member_id, standing.issued, unit, false)?;
                let answer = ClaimIssued { state: "issued", issued_coupon_id: coupon.id, number: unit.number, expires_at: unit.expires_at };
                self.issued.push(coupon);
                Answer::json(201, &answer)?
            }
            Decision::Queued => {
                let (ticket, position) = definition.enqueue();
                standing.ticket = Some(ticket);
                self.joined.push((coupon_id, Entry { ticket, member_id, state: TicketState::Waiting, at: work.now }));
                Answer::json(202, &ClaimWaiting { state: "waiting", ticket, position })?
            }
            Decision::Waiting(ticket) => {
                let position = waiting::position_of(&mut work.tx, coupon_id, ticket, definition.head_ticket).await?;
                Answer::json(202, &ClaimWaiting { state: "waiting", ticket, position })?
            }
            Decision::Refused(code) => return Ok(code.into()),
        };
        Ok(answer.into())
    }
}
