//! Reads back every acknowledgement, and claims whose answer was lost.

use super::{
    claim::{ClaimObservation, ClaimPaths, read_claim},
    order::{self, OrderStage},
};
use crate::{
    acks::{Ack, Promise},
    check::ReadBack,
    load::{
        connection::{PreparedRequest, ServerAnswer},
        stats::Stats,
        workload::{self, Finished, IterationAttempts, NextStep, Workload},
    },
    shoppers::Shopper,
};
use serde::Deserialize;
use std::{borrow::Cow, collections::HashMap, sync::Arc};
use uuid::Uuid;

/// Reads back each promise, as the member who has it.
pub struct ReadBackEach {
    acks: Vec<(Shopper, Promise)>,
    paths: HashMap<Uuid, ClaimPaths>,
    /// Number of acknowledgements whose member has no token in the file.
    without_token: u64,
}

/// Result of reading a promise back.
pub enum PromiseState {
    Kept,
    /// The promised thing is gone or different.
    Broken(String),
    /// It could not be read.
    Unread,
}

impl ReadBackEach {
    pub fn new(acks: &[Ack], shoppers: &[Shopper]) -> Self {
        let by_id: HashMap<Uuid, &Shopper> = shoppers.iter().map(|shopper| (shopper.member_id, shopper)).collect();
        let known: Vec<_> = acks.iter().filter_map(|ack| Some(((*by_id.get(&ack.member_id)?).clone(), ack.promise.clone()))).collect();
        let coupons = known.iter().filter_map(|(_, promise)| match promise {
            Promise::Issued { coupon_id, .. } | Promise::Waiting { coupon_id, .. } => Some((*coupon_id, ClaimPaths::of(*coupon_id))),
            Promise::Paid { .. } | Promise::Refused { .. } => None,
        });
        let paths = coupons.collect();
        Self { without_token: (acks.len() - known.len()) as u64, acks: known, paths }
    }

    pub fn is_empty(&self) -> bool {
        self.acks.is_empty()
    }

    pub fn summary(&self, stats: &Stats<PromiseState>) -> ReadBack {
        let broken = stats
            .records
            .iter()
            .filter_map(|record| if let PromiseState::Broken(why) = &record.observation { Some(why.clone()) } else { None });
        let unread = stats.records.iter().filter(|record| matches!(record.observation, PromiseState::Unread)).count() as u64;
        ReadBack {
            acknowledged: self.acks.len() as u64 + self.without_token,
            broken: broken.collect(),
            unread: unread + self.without_token,
        }
    }
}

#[derive(Deserialize)]
struct MineBody<'a> {
    #[serde(borrow)]
    state: Cow<'a, str>,
    #[serde(default)]
    issued_coupon_id: Option<Uuid>,
    #[serde(default)]
    number: Option<i64>,
}

/// Compares the answer of a read-back with the promise.
pub fn check_promise(promise: &Promise, answer: &ServerAnswer<'_>) -> PromiseState {
    if answer.status == 404 {
        return PromiseState::Broken(format!("{promise:?} is gone"));
    }
    if answer.status != 200 {
        return PromiseState::Unread;
    }
    let kept = match promise {
        Promise::Paid { order_id } => order::read_stage(answer.body).map(|read| read == (*order_id, OrderStage::Paid)),
        Promise::Refused { order_id } => order::read_stage(answer.body).map(|(id, stage)| id == *order_id && stage != OrderStage::Paid),
        Promise::Issued { issued_coupon_id, number, .. } => serde_json::from_slice::<MineBody<'_>>(answer.body).ok().map(|mine| {
            // The number and id are compared if the answer has them. The state alone shows that the coupon exists.
            matches!(mine.state.as_ref(), "issued" | "held" | "used" | "expired")
                && mine.issued_coupon_id.is_none_or(|found| found == *issued_coupon_id)
                && mine.number.is_none_or(|found| found == *number)
        }),
        Promise::Waiting { ticket, .. } => match read_claim(answer, true).observation {
            Some(ClaimObservation::Waiting { ticket: found }) => Some(found == *ticket),
            // Promoted since then.
            Some(ClaimObservation::Issued { .. }) => Some(true),
            _ => None,
        },
    };
    match kept {
        Some(true) => PromiseState::Kept,
        Some(false) => {
            PromiseState::Broken(format!("{promise:?} is now {}", String::from_utf8_lossy(&answer.body[..answer.body.len().min(200)])))
        }
        None => PromiseState::Unread,
    }
}

impl Workload for ReadBackEach {
    type Observation = PromiseState;

    fn operations(&self) -> &'static [&'static str] {
        &["read back"]
    }
    fn iterations(&self) -> Option<u32> {
        Some(self.acks.len() as u32)
    }
    fn first_request(&self, iteration: u32, _elapsed_nanos: u64) -> Option<PreparedRequest> {
        let (shopper, promise) = self.acks.get(iteration as usize)?;
        match promise {
            Promise::Issued { coupon_id, .. } | Promise::Waiting { coupon_id, .. } => Some(self.paths.get(coupon_id)?.mine(shopper)),
            Promise::Paid { order_id } | Promise::Refused { order_id } => Some(order::read_request(*order_id, shopper)),
        }
    }
    fn read_answer(&self, iteration: u32, answer: &ServerAnswer<'_>, _attempts: &IterationAttempts) -> NextStep<PromiseState> {
        NextStep::Finish(match check_promise(&self.acks[iteration as usize].1, answer) {
            PromiseState::Kept => Finished::unobserved("kept", true),
            PromiseState::Broken(why) => Finished::not_won("lost", PromiseState::Broken(why)),
            PromiseState::Unread => Finished::not_won(workload::refusal_label(answer), PromiseState::Unread),
        })
    }
    fn give_up(&self, _iteration: u32, attempts: &IterationAttempts) -> Finished<PromiseState> {
        Finished::not_won(workload::give_up_label(attempts), PromiseState::Unread)
    }
}

/// Reads the own claim of each shopper whose claim has an unknown outcome.
pub struct ResolveUnknown {
    pub paths: ClaimPaths,
    pub shoppers: Arc<Vec<Shopper>>,
    /// Iterations of the unknown claims.
    pub unknown: Vec<u32>,
}

/// Outcome of a claim that was unknown.
pub enum LateOutcome {
    Claimed(ClaimObservation),
    NeverClaimed,
    StillUnknown,
}

impl Workload for ResolveUnknown {
    type Observation = LateOutcome;

    fn operations(&self) -> &'static [&'static str] {
        &["ask after"]
    }
    fn iterations(&self) -> Option<u32> {
        Some(self.unknown.len() as u32)
    }
    fn first_request(&self, iteration: u32, _elapsed_nanos: u64) -> Option<PreparedRequest> {
        Some(self.paths.mine(&self.shoppers[*self.unknown.get(iteration as usize)? as usize]))
    }
    fn read_answer(&self, _iteration: u32, answer: &ServerAnswer<'_>, _attempts: &IterationAttempts) -> NextStep<LateOutcome> {
        let Finished { label, won, observation } = read_claim(answer, true);
        let came = match observation {
            Some(observation @ (ClaimObservation::Issued { .. } | ClaimObservation::Waiting { .. })) => LateOutcome::Claimed(observation),
            _ if answer.status == 404 => LateOutcome::NeverClaimed,
            _ => LateOutcome::StillUnknown,
        };
        NextStep::Finish(Finished { label, won, observation: Some(came) })
    }
    fn give_up(&self, _iteration: u32, attempts: &IterationAttempts) -> Finished<LateOutcome> {
        Finished::not_won(workload::give_up_label(attempts), LateOutcome::StillUnknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(promise: &Promise, status: u16, body: &str) -> &'static str {
        match check_promise(promise, &ServerAnswer { status, retry_after: None, body: body.as_bytes() }) {
            PromiseState::Kept => "kept",
            PromiseState::Broken(_) => "lost",
            PromiseState::Unread => "unread",
        }
    }

    #[test]
    fn a_promise_is_kept_lost_or_unread() {
        let (coupon_id, issued_coupon_id, order_id) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let issued = Promise::Issued { coupon_id, issued_coupon_id, number: 7 };
        assert_eq!(verdict(&issued, 200, &format!(r#"{{"state":"issued","issued_coupon_id":"{issued_coupon_id}","number":7}}"#)), "kept");
        assert_eq!(verdict(&issued, 200, &format!(r#"{{"state":"used","issued_coupon_id":"{issued_coupon_id}"}}"#)), "kept");
        assert_eq!(verdict(&issued, 200, r#"{"state":"issued","number":8}"#), "lost");
        assert_eq!(verdict(&issued, 200, r#"{"state":"waiting","ticket":1}"#), "lost");
        assert_eq!(verdict(&issued, 404, "{}"), "lost");
        assert_eq!(verdict(&issued, 401, "{}"), "unread");
        let waiting = Promise::Waiting { coupon_id, ticket: 4 };
        assert_eq!(verdict(&waiting, 200, r#"{"state":"waiting","ticket":4,"position":1}"#), "kept");
        assert_eq!(verdict(&waiting, 200, r#"{"state":"waiting","ticket":5}"#), "lost");
        let paid = Promise::Paid { order_id };
        assert_eq!(verdict(&paid, 200, &format!(r#"{{"id":"{order_id}","state":"PAID"}}"#)), "kept");
        assert_eq!(verdict(&paid, 200, &format!(r#"{{"id":"{order_id}","state":"FAILED"}}"#)), "lost");
        let refused = Promise::Refused { order_id };
        assert_eq!(verdict(&refused, 200, &format!(r#"{{"id":"{order_id}","state":"FAILED"}}"#)), "kept");
        assert_eq!(verdict(&refused, 200, &format!(r#"{{"id":"{order_id}","state":"PAID"}}"#)), "lost");
    }
}
