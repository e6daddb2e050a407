//! Claims of one coupon: their requests, and the meaning of their answers.

use crate::{
    load::{
        connection::{PreparedRequest, ServerAnswer},
        workload::{self, Finished, IterationAttempts, NextStep, Workload},
    },
    shoppers::Shopper,
};
use bytes::Bytes;
use http::{HeaderValue, Uri};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::{borrow::Cow, sync::Arc, time::Duration};
use uuid::Uuid;

/// Delay before the first poll of a deferred claim. Its iteration lasts until the claim is settled.
const FIRST_POLL_DELAY: Duration = Duration::from_millis(10);
const NEXT_POLL_DELAY: Duration = Duration::from_millis(40);

/// Outcome of a claim, as its shopper saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimObservation {
    Issued {
        issued_coupon_id: Uuid,
        number: i64,
        /// Learned by a later request, because the answer to the claim was lost.
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

/// A ticket is a number. Servers may write it as text, because browsers lose precision of large numbers.
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

/// Reads the answer to a claim, or to a GET of the member's own claim.
pub fn read_claim(answer: &ServerAnswer<'_>, found: bool) -> Finished<ClaimObservation> {
    if !(200..300).contains(&answer.status) {
        let label = workload::refusal_label(answer);
        return Finished::not_won(label, if label == "sold-out" { ClaimObservation::SoldOut } else { ClaimObservation::Other });
    }
    let Ok(body) = serde_json::from_slice::<ClaimBody<'_>>(answer.body) else {
        return Finished::not_won("unreadable", ClaimObservation::Other);
    };
    match (body.state.as_ref(), body.issued_coupon_id, body.number, body.ticket) {
        ("waiting", _, _, Some(ticket)) => Finished::not_won("waiting", ClaimObservation::Waiting { ticket }),
        // The coupon may have been used since. It counts as issued.
        ("issued" | "held" | "used", Some(issued_coupon_id), Some(number), _) => {
            Finished::won("issued", ClaimObservation::Issued { issued_coupon_id, number, found })
        }
        _ => Finished::not_won("unreadable", ClaimObservation::Other),
    }
}

/// A deferred claim, and its answer once it is settled.
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

/// Paths of a coupon's claims.
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

    /// Sends claims with `Prefer: respond-async`, or without.
    #[must_use]
    pub fn respond_async(mut self, respond_async: bool) -> Self {
        self.respond_async = respond_async;
        self
    }

    pub fn claim(&self, shopper: &Shopper) -> PreparedRequest {
        let prefer = self.respond_async.then(|| HeaderValue::from_static("respond-async"));
        PreparedRequest { prefer, ..PreparedRequest::post(self.claims.clone(), Some(shopper.bearer.clone()), Bytes::new()) }
    }
    fn outcome(&self, shopper: &Shopper, claim_id: Uuid) -> PreparedRequest {
        let path = format!("/v1/coupons/{}/claims/{claim_id}", self.coupon_id);
        PreparedRequest::get(Uri::try_from(path).expect("a path of letters, digits and dashes is a URI"), Some(shopper.bearer.clone()))
    }
    pub fn mine(&self, shopper: &Shopper) -> PreparedRequest {
        PreparedRequest::get(self.mine.clone(), Some(shopper.bearer.clone()))
    }

    /// `already-issued` after a lost answer means that an earlier attempt got the coupon. A follow-up reads which coupon it is.
    pub fn read_answer(&self, shopper: &Shopper, answer: &ServerAnswer<'_>, attempts: &IterationAttempts) -> NextStep<ClaimObservation> {
        if self.respond_async
            && let Ok(OutcomeBody { state, claim_id, status, answer: settled }) = serde_json::from_slice(answer.body)
        {
            return match (state.as_ref(), status, settled) {
                ("pending", ..) => {
                    let after = if attempts.follow_ups == 0 { FIRST_POLL_DELAY } else { NEXT_POLL_DELAY };
                    NextStep::Follow { request: Box::new(self.outcome(shopper, claim_id)), after }
                }
                (_, Some(status), Some(body)) => {
                    let settled = ServerAnswer { status, retry_after: None, body: body.get().as_bytes() };
                    NextStep::Finish(read_claim(&settled, false))
                }
                _ => NextStep::Finish(Finished::not_won("unreadable", ClaimObservation::Other)),
            };
        }
        let done = read_claim(answer, attempts.follow_ups > 0);
        if done.label == "already-issued" && attempts.may_have_acted() && attempts.follow_ups == 0 {
            return NextStep::Follow { request: Box::new(self.mine(shopper)), after: Duration::ZERO };
        }
        NextStep::Finish(done)
    }
}

/// Each shopper claims once.
pub struct ClaimOnce {
    pub paths: ClaimPaths,
    pub shoppers: Arc<Vec<Shopper>>,
}

impl Workload for ClaimOnce {
    type Observation = ClaimObservation;

    fn operations(&self) -> &'static [&'static str] {
        &["claim"]
    }
    fn iterations(&self) -> Option<u32> {
        Some(self.shoppers.len() as u32)
    }
    fn first_request(&self, iteration: u32, _elapsed_nanos: u64) -> Option<PreparedRequest> {
        Some(self.paths.claim(self.shoppers.get(iteration as usize)?))
    }
    fn read_answer(&self, iteration: u32, answer: &ServerAnswer<'_>, attempts: &IterationAttempts) -> NextStep<ClaimObservation> {
        self.paths.read_answer(&self.shoppers[iteration as usize], answer, attempts)
    }
    fn give_up(&self, _iteration: u32, attempts: &IterationAttempts) -> Finished<ClaimObservation> {
        Finished::not_won(workload::give_up_label(attempts), ClaimObservation::Unknown)
    }
}

/// The same shoppers claim again for a fixed time, after the coupon is sold out. Only coupons issued now are observed, because each is one
/// too many.
pub struct RepeatClaims {
    pub paths: ClaimPaths,
    pub shoppers: Arc<Vec<Shopper>>,
    pub duration: Duration,
}

impl Workload for RepeatClaims {
    type Observation = ClaimObservation;

    fn operations(&self) -> &'static [&'static str] {
        &["claim again"]
    }
    fn iterations(&self) -> Option<u32> {
        None
    }
    fn first_request(&self, iteration: u32, elapsed_nanos: u64) -> Option<PreparedRequest> {
        let over = u128::from(elapsed_nanos) >= self.duration.as_nanos();
        (!over).then(|| self.paths.claim(&self.shoppers[iteration as usize % self.shoppers.len()]))
    }
    fn read_answer(&self, _iteration: u32, answer: &ServerAnswer<'_>, _attempts: &IterationAttempts) -> NextStep<ClaimObservation> {
        let mut done = read_claim(answer, false);
        done.observation = done.observation.filter(|observation| matches!(observation, ClaimObservation::Issued { .. }));
        NextStep::Finish(done)
    }
    fn give_up(&self, _iteration: u32, attempts: &IterationAttempts) -> Finished<ClaimObservation> {
        Finished::unobserved(workload::give_up_label(attempts), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> (&'static str, Option<ClaimObservation>) {
        let done = read_claim(&ServerAnswer { status, retry_after: None, body: body.as_bytes() }, false);
        (done.label, done.observation)
    }

    #[test]
    fn every_answer_to_a_claim_is_read() {
        let id = Uuid::from_u128(7);
        let issued = format!(r#"{{"state":"issued","issued_coupon_id":"{id}","number":3,"expires_at":"2026-12-01T00:00:00Z"}}"#);
        assert_eq!(read(201, &issued), ("issued", Some(ClaimObservation::Issued { issued_coupon_id: id, number: 3, found: false })));
        assert_eq!(
            read(202, r#"{"state":"waiting","ticket":12,"position":5}"#),
            ("waiting", Some(ClaimObservation::Waiting { ticket: 12 }))
        );
        assert_eq!(read(202, r#"{"state":"waiting","ticket":"12"}"#), ("waiting", Some(ClaimObservation::Waiting { ticket: 12 })));
        assert_eq!(read(409, r#"{"type":"/problems/sold-out"}"#), ("sold-out", Some(ClaimObservation::SoldOut)));
        assert_eq!(read(409, r#"{"type":"/problems/not-open"}"#), ("not-open", Some(ClaimObservation::Other)));
        assert_eq!(
            read(201, r#"{"state":"issued"}"#),
            ("unreadable", Some(ClaimObservation::Other)),
            "an issue without its number is unreadable"
        );
        assert_eq!(read(500, ""), ("http-500", Some(ClaimObservation::Other)));
    }
}
