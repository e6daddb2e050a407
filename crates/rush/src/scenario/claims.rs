//! All shoppers claim one coupon at once.

use super::{
    ScenarioRun,
    claim::{ClaimObservation, ClaimOnce, ClaimPaths, RepeatClaims},
    read_back::{LateOutcome, ResolveUnknown},
};
use crate::{
    ClaimsScenario, RushError,
    acks::{Ack, Promise},
    check::{self, claims::ClaimsEvidence, history::Span, numbers::Issue},
    load::stats::IterationRecord,
    report::{PhaseWindow, rate},
    setup::CouponSetup,
    shoppers::Shopper,
};
use std::{collections::HashSet, sync::Arc};
use uuid::Uuid;

const PHASE: &str = "claim";
const AGAIN: &str = "ask again";
/// Discount of the coupon in won. This scenario never uses it.
const DISCOUNT_WON: i64 = 1_000;

pub fn run(claims: &ClaimsScenario, run: &mut ScenarioRun<'_>) -> Result<(), RushError> {
    let mut operator = run.operator()?;
    let name = format!("{} coupon", run.run_name());
    let coupon = CouponSetup { name: &name, quantity: Some(claims.quantity), waitlist: claims.waitlist, discount: DISCOUNT_WON };
    let coupon_id = operator.create_coupon(&coupon)?;
    run.add_fact("coupon", coupon_id);
    run.add_fact("quantity", claims.quantity);
    run.add_fact("waitlist", if claims.waitlist { "yes" } else { "no" });
    if let Some(strategy) = &claims.strategy {
        run.add_fact("strategy", strategy);
    }
    if claims.respond_async {
        run.add_fact("claims ask with", "Prefer: respond-async");
    }
    let paths = ClaimPaths::of(coupon_id).respond_async(claims.respond_async);
    let workload = Arc::new(ClaimOnce { paths: paths.clone(), shoppers: Arc::clone(&run.shoppers) });
    let records = run.run_phase(PHASE, &workload, 0)?.records;
    add_windows(run, &records);
    let mut record = CouponClaims { coupon_id, quantity: Some(claims.quantity), records };
    if !claims.ask_again.is_zero() {
        let again = RepeatClaims { paths: paths.clone(), shoppers: Arc::clone(&run.shoppers), duration: claims.ask_again };
        let shown = u64::try_from(claims.ask_again.as_millis()).unwrap_or(u64::MAX);
        let late = run.run_phase(AGAIN, &Arc::new(again), shown)?.records;
        let members = run.shoppers.len();
        // Iterations of that phase cycle through the members.
        record
            .records
            .extend(late.into_iter().map(|late| IterationRecord { iteration: (late.iteration as usize % members) as u32, ..late }));
        run.checks.push(check::unexpected_answers(&run.ends_of(AGAIN), &["already-issued", "sold-out", "waiting"]));
    }
    let mut evidence = record.resolve(run)?;
    (evidence.server_remaining, evidence.server_waiting) = operator.coupon_counts(coupon_id)?;
    let expected: &[&str] = if claims.waitlist { &["issued", "waiting"] } else { &["issued", "sold-out"] };
    run.checks.extend(evidence.checks());
    run.checks.push(check::unexpected_answers(&run.ends_of(PHASE), expected));
    run.totals.unknown_outcomes += evidence.unresolved;
    run.totals.issued = Some(evidence.issued.len() as u64);
    run.totals.waiting = Some(evidence.waiting.len() as u64);
    run.totals.over_issued = Some(evidence.over_issued());
    let acks = record.acks(&run.shoppers);
    run.write_acks_and_read_back(&acks)
}

/// Adds the rate until the last coupon was issued, and the rate after it.
fn add_windows(run: &mut ScenarioRun<'_>, records: &[IterationRecord<ClaimObservation>]) {
    let issued_ends =
        records.iter().filter(|record| matches!(record.observation, ClaimObservation::Issued { .. })).map(|record| record.end);
    let begin = records.iter().map(|record| record.first_begin).min();
    let end = records.iter().map(|record| record.end).max();
    let (Some(begin), Some(last_issued), Some(end)) = (begin, issued_ends.max(), end) else { return };
    let before = records.iter().filter(|record| record.end <= last_issued).count() as u64;
    let after = records.len() as u64 - before;
    let window = |name: &str, iterations: u64, nanos: u64| {
        let seconds = nanos as f64 / 1e9;
        PhaseWindow { name: name.to_owned(), iterations, seconds, per_second: rate(iterations, seconds) }
    };
    let Some(phase) = run.phases.last_mut() else { return };
    phase.windows.push(window("until the last coupon was issued", before, last_issued - begin));
    if after > 0 {
        phase.windows.push(window("after", after, end - last_issued));
    }
}

/// All claims of one coupon, from all phases.
pub struct CouponClaims {
    pub coupon_id: Uuid,
    pub quantity: Option<u64>,
    pub records: Vec<IterationRecord<ClaimObservation>>,
}

impl CouponClaims {
    /// Resolves the claims of unknown outcome, then returns the evidence. The caller adds the server's counts.
    pub fn resolve(&mut self, run: &mut ScenarioRun<'_>) -> Result<ClaimsEvidence, RushError> {
        let unknown: Vec<usize> =
            (0..self.records.len()).filter(|index| matches!(self.records[*index].observation, ClaimObservation::Unknown)).collect();
        let mut never_claimed = 0;
        if !unknown.is_empty() {
            let iterations = unknown.iter().map(|index| self.records[*index].iteration).collect();
            let workload =
                ResolveUnknown { paths: ClaimPaths::of(self.coupon_id), shoppers: Arc::clone(&run.shoppers), unknown: iterations };
            for answer in run.run_phase("ask after", &Arc::new(workload), 0)?.records {
                let record = &mut self.records[unknown[answer.iteration as usize]];
                match answer.observation {
                    LateOutcome::Claimed(observation) => record.observation = observation,
                    LateOutcome::NeverClaimed => {
                        never_claimed += 1;
                        record.observation = ClaimObservation::Other;
                    }
                    LateOutcome::StillUnknown => {}
                }
            }
        }
        Ok(self.evidence(&run.shoppers, never_claimed))
    }

    fn evidence(&self, shoppers: &[Shopper], never_claimed: u64) -> ClaimsEvidence {
        let members: HashSet<u32> = self.records.iter().map(|record| record.iteration).collect();
        let mut evidence =
            ClaimsEvidence { quantity: self.quantity, members: members.len() as u64, never_claimed, ..ClaimsEvidence::default() };
        for record in &self.records {
            let answered = Span { begin: record.begin, end: record.end };
            match record.observation {
                ClaimObservation::Issued { issued_coupon_id, number, found } => {
                    // A coupon found by a later request may have been issued to the first request of the iteration.
                    let begin = if found { record.first_begin } else { record.begin };
                    let member_id = shoppers[record.iteration as usize].member_id;
                    evidence.issued.push((Span { begin, end: record.end }, Issue { member_id, issued_coupon_id, number }));
                }
                ClaimObservation::Waiting { ticket } => evidence.waiting.push((answered, ticket)),
                ClaimObservation::SoldOut => evidence.sold_out.push(answered),
                ClaimObservation::Unknown => evidence.unresolved += 1,
                ClaimObservation::Other => {}
            }
        }
        evidence
    }

    /// The acknowledgements of the claims.
    pub fn acks(&self, shoppers: &[Shopper]) -> Vec<Ack> {
        let coupon_id = self.coupon_id;
        let ack = |record: &IterationRecord<ClaimObservation>| {
            let promise = match record.observation {
                ClaimObservation::Issued { issued_coupon_id, number, .. } => Promise::Issued { coupon_id, issued_coupon_id, number },
                ClaimObservation::Waiting { ticket } => Promise::Waiting { coupon_id, ticket },
                ClaimObservation::SoldOut | ClaimObservation::Other | ClaimObservation::Unknown => return None,
            };
            Some(Ack { member_id: shoppers[record.iteration as usize].member_id, promise })
        };
        self.records.iter().filter_map(ack).collect()
    }
}
