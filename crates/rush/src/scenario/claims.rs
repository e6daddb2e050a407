//! Everyone claims one coupon at once.

use super::{
    Stage,
    claim::{AskAgain, ClaimOnce, ClaimPaths, ClaimSeen},
    read_back::{AskMine, Came},
};
use crate::{
    Claims, RushError,
    acks::{Ack, Promise},
    check::{self, claims::ClaimsEvidence, history::Span, numbers::Issue},
    engine::tally::Record,
    report::{Window, rate},
    setup::NewCoupon,
    shoppers::Shopper,
};
use std::{collections::HashSet, sync::Arc};
use uuid::Uuid;

const PHASE: &str = "claim";
const AGAIN: &str = "ask again";
/// What the coupon of this scenario is worth; nobody uses it here.
const DISCOUNT_WON: i64 = 1_000;

pub fn play(claims: &Claims, stage: &mut Stage<'_>) -> Result<(), RushError> {
    let mut operator = stage.operator()?;
    let name = format!("{} coupon", stage.run_name());
    let coupon = NewCoupon { name: &name, quantity: Some(claims.quantity), waitlist: claims.waitlist, discount: DISCOUNT_WON };
    let coupon_id = operator.create_coupon(&coupon)?;
    stage.fact("coupon", coupon_id);
    stage.fact("quantity", claims.quantity);
    stage.fact("waitlist", if claims.waitlist { "yes" } else { "no" });
    if let Some(strategy) = &claims.strategy {
        stage.fact("strategy", strategy);
    }
    if claims.respond_async {
        stage.fact("claims ask with", "Prefer: respond-async");
    }
    let paths = ClaimPaths::of(coupon_id).respond_async(claims.respond_async);
    let plan = Arc::new(ClaimOnce { paths: paths.clone(), shoppers: Arc::clone(&stage.shoppers) });
    let records = stage.phase(PHASE, &plan, 0)?.records;
    add_windows(stage, &records);
    let mut record = ClaimRecord { coupon_id, quantity: Some(claims.quantity), records };
    if !claims.ask_again.is_zero() {
        let again = AskAgain { paths: paths.clone(), shoppers: Arc::clone(&stage.shoppers), duration: claims.ask_again };
        let shown = u64::try_from(claims.ask_again.as_millis()).unwrap_or(u64::MAX);
        let late = stage.phase(AGAIN, &Arc::new(again), shown)?.records;
        let members = stage.shoppers.len();
        // Turns of that phase run over the members again and again.
        record.records.extend(late.into_iter().map(|late| Record { turn: (late.turn as usize % members) as u32, ..late }));
        stage.checks.push(check::unexpected_answers(&stage.ends_of(AGAIN), &["already-issued", "sold-out", "waiting"]));
    }
    let mut evidence = record.resolve(stage)?;
    (evidence.server_remaining, evidence.server_waiting) = operator.coupon_counts(coupon_id)?;
    let expected: &[&str] = if claims.waitlist { &["issued", "waiting"] } else { &["issued", "sold-out"] };
    stage.checks.extend(evidence.checks());
    stage.checks.push(check::unexpected_answers(&stage.ends_of(PHASE), expected));
    stage.totals.unknown_outcomes += evidence.unresolved;
    stage.totals.issued = Some(evidence.issued.len() as u64);
    stage.totals.waiting = Some(evidence.waiting.len() as u64);
    stage.totals.over_issued = Some(evidence.over_issued());
    let acks = record.acks(&stage.shoppers);
    stage.keep_and_read_back(&acks)
}

/// How fast it went while there were coupons, and after.
fn add_windows(stage: &mut Stage<'_>, records: &[Record<ClaimSeen>]) {
    let issued_ends = records.iter().filter(|record| matches!(record.seen, ClaimSeen::Issued { .. })).map(|record| record.end);
    let begin = records.iter().map(|record| record.first_begin).min();
    let end = records.iter().map(|record| record.end).max();
    let (Some(begin), Some(last_issued), Some(end)) = (begin, issued_ends.max(), end) else { return };
    let before = records.iter().filter(|record| record.end <= last_issued).count() as u64;
    let after = records.len() as u64 - before;
    let window = |name: &str, turns: u64, nanos: u64| {
        let seconds = nanos as f64 / 1e9;
        Window { name: name.to_owned(), turns, seconds, per_second: rate(turns, seconds) }
    };
    let Some(phase) = stage.phases.last_mut() else { return };
    phase.windows.push(window("until the last coupon was issued", before, last_issued - begin));
    if after > 0 {
        phase.windows.push(window("after", after, end - last_issued));
    }
}

/// The claims of one coupon, from whichever phase.
pub struct ClaimRecord {
    pub coupon_id: Uuid,
    pub quantity: Option<u64>,
    pub records: Vec<Record<ClaimSeen>>,
}

impl ClaimRecord {
    /// Asks after the claims whose outcome is unknown, then says what the claimants saw. Server counts are left to the caller.
    pub fn resolve(&mut self, stage: &mut Stage<'_>) -> Result<ClaimsEvidence, RushError> {
        let who: Vec<usize> = (0..self.records.len()).filter(|index| matches!(self.records[*index].seen, ClaimSeen::Unknown)).collect();
        let mut never_claimed = 0;
        if !who.is_empty() {
            let turns = who.iter().map(|index| self.records[*index].turn).collect();
            let plan = AskMine { paths: ClaimPaths::of(self.coupon_id), shoppers: Arc::clone(&stage.shoppers), who: turns };
            for answer in stage.phase("ask after", &Arc::new(plan), 0)?.records {
                let record = &mut self.records[who[answer.turn as usize]];
                match answer.seen {
                    Came::ToBe(seen) => record.seen = seen,
                    Came::ToNothing => {
                        never_claimed += 1;
                        record.seen = ClaimSeen::Other;
                    }
                    Came::StillUnknown => {}
                }
            }
        }
        Ok(self.evidence(&stage.shoppers, never_claimed))
    }

    fn evidence(&self, shoppers: &[Shopper], never_claimed: u64) -> ClaimsEvidence {
        let members: HashSet<u32> = self.records.iter().map(|record| record.turn).collect();
        let mut evidence =
            ClaimsEvidence { quantity: self.quantity, members: members.len() as u64, never_claimed, ..ClaimsEvidence::default() };
        for record in &self.records {
            let answered = Span { begin: record.begin, end: record.end };
            match record.seen {
                ClaimSeen::Issued { issued_coupon_id, number, found } => {
                    // A coupon that was found by asking may have been given to the very first request of the turn.
                    let begin = if found { record.first_begin } else { record.begin };
                    let member_id = shoppers[record.turn as usize].member_id;
                    evidence.issued.push((Span { begin, end: record.end }, Issue { member_id, issued_coupon_id, number }));
                }
                ClaimSeen::Waiting { ticket } => evidence.waiting.push((answered, ticket)),
                ClaimSeen::SoldOut => evidence.sold_out.push(answered),
                ClaimSeen::Unknown => evidence.unresolved += 1,
                ClaimSeen::Other => {}
            }
        }
        evidence
    }

    /// What was promised to whom.
    pub fn acks(&self, shoppers: &[Shopper]) -> Vec<Ack> {
        let coupon_id = self.coupon_id;
        let ack = |record: &Record<ClaimSeen>| {
            let promise = match record.seen {
                ClaimSeen::Issued { issued_coupon_id, number, .. } => Promise::Issued { coupon_id, issued_coupon_id, number },
                ClaimSeen::Waiting { ticket } => Promise::Waiting { coupon_id, ticket },
                ClaimSeen::SoldOut | ClaimSeen::Other | ClaimSeen::Unknown => return None,
            };
            Some(Ack { member_id: shoppers[record.turn as usize].member_id, promise })
        };
        self.records.iter().filter_map(ack).collect()
    }
}
