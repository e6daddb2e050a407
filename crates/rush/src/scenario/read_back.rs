//! Asks for everything that was acknowledged, and for claims whose answer was lost.

use super::{
    claim::{ClaimPaths, ClaimSeen, read_claim},
    order::{self, Stage},
};
use crate::{
    acks::{Ack, Promise},
    check::ReadBack,
    engine::{
        plan::{self, Done, Plan, Step, Trail},
        tally::Tally,
        wire::{Answer, Call},
    },
    shoppers::Shopper,
};
use serde::Deserialize;
use std::{borrow::Cow, collections::HashMap, sync::Arc};
use uuid::Uuid;

/// Reads each promise back, as the member it was made to.
pub struct ReadEach {
    acks: Vec<(Shopper, Promise)>,
    paths: HashMap<Uuid, ClaimPaths>,
    /// Acknowledgements of members whose token is not at hand.
    strangers: u64,
}

pub enum Kept {
    Yes,
    No(String),
    Unread,
}

impl ReadEach {
    pub fn new(acks: &[Ack], shoppers: &[Shopper]) -> Self {
        let by_id: HashMap<Uuid, &Shopper> = shoppers.iter().map(|shopper| (shopper.member_id, shopper)).collect();
        let known: Vec<_> = acks.iter().filter_map(|ack| Some(((*by_id.get(&ack.member_id)?).clone(), ack.promise.clone()))).collect();
        let coupons = known.iter().filter_map(|(_, promise)| match promise {
            Promise::Issued { coupon_id, .. } | Promise::Waiting { coupon_id, .. } => Some((*coupon_id, ClaimPaths::of(*coupon_id))),
            Promise::Paid { .. } | Promise::Refused { .. } => None,
        });
        let paths = coupons.collect();
        Self { strangers: (acks.len() - known.len()) as u64, acks: known, paths }
    }

    pub fn is_empty(&self) -> bool {
        self.acks.is_empty()
    }

    pub fn summary(&self, tally: &Tally<Kept>) -> ReadBack {
        let broken = tally.records.iter().filter_map(|record| if let Kept::No(why) = &record.seen { Some(why.clone()) } else { None });
        let unread = tally.records.iter().filter(|record| matches!(record.seen, Kept::Unread)).count() as u64;
        ReadBack { acknowledged: self.acks.len() as u64 + self.strangers, broken: broken.collect(), unread: unread + self.strangers }
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

/// Whether an answer to the question after a promise confirms it.
pub fn confirms(promise: &Promise, answer: &Answer<'_>) -> Kept {
    if answer.status == 404 {
        return Kept::No(format!("{promise:?} is gone"));
    }
    if answer.status != 200 {
        return Kept::Unread;
    }
    let kept = match promise {
        Promise::Paid { order_id } => order::read_stage(answer.body).map(|read| read == (*order_id, Stage::Paid)),
        Promise::Refused { order_id } => order::read_stage(answer.body).map(|(id, stage)| id == *order_id && stage != Stage::Paid),
        Promise::Issued { issued_coupon_id, number, .. } => serde_json::from_slice::<MineBody<'_>>(answer.body).ok().map(|mine| {
            // The number and id are compared where the answer has them; the state alone says that a coupon is there.
            matches!(mine.state.as_ref(), "issued" | "held" | "used" | "expired")
                && mine.issued_coupon_id.is_none_or(|found| found == *issued_coupon_id)
                && mine.number.is_none_or(|found| found == *number)
        }),
        Promise::Waiting { ticket, .. } => match read_claim(answer, true).seen {
            Some(ClaimSeen::Waiting { ticket: found }) => Some(found == *ticket),
            // Promoted since.
            Some(ClaimSeen::Issued { .. }) => Some(true),
            _ => None,
        },
    };
    match kept {
        Some(true) => Kept::Yes,
        Some(false) => Kept::No(format!("{promise:?} is now {}", String::from_utf8_lossy(&answer.body[..answer.body.len().min(200)]))),
        None => Kept::Unread,
    }
}

impl Plan for ReadEach {
    type Seen = Kept;

    fn operations(&self) -> &'static [&'static str] {
        &["read back"]
    }
    fn turns(&self) -> Option<u32> {
        Some(self.acks.len() as u32)
    }
    fn call(&self, turn: u32, _elapsed_nanos: u64) -> Option<Call> {
        let (shopper, promise) = self.acks.get(turn as usize)?;
        match promise {
            Promise::Issued { coupon_id, .. } | Promise::Waiting { coupon_id, .. } => Some(self.paths.get(coupon_id)?.mine(shopper)),
            Promise::Paid { order_id } | Promise::Refused { order_id } => Some(order::read_back(*order_id, shopper)),
        }
    }
    fn read(&self, turn: u32, answer: &Answer<'_>, _trail: &Trail) -> Step<Kept> {
        Step::Done(match confirms(&self.acks[turn as usize].1, answer) {
            Kept::Yes => Done::plain("kept", true),
            Kept::No(why) => Done::not("lost", Kept::No(why)),
            Kept::Unread => Done::not(plan::refusal(answer), Kept::Unread),
        })
    }
    fn give_up(&self, _turn: u32, trail: &Trail) -> Done<Kept> {
        Done::not(plan::gave_up(trail), Kept::Unread)
    }
}

/// Asks the shoppers whose claim ended unknown whether they have one.
pub struct AskMine {
    pub paths: ClaimPaths,
    pub shoppers: Arc<Vec<Shopper>>,
    pub who: Vec<u32>,
}

/// What came of an unknown claim.
pub enum Came {
    ToBe(ClaimSeen),
    ToNothing,
    StillUnknown,
}

impl Plan for AskMine {
    type Seen = Came;

    fn operations(&self) -> &'static [&'static str] {
        &["ask after"]
    }
    fn turns(&self) -> Option<u32> {
        Some(self.who.len() as u32)
    }
    fn call(&self, turn: u32, _elapsed_nanos: u64) -> Option<Call> {
        Some(self.paths.mine(&self.shoppers[*self.who.get(turn as usize)? as usize]))
    }
    fn read(&self, _turn: u32, answer: &Answer<'_>, _trail: &Trail) -> Step<Came> {
        let Done { label, won, seen } = read_claim(answer, true);
        let came = match seen {
            Some(seen @ (ClaimSeen::Issued { .. } | ClaimSeen::Waiting { .. })) => Came::ToBe(seen),
            _ if answer.status == 404 => Came::ToNothing,
            _ => Came::StillUnknown,
        };
        Step::Done(Done { label, won, seen: Some(came) })
    }
    fn give_up(&self, _turn: u32, trail: &Trail) -> Done<Came> {
        Done::not(plan::gave_up(trail), Came::StillUnknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(promise: &Promise, status: u16, body: &str) -> &'static str {
        match confirms(promise, &Answer { status, retry_after: None, body: body.as_bytes() }) {
            Kept::Yes => "kept",
            Kept::No(_) => "lost",
            Kept::Unread => "unread",
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
