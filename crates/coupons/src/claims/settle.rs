//! Decides claims inside a transaction, one after the other, on the rows that the transaction has locked.

use super::answer::{ClaimIssued, ClaimWaiting};
use crate::{
    loaded::LoadedCoupons,
    model::{ClaimDecision, IssuedCoupon, MemberHoldings, TicketState, WaitlistEntry},
    store::{issued, waiting},
    waitlist::emit_issued,
};
use contracts::{Code, CouponId, MemberId, Timestamp};
use kit::{Answer, Fault, Tx, Work, ports::new_id};
use std::collections::HashMap;

/// A member and the coupon that the member claims.
#[derive(Clone, Copy, Debug)]
pub struct Claimant {
    pub coupon_id: CouponId,
    pub member_id: MemberId,
}

/// Returns the answers in the order of the claims. The caller has loaded the definitions for a change.
pub async fn settle(work: &mut Work, claims: &[Claimant]) -> Result<Vec<Answer>, Fault> {
    let now = work.now;
    let (tx, loaded) = work.rows::<LoadedCoupons>();
    let mut batch = BatchDecisions { holdings: holdings(tx, loaded, claims).await?, ..BatchDecisions::default() };
    let mut answers = Vec::with_capacity(claims.len());
    for claim in claims {
        answers.push(batch.decide(tx, loaded, *claim, now).await?);
    }
    issued::insert(tx, &batch.issued).await?;
    waiting::join(tx, &batch.joined).await?;
    emit_issued(work, &batch.issued, false)?;
    Ok(answers)
}

/// Reads the holdings of all claimants: one point query each, and one more for a coupon that has a waitlist.
async fn holdings(
    tx: &mut Tx,
    loaded: &LoadedCoupons,
    claims: &[Claimant],
) -> Result<HashMap<(CouponId, MemberId), MemberHoldings>, Fault> {
    let mut claimants: Vec<(CouponId, MemberId)> = claims.iter().map(|claim| (claim.coupon_id, claim.member_id)).collect();
    claimants.sort_unstable();
    claimants.dedup();
    let mut holdings = issued::holdings(tx, &claimants).await?;
    claimants.retain(|(coupon_id, _)| loaded.definitions.get(*coupon_id).is_some_and(|definition| definition.waiting > 0));
    for (coupon_id, member_id, ticket) in waiting::tickets(tx, &claimants).await? {
        holdings.entry((coupon_id, member_id)).or_default().ticket = Some(ticket);
    }
    Ok(holdings)
}

/// Decisions of this batch so far. Each claim sees the results of those before it.
#[derive(Default)]
struct BatchDecisions {
    holdings: HashMap<(CouponId, MemberId), MemberHoldings>,
    issued: Vec<IssuedCoupon>,
    joined: Vec<(CouponId, WaitlistEntry)>,
}

impl BatchDecisions {
    async fn decide(&mut self, tx: &mut Tx, loaded: &mut LoadedCoupons, claim: Claimant, now: Timestamp) -> Result<Answer, Fault> {
        let Claimant { coupon_id, member_id } = claim;
        let Some(definition) = loaded.definitions.get_mut(coupon_id) else { return Ok(Answer::refusal(&Code::NotFound.into())) };
        let holdings = self.holdings.entry((coupon_id, member_id)).or_default();
        match definition.claim(*holdings, now) {
            ClaimDecision::Granted => {
                let unit = definition.issue(now);
                holdings.issued += 1;
                let coupon = IssuedCoupon::new(new_id().into(), coupon_id, member_id, holdings.issued, unit, now);
                loaded.gate_changes.add_member_count(coupon_id, member_id, 1);
                let answer = ClaimIssued { state: "issued", issued_coupon_id: coupon.id, number: unit.number, expires_at: unit.expires_at };
                self.issued.push(coupon);
                Answer::json(201, &answer)
            }
            ClaimDecision::Queued => {
                let (ticket, position) = definition.enqueue();
                holdings.ticket = Some(ticket);
                self.joined.push((coupon_id, WaitlistEntry { ticket, member_id, state: TicketState::Waiting, at: now }));
                Answer::json(202, &ClaimWaiting { state: "waiting", ticket, position })
            }
            ClaimDecision::Waiting(ticket) => {
                let position = waiting::position_of(tx, coupon_id, ticket, definition.head_ticket).await?;
                Answer::json(202, &ClaimWaiting { state: "waiting", ticket, position })
            }
            ClaimDecision::Refused(code) => Ok(Answer::refusal(&code.into())),
        }
    }
}
