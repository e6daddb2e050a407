//! Claims of one coupon: the turns of a rush, and what their answers say.

use crate::{
    engine::{
        plan::{self, Done, Plan, Step, Trail},
        wire::{Answer, Call},
    },
    shoppers::Shopper,
};
use bytes::Bytes;
use http::{HeaderValue, Uri};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::{borrow::Cow, sync::Arc, time::Duration};
use uuid::Uuid;

/// When a claim that was answered before it was settled is asked after: its turn lasts until it is.
const FIRST_LOOK: Duration = Duration::from_millis(10);
const NEXT_LOOK: Duration = Duration::from_millis(40);

/// How a claim ended, as its shopper saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimSeen {
    Issued {
        issued_coupon_id: Uuid,
        number: i64,
        /// Learned by asking again, after the answer to the claim itself was lost.
        found: bool,
    },
    Waiting {
        ticket: i64,
    },
    SoldOut,
    /// Any other answer.
    Other,
    Unknown,
}

#[derive(Deserialize)]
struct ClaimBody<'a> {
    #[serde(borrow)]
    state: Cow<'a, str>,
    #[serde(default)]
    issued_coupon_id: Option<Uuid>,
    #[serde(default)]
    number: Option<i64>,
    #[serde(default, deserialize_with = "number_or_text")]
    ticket: Option<i64>,
}

/// A ticket is a number; written as text by servers that fear for the precision of numbers in browsers.
fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(i64),
        Text(String),
    }
    Ok(match Option::<Either>::deserialize(deserializer)? {
        Some(Either::Number(number)) => Some(number),
        Some(Either::Text(text)) => text.parse().ok(),
        None => None,
    })
}

/// Reads an answer to a claim, or to the question after one's own claim.
pub fn read_claim(answer: &Answer<'_>, found: bool) -> Done<ClaimSeen> {
    if !(200..300).contains(&answer.status) {
        let label = plan::refusal(answer);
        return Done::not(label, if label == "sold-out" { ClaimSeen::SoldOut } else { ClaimSeen::Other });
    }
    let Ok(body) = serde_json::from_slice::<ClaimBody<'_>>(answer.body) else { return Done::not("unreadable", ClaimSeen::Other) };
    match (body.state.as_ref(), body.issued_coupon_id, body.number, body.ticket) {
        ("waiting", _, _, Some(ticket)) => Done::not("waiting", ClaimSeen::Waiting { ticket }),
        // A coupon in hand may have been used since: what counts is that it is there.
        ("issued" | "held" | "used", Some(issued_coupon_id), Some(number), _) => {
            Done::won("issued", ClaimSeen::Issued { issued_coupon_id, number, found })
        }
        _ => Done::not("unreadable", ClaimSeen::Other),
    }
}

/// A claim that was answered before it was settled; asked for later, with the answer it then has.
#[derive(Deserialize)]
struct OutcomeBody<'a> {
    #[serde(borrow)]
    state: Cow<'a, str>,
    claim_id: Uuid,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default, borrow)]
    answer: Option<&'a RawValue>,
}

/// Paths of a coupon's claims, and how they are asked.
#[derive(Clone, Debug)]
pub struct ClaimPaths {
    pub claims: Uri,
    pub mine: Uri,
    coupon_id: Uuid,
    respond_async: bool,
}

impl ClaimPaths {
    pub fn of(coupon_id: Uuid) -> Self {
        let path = |suffix: &str| Uri::try_from(format!("/v1/coupons/{coupon_id}/claims{suffix}"));
        Self {
            claims: path("").expect("a path of letters, digits and dashes is a URI"),
            mine: path("/mine").expect("a path of letters, digits and dashes is a URI"),
            coupon_id,
            respond_async: false,
        }
    }

    /// Claims prefer to be answered before they are settled, or do not.
    #[must_use]
    pub fn respond_async(mut self, respond_async: bool) -> Self {
        self.respond_async = respond_async;
        self
    }

    pub fn claim(&self, shopper: &Shopper) -> Call {
        let prefer = self.respond_async.then(|| HeaderValue::from_static("respond-async"));
        Call { prefer, ..Call::post(self.claims.clone(), Some(shopper.bearer.clone()), Bytes::new()) }
    }
    fn outcome(&self, shopper: &Shopper, claim_id: Uuid) -> Call {
        let path = format!("/v1/coupons/{}/claims/{claim_id}", self.coupon_id);
        Call::get(Uri::try_from(path).expect("a path of letters, digits and dashes is a URI"), Some(shopper.bearer.clone()))
    }
    pub fn mine(&self, shopper: &Shopper) -> Call {
        Call::get(self.mine.clone(), Some(shopper.bearer.clone()))
    }

    /// "You have it already" to someone whose earlier answer was lost means: it was given then. Asking tells which it is.
    pub fn read(&self, shopper: &Shopper, answer: &Answer<'_>, trail: &Trail) -> Step<ClaimSeen> {
        if self.respond_async
            && let Ok(OutcomeBody { state, claim_id, status, answer: settled }) = serde_json::from_slice(answer.body)
        {
            return match (state.as_ref(), status, settled) {
                ("pending", ..) => {
                    let after = if trail.follow_ups == 0 { FIRST_LOOK } else { NEXT_LOOK };
                    Step::Follow { call: Box::new(self.outcome(shopper, claim_id)), after }
                }
                (_, Some(status), Some(body)) => {
                    let settled = Answer { status, retry_after: None, body: body.get().as_bytes() };
                    Step::Done(read_claim(&settled, false))
                }
                _ => Step::Done(Done::not("unreadable", ClaimSeen::Other)),
            };
        }
        let done = read_claim(answer, trail.follow_ups > 0);
        if done.label == "already-issued" && trail.may_have_acted() && trail.follow_ups == 0 {
            return Step::Follow { call: Box::new(self.mine(shopper)), after: Duration::ZERO };
        }
        Step::Done(done)
    }
}

/// Each shopper claims once.
pub struct ClaimOnce {
    pub paths: ClaimPaths,
    pub shoppers: Arc<Vec<Shopper>>,
}

impl Plan for ClaimOnce {
    type Seen = ClaimSeen;

    fn operations(&self) -> &'static [&'static str] {
        &["claim"]
    }
    fn turns(&self) -> Option<u32> {
        Some(self.shoppers.len() as u32)
    }
    fn call(&self, turn: u32, _elapsed_nanos: u64) -> Option<Call> {
        Some(self.paths.claim(self.shoppers.get(turn as usize)?))
    }
    fn read(&self, turn: u32, answer: &Answer<'_>, trail: &Trail) -> Step<ClaimSeen> {
        self.paths.read(&self.shoppers[turn as usize], answer, trail)
    }
    fn give_up(&self, _turn: u32, trail: &Trail) -> Done<ClaimSeen> {
        Done::not(plan::gave_up(trail), ClaimSeen::Unknown)
    }
}

/// The same shoppers go on asking for a while, after the coupon is gone. Only a coupon given out now is kept: it would be one too many.
pub struct AskAgain {
    pub paths: ClaimPaths,
    pub shoppers: Arc<Vec<Shopper>>,
    pub duration: Duration,
}

impl Plan for AskAgain {
    type Seen = ClaimSeen;

    fn operations(&self) -> &'static [&'static str] {
        &["claim again"]
    }
    fn turns(&self) -> Option<u32> {
        None
    }
    fn call(&self, turn: u32, elapsed_nanos: u64) -> Option<Call> {
        let over = u128::from(elapsed_nanos) >= self.duration.as_nanos();
        (!over).then(|| self.paths.claim(&self.shoppers[turn as usize % self.shoppers.len()]))
    }
    fn read(&self, _turn: u32, answer: &Answer<'_>, _trail: &Trail) -> Step<ClaimSeen> {
        let mut done = read_claim(answer, false);
        done.seen = done.seen.filter(|seen| matches!(seen, ClaimSeen::Issued { .. }));
        Step::Done(done)
    }
    fn give_up(&self, _turn: u32, trail: &Trail) -> Done<ClaimSeen> {
        Done::plain(plan::gave_up(trail), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> (&'static str, Option<ClaimSeen>) {
        let done = read_claim(&Answer { status, retry_after: None, body: body.as_bytes() }, false);
        (done.label, done.seen)
    }

    #[test]
    fn reads_every_answer_of_a_claim() {
        let id = Uuid::from_u128(7);
        let issued = format!(r#"{{"state":"issued","issued_coupon_id":"{id}","number":3,"expires_at":"2026-12-01T00:00:00Z"}}"#);
        assert_eq!(read(201, &issued), ("issued", Some(ClaimSeen::Issued { issued_coupon_id: id, number: 3, found: false })));
        assert_eq!(read(202, r#"{"state":"waiting","ticket":12,"position":5}"#), ("waiting", Some(ClaimSeen::Waiting { ticket: 12 })));
        assert_eq!(read(202, r#"{"state":"waiting","ticket":"12"}"#), ("waiting", Some(ClaimSeen::Waiting { ticket: 12 })));
        assert_eq!(read(409, r#"{"type":"/problems/sold-out"}"#), ("sold-out", Some(ClaimSeen::SoldOut)));
        assert_eq!(read(409, r#"{"type":"/problems/not-open"}"#), ("not-open", Some(ClaimSeen::Other)));
        assert_eq!(
            read(201, r#"{"state":"issued"}"#),
            ("unreadable", Some(ClaimSeen::Other)),
            "an issue without its number proves nothing"
        );
        assert_eq!(read(500, ""), ("http-500", Some(ClaimSeen::Other)));
    }
}
