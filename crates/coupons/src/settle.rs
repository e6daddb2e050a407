//! Claims inside a transaction: all that it settles are decided in their order on the rows as they then are, whichever way they came here.

use crate::{
    api::{ClaimIssued, ClaimWaiting},
    model::{Claim as Decision, Entry, IssuedCoupon, Standing, TicketState},
    store::{Books, issued, waiting},
    waitlist::issue,
};
use contracts::{Code, CouponId, MemberId};
use kit::{Answer, Fault, Work};
use std::collections::HashMap;

/// Who claims what.
#[derive(Clone, Copy, Debug)]
pub struct Claimant {
    pub coupon_id: CouponId,
    pub member_id: MemberId,
}

/// The answers, in the order of the claims. The definitions must be loaded for a change.
pub async fn settle(work: &mut Work, books: &mut Books, claims: &[Claimant]) -> Result<Vec<Answer>, Fault> {
    let mut settled = Settled { standings: standings(work, books, claims).await?, ..Settled::default() };
    let mut answers = Vec::with_capacity(claims.len());
    for claim in claims {
        answers.push(settled.decide(work, books, *claim).await?);
    }
    issued::insert(&mut work.tx, &settled.issued).await?;
    waiting::join(&mut work.tx, &settled.joined).await?;
    Ok(answers)
}

/// What the applicants have already: one point query each, and one more where somebody may wait.
async fn standings(work: &mut Work, books: &Books, claims: &[Claimant]) -> Result<HashMap<(CouponId, MemberId), Standing>, Fault> {
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
    async fn decide(&mut self, work: &mut Work, books: &mut Books, claim: Claimant) -> Result<Answer, Fault> {
        let Claimant { coupon_id, member_id } = claim;
        let Some(definition) = books.definitions.get_mut(coupon_id) else { return Ok(Answer::refusal(&Code::NotFound.into())) };
        let standing = self.standings.entry((coupon_id, member_id)).or_default();
        match definition.claim(*standing, work.now) {
            Decision::Granted => {
                let unit = definition.issue(work.now);
                standing.issued += 1;
                let coupon = issue(work, coupon_id, member_id, standing.issued, unit, false)?;
                books.changes.share(coupon_id, member_id, 1);
                let answer = ClaimIssued { state: "issued", issued_coupon_id: coupon.id, number: unit.number, expires_at: unit.expires_at };
                self.issued.push(coupon);
                Answer::json(201, &answer)
            }
            Decision::Queued => {
                let (ticket, position) = definition.enqueue();
                standing.ticket = Some(ticket);
                self.joined.push((coupon_id, Entry { ticket, member_id, state: TicketState::Waiting, at: work.now }));
                Answer::json(202, &ClaimWaiting { state: "waiting", ticket, position })
            }
            Decision::Waiting(ticket) => {
                let position = waiting::position_of(&mut work.tx, coupon_id, ticket, definition.head_ticket).await?;
                Answer::json(202, &ClaimWaiting { state: "waiting", ticket, position })
            }
            Decision::Refused(code) => Ok(Answer::refusal(&code.into())),
        }
    }
}
