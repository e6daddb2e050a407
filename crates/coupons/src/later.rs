//! Claims that are answered before they are settled: written into the log of claims, and settled from there in its order (decision 0013).
//!
//! A claim is durable when all replicas of Kafka that are in step have it, and only then is its caller answered. Its id is signed: whoever
//! shows one that is not settled is told that it is pending, and ids that were never given out are unknown. Any process of this service
//! settles what it reads, a position and hundreds of claims a transaction; `coupons_claims` remembers each, so that one that is written
//! twice, or was settled otherwise meanwhile, is settled once.

use crate::{
    Coupons, Strategy,
    api::{CLAIM, ClaimPending},
    entrance::{Applicant, Pass},
    redis_gate::{HandedPlace, Place, SharedGate},
    settle::{Claimant, settle},
    store::{
        Books,
        claims::{self, Claimed},
    },
};
use axum::{
    http::{HeaderMap, HeaderValue},
    response::Response,
};
use contracts::{
    ClaimId, Code, MemberId, Message,
    messages::{ClaimAsked, ClaimKey},
};
use futures::future::join_all;
use kit::{
    Answer, DbError, Fault, Kit, Work,
    http::{Problem, Trace},
    idempotency::{self, IdempotencyKey},
    kafka::{Request, Requests},
    ports::{Stopwatch, random_bytes},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use uuid::Builder;

const LOG: &str = "coupons.claims";
/// When to ask for the first time, in seconds.
const SOON: &str = "1";

/// Whether the caller wants his answer before the claim is settled (RFC 7240).
pub fn is_preferred(headers: &HeaderMap) -> bool {
    let texts = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split([',', ';'])).any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}

/// The id of a claim: the same for a repeat with the same key.
pub fn claim_id(kit: &Kit, claimant: Claimant, key: Option<&IdempotencyKey>) -> ClaimId {
    let seed = match key {
        None => random_bytes(),
        Some(key) => {
            let text = [key.scope.as_bytes(), &key.request_hash[..], key.key.as_bytes()].concat();
            half(kit.cursors.tag("key of a claim", &text))
        }
    };
    signed(kit, claimant, seed)
}

/// Whether this id was given out to him for this coupon.
pub fn was_given_out(kit: &Kit, claimant: Claimant, id: ClaimId) -> bool {
    signed(kit, claimant, half(*id.0.as_bytes())) == id
}

/// Half of the id is free, and the other half signs it.
fn signed(kit: &Kit, Claimant { coupon_id, member_id }: Claimant, mut seed: [u8; 8]) -> ClaimId {
    // Where a UUID says of which version it is.
    seed[6] = seed[6] & 0x0f | 0x80;
    let text = [&seed[..], coupon_id.0.as_bytes(), member_id.0.as_bytes()].concat();
    let tag = half(kit.cursors.tag("claim", &text));
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&seed);
    bytes[8..].copy_from_slice(&tag);
    ClaimId(Builder::from_custom_bytes(bytes).into_uuid())
}

fn half(bytes: [u8; 16]) -> [u8; 8] {
    let mut half = [0; 8];
    half.copy_from_slice(&bytes[..8]);
    half
}

/// What whoever claimed is told: where to ask for the outcome, and when.
pub fn taken_down(Claimant { coupon_id, .. }: Claimant, id: ClaimId) -> Result<Response, Problem> {
    let answer = Answer::json(202, &ClaimPending { state: "pending", claim_id: id }).map_err(|_| Problem::from(Code::Internal))?;
    let mut response = kit::http::answer(answer.at(format!("/v1/coupons/{coupon_id}/claims/{id}")));
    response.headers_mut().insert("preference-applied", HeaderValue::from_static("respond-async"));
    response.headers_mut().insert("retry-after", HeaderValue::from_static(SOON));
    Ok(response)
}

/// The places of claims that are being settled from the log. A transaction that is tried again must find them still held.
#[derive(Debug, Default)]
pub struct Held(Mutex<HashMap<ClaimId, Arc<Place>>>);

impl Held {
    fn places(&self) -> MutexGuard<'_, HashMap<ClaimId, Arc<Place>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Coupons {
    /// Where claims can be taken down; nowhere without the gate that refuses most of those in vain, and without Kafka.
    pub fn claims_log(&self) -> Option<&Requests> {
        self.kit.requests.as_ref().filter(|_| self.settings.strategy == Strategy::Redis)
    }

    /// Writes a claim down and answers it; `None` when it is not known whether it is written.
    pub async fn take_down(
        &self,
        log: &Requests,
        id: ClaimId,
        claimant: Claimant,
        key: Option<&IdempotencyKey>,
        trace: Trace,
    ) -> Result<Option<Response>, Problem> {
        let Claimant { coupon_id, member_id } = claimant;
        let pass = self.enter(Applicant { coupon_id, member_id, repeats: key.is_some(), waits: true }).await?;
        let handed = pass.place().map(|place| place.hand_over());
        let asked = ClaimAsked {
            claim_id: id,
            coupon_id,
            member_id,
            key: key.map(|key| ClaimKey { key: key.key.clone(), request_hash: key.request_hash }),
            place: handed.as_ref().map(HandedPlace::to_message),
        };
        let message = Message::ClaimAsked(asked);
        let data = message.encode().map_err(|error| {
            tracing::error!(%error, "a claim does not serialize");
            Problem::from(Code::Internal)
        })?;
        let (kind, now) = (message.kind().to_owned(), self.kit.clock.now());
        let request = Request { id: id.0, key: coupon_id.0, kind, data, at: now, trace: Some(trace.0) };
        if let Err(error) = log.write(LOG, &request).await {
            tracing::warn!(%error, "a claim cannot be taken down and is settled at once");
            metrics::counter!("onrush_coupons_not_taken_down_total").increment(1);
            if let (Some(gate), Some(handed)) = (&self.shared, handed) {
                // Given back: the claim takes another one.
                drop(gate.take_over(handed, now));
            }
            return Ok(None);
        }
        taken_down(claimant, id).map(Some)
    }

    /// Settles claims from the log, all in the running transaction.
    pub(crate) async fn settle_asked(&self, work: &mut Work, asked: &[&ClaimAsked]) -> Result<(), Fault> {
        let known = claims::find(&mut work.tx, asked.iter().map(|claim| claim.claim_id)).await?;
        let mut seen = HashSet::new();
        let fresh: Vec<&ClaimAsked> =
            asked.iter().copied().filter(|claim| !known.contains_key(&claim.claim_id) && seen.insert(claim.claim_id)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let passes = self.passes(&fresh).await;
        let mut books = work.take_stash::<Books>();
        books.load_definitions(&mut work.tx, fresh.iter().map(|claim| claim.coupon_id)).await?;
        // Now that the rows are locked.
        if passes.iter().any(|pass| !pass.is_current()) {
            return Err(DbError::Retry("a claim waited for too long since it asked the gate".into()).into());
        }
        let answered = answered_before(work, &fresh).await?;
        let to_settle: Vec<&ClaimAsked> = fresh.iter().copied().filter(|claim| !answered.contains_key(&claim.claim_id)).collect();
        let claimants: Vec<Claimant> = to_settle.iter().map(|claim| claimant(claim)).collect();
        for (claim, pass) in fresh.iter().zip(&passes) {
            pass.settled(&mut books, claim.coupon_id);
        }
        let answers = settle(work, &mut books, &claimants).await?;
        work.put_stash(books);
        let keys: Vec<Option<IdempotencyKey>> = to_settle.iter().map(|claim| key_of(claim)).collect();
        let keyed: Vec<(&IdempotencyKey, Option<&Answer>)> =
            keys.iter().zip(&answers).filter_map(|(key, answer)| Some((key.as_ref()?, Some(answer)))).collect();
        idempotency::store(&mut work.tx, "coupons", CLAIM, &keyed, work.now).await?;
        let mut kept: Vec<Claimed> = answered.into_values().collect();
        kept.extend(to_settle.iter().zip(answers).map(|(claim, answer)| claimed(claim, answer)));
        claims::insert(&mut work.tx, &kept, work.now).await?;
        metrics::histogram!("onrush_coupons_claims_from_log").record(kept.len() as f64);
        let (held, ids): (_, Vec<ClaimId>) = (Arc::clone(&self.held), fresh.iter().map(|claim| claim.claim_id).collect());
        work.after_commit(move || {
            let ended: Vec<_> = ids.iter().filter_map(|id| held.places().remove(id)).collect();
            drop(ended);
        });
        Ok(())
    }

    /// What each of these claims has of the gate: the place it was handed, or a new one if that is too old.
    async fn passes(&self, asked: &[&ClaimAsked]) -> Vec<Pass> {
        match &self.shared {
            Some(gate) => join_all(asked.iter().map(|claim| self.pass(gate, claim))).await,
            None => asked.iter().map(|_| Pass::default()).collect(),
        }
    }

    async fn pass(&self, gate: &SharedGate, claim: &ClaimAsked) -> Pass {
        let now = self.kit.clock.now();
        let known = self.held.places().get(&claim.claim_id).cloned();
        let handed = || claim.place.as_ref().map(|place| gate.take_over(HandedPlace::of(claim.coupon_id, claim.member_id, place), now));
        if let Some(place) = known.or_else(handed).filter(|place| place.is_current()) {
            self.held.places().insert(claim.claim_id, Arc::clone(&place));
            return Pass::at(place);
        }
        let asked = Stopwatch::start();
        let place = gate.insist(claim.coupon_id, claim.member_id, now).await;
        let mut held = self.held.places();
        // Another process may have settled what this one once held a place for.
        let old: Vec<Arc<Place>> = held.extract_if(|_, place| !place.is_current()).map(|(_, place)| place).collect();
        if let Some(place) = &place {
            held.insert(claim.claim_id, Arc::clone(place));
        }
        drop(held);
        drop(old);
        Pass::asked(place, asked, gate.current())
    }
}

fn claimant(claim: &ClaimAsked) -> Claimant {
    Claimant { coupon_id: claim.coupon_id, member_id: claim.member_id }
}

fn claimed(claim: &ClaimAsked, answer: Answer) -> Claimed {
    Claimed { id: claim.claim_id, coupon_id: claim.coupon_id, member_id: claim.member_id, answer }
}

fn key_of(claim: &ClaimAsked) -> Option<IdempotencyKey> {
    let ClaimKey { key, request_hash } = claim.key.clone()?;
    Some(IdempotencyKey { scope: claim.member_id.0, key, request_hash })
}

/// What is not to be settled: the key has an answer, or it is another request's.
async fn answered_before(work: &mut Work, claims: &[&ClaimAsked]) -> Result<HashMap<ClaimId, Claimed>, Fault> {
    let mut answered = HashMap::new();
    let mut seen: HashSet<(MemberId, String)> = HashSet::new();
    let mut first: Vec<(&ClaimAsked, IdempotencyKey)> = Vec::new();
    for claim in claims {
        let Some(key) = key_of(claim) else { continue };
        match seen.insert((claim.member_id, key.key.clone())) {
            true => first.push((claim, key)),
            // The first in this transaction has the key; a repeat of it would have the same id.
            false => drop(answered.insert(claim.claim_id, claimed(claim, Answer::refusal(&Code::IdempotencyKeyMismatch.into())))),
        }
    }
    let keys: Vec<&IdempotencyKey> = first.iter().map(|(_, key)| key).collect();
    let known = idempotency::claim_all(&mut work.tx, "coupons", CLAIM, &keys).await?;
    for ((claim, _), known) in first.iter().zip(known) {
        let answer = match known {
            idempotency::Claim::Fresh => continue,
            idempotency::Claim::Answered(answer) => answer,
            idempotency::Claim::OtherRequest => Answer::refusal(&Code::IdempotencyKeyMismatch.into()),
            idempotency::Claim::Running => Answer::refusal(&Code::IdempotencyInProgress.into()),
        };
        answered.insert(claim.claim_id, claimed(claim, answer));
    }
    Ok(answered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::CouponId;
    use uuid::Uuid;

    // RFC 7240
    #[test]
    fn the_preference_is_found_among_others() {
        let prefers = |texts: &[&str]| {
            let mut headers = HeaderMap::new();
            for text in texts {
                headers.append("prefer", HeaderValue::from_str(text).unwrap());
            }
            is_preferred(&headers)
        };
        assert!(prefers(&["respond-async"]) && prefers(&["wait=10, Respond-Async"]) && prefers(&["wait=3", "respond-async; x=1"]));
        assert!(!prefers(&[]) && !prefers(&["wait=10"]) && !prefers(&["respond-asynchronously"]));
    }

    #[test]
    fn an_id_is_known_again_by_whom_it_was_given_to() {
        let kit = kit::process::detached_kit();
        let claimant = |n| Claimant { coupon_id: CouponId(Uuid::from_u128(1)), member_id: MemberId(Uuid::from_u128(n)) };
        let key = |key: &str| IdempotencyKey { scope: Uuid::from_u128(2), key: key.into(), request_hash: [7; 32] };
        let (free, keyed) = (claim_id(&kit, claimant(2), None), claim_id(&kit, claimant(2), Some(&key("a"))));
        for id in [free, keyed] {
            assert!(was_given_out(&kit, claimant(2), id) && !was_given_out(&kit, claimant(3), id));
            assert_eq!(id.0.get_version_num(), 8);
            let other = Uuid::from_u128(id.0.as_u128() ^ 1);
            assert!(!was_given_out(&kit, claimant(2), ClaimId(other)));
        }
        assert_eq!(keyed, claim_id(&kit, claimant(2), Some(&key("a"))), "a repeat has the same");
        assert_ne!(keyed, claim_id(&kit, claimant(2), Some(&key("b"))));
        assert_ne!(free, claim_id(&kit, claimant(2), None));
    }
}
