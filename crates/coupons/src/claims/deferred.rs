//! Deferred claims: answered when they are durable in the claims log, and settled from the log in its order (decision 0013).
//!
//! A claim is durable when all in-sync replicas of Kafka have it. Only then the caller gets 202. The claim id is signed: an id without an
//! outcome is pending if the signature is right, and unknown otherwise. Any process of this service settles the claims that it reads,
//! hundreds per transaction. `coupons_claims` records each, so a claim that the log contains twice, or that was settled at once, is settled
//! only once.

use super::{
    Claimant,
    answer::{ClaimPending, OPERATION},
    settle,
};
use crate::{
    Coupons, Strategy,
    admission::{
        ClaimPermit, ClaimRequest,
        redis::{SharedGate, Slot, SlotToken},
    },
    loaded::LoadedCoupons,
    store::claims::{self, SettledClaim},
};
use axum::{http::HeaderValue, response::Response};
use contracts::{
    ClaimId, Code, MemberId, Message,
    messages::{ClaimKey, ClaimRequested},
};
use futures::future::join_all;
use kit::{
    Answer, DbError, Fault, Kit, Tx, Work,
    http::{Problem, Trace},
    idempotency::{self, IdempotencyKey},
    kafka::{LoggedRequest, RequestLogs},
    ports::{Stopwatch, random_bytes},
};
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use uuid::Builder;

const LOG: &str = "coupons.claims";
/// `Retry-After` of a pending claim, in seconds: most are settled by then.
pub const RETRY_AFTER_SECS: &str = "1";

/// Makes the id of a claim. Repeats with the same key get the same id.
pub fn claim_id(kit: &Kit, claimant: Claimant, key: Option<&IdempotencyKey>) -> ClaimId {
    let seed = match key {
        None => random_bytes(),
        Some(key) => {
            let text = [key.scope.as_bytes(), &key.request_hash[..], key.key.as_bytes()].concat();
            first_half(kit.cursors.tag("key of a claim", &text))
        }
    };
    sign(kit, claimant, seed)
}

/// True: this service made the id, for this member and this coupon.
pub fn verify_claim_id(kit: &Kit, claimant: Claimant, id: ClaimId) -> bool {
    sign(kit, claimant, first_half(*id.0.as_bytes())) == id
}

/// The first half of an id is the seed; the second half signs it.
fn sign(kit: &Kit, Claimant { coupon_id, member_id }: Claimant, mut seed: [u8; 8]) -> ClaimId {
    // The version bits of a UUID.
    seed[6] = seed[6] & 0x0f | 0x80;
    let text = [&seed[..], coupon_id.0.as_bytes(), member_id.0.as_bytes()].concat();
    let tag = first_half(kit.cursors.tag("claim", &text));
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&seed);
    bytes[8..].copy_from_slice(&tag);
    ClaimId(Builder::from_custom_bytes(bytes).into_uuid())
}

fn first_half(bytes: [u8; 16]) -> [u8; 8] {
    let mut half = [0; 8];
    half.copy_from_slice(&bytes[..8]);
    half
}

/// 202 for a durable claim: where and when to ask for its outcome.
pub fn accepted(Claimant { coupon_id, .. }: Claimant, id: ClaimId) -> Result<Response, Problem> {
    let answer = Answer::json(202, &ClaimPending { state: "pending", claim_id: id }).map_err(|_| Problem::from(Code::Internal))?;
    let mut response = kit::http::answer(answer.at(format!("/v1/coupons/{coupon_id}/claims/{id}")));
    response.headers_mut().insert("preference-applied", HeaderValue::from_static("respond-async"));
    response.headers_mut().insert("retry-after", HeaderValue::from_static(RETRY_AFTER_SECS));
    Ok(response)
}

/// Slots of the claims that this process is settling from the log. A repeated transaction finds them here, still held.
#[derive(Debug, Default)]
pub struct HeldSlots(Mutex<HashMap<ClaimId, Arc<Slot>>>);

impl HeldSlots {
    fn lock(&self) -> MutexGuard<'_, HashMap<ClaimId, Arc<Slot>>> {
        self.0.lock()
    }
}

impl Coupons {
    /// The log for deferred claims. `None`: there is no Kafka, or no gate to reject most claims that cannot succeed.
    pub fn claims_log(&self) -> Option<&RequestLogs> {
        self.kit.requests.as_ref().filter(|_| self.settings.strategy == Strategy::Redis)
    }

    /// Writes a claim to the log and returns 202. `None`: the write failed, but the log may contain the claim.
    pub async fn enqueue(
        &self,
        log: &RequestLogs,
        id: ClaimId,
        claimant: Claimant,
        key: Option<&IdempotencyKey>,
        trace: Trace,
    ) -> Result<Option<Response>, Problem> {
        let Claimant { coupon_id, member_id } = claimant;
        let permit = self.admit(ClaimRequest { coupon_id, member_id, may_be_repeat: key.is_some(), is_deferred: true }).await?;
        let token = permit.slot().map(|slot| slot.hand_over());
        let message = Message::ClaimRequested(ClaimRequested {
            claim_id: id,
            coupon_id,
            member_id,
            key: key.map(|key| ClaimKey { key: key.key.clone(), request_hash: key.request_hash }),
            place: token.as_ref().map(SlotToken::to_message),
        });
        let data = message.encode().map_err(|error| {
            tracing::error!(%error, "claim not serialized");
            Problem::from(Code::Internal)
        })?;
        let (kind, now) = (message.kind().to_owned(), self.kit.clock.now());
        let request = LoggedRequest { id: id.0, key: coupon_id.0, kind, data, at: now, trace: Some(trace.0) };
        if let Err(error) = log.write(LOG, &request).await {
            tracing::warn!(%error, "claim not written to the log, settled at once");
            metrics::counter!("onrush_coupons_not_taken_down_total").increment(1);
            if let (Some(gate), Some(token)) = (&self.gate, token) {
                // Frees the slot. The claim gets another one when it is settled at once.
                drop(gate.take_over(token, now));
            }
            return Ok(None);
        }
        accepted(claimant, id).map(Some)
    }

    /// Settles claims from the log in the running transaction.
    pub(crate) async fn settle_from_log(&self, work: &mut Work, claims: &[&ClaimRequested]) -> Result<(), Fault> {
        let claims = unsettled(work, claims).await?;
        if claims.is_empty() {
            return Ok(());
        }
        let permits = self.permits(&claims).await;
        let (tx, loaded) = work.rows::<LoadedCoupons>();
        loaded.load_definitions(tx, claims.iter().map(|claim| claim.coupon_id)).await?;
        // The rows are locked now, so the permits can be checked.
        if permits.iter().any(|permit| !permit.is_current()) {
            return Err(DbError::Retry("a claim's permit expired before its transaction".into()).into());
        }
        let answered = answered_before(tx, &claims).await?;
        for (claim, permit) in claims.iter().zip(&permits) {
            loaded.settle_permit(claim.coupon_id, permit);
        }
        let to_settle: Vec<&ClaimRequested> = claims.iter().copied().filter(|claim| !answered.contains_key(&claim.claim_id)).collect();
        let claimants: Vec<Claimant> = to_settle.iter().map(|claim| claimant(claim)).collect();
        let answers = settle(work, &claimants).await?;
        store_keys(work, &to_settle, &answers).await?;
        let mut settled: Vec<SettledClaim> = answered.into_values().collect();
        settled.extend(to_settle.iter().zip(answers).map(|(claim, answer)| settled_claim(claim, answer)));
        claims::insert(&mut work.tx, &settled, work.now).await?;
        metrics::histogram!("onrush_coupons_claims_from_log").record(settled.len() as f64);
        self.drop_slots_after_commit(work, &claims);
        Ok(())
    }

    /// Permits of these claims, in their order.
    async fn permits(&self, claims: &[&ClaimRequested]) -> Vec<ClaimPermit> {
        match &self.gate {
            Some(gate) => join_all(claims.iter().map(|claim| self.permit(gate, claim))).await,
            None => claims.iter().map(|_| ClaimPermit::default()).collect(),
        }
    }

    /// Uses the slot that came with the claim, or forces a new one if that slot is too old.
    async fn permit(&self, gate: &SharedGate, claim: &ClaimRequested) -> ClaimPermit {
        let now = self.kit.clock.now();
        let held = self.held_slots.lock().get(&claim.claim_id).cloned();
        let handed = || claim.place.as_ref().map(|slot| gate.take_over(SlotToken::of(claim.coupon_id, claim.member_id, slot), now));
        if let Some(slot) = held.or_else(handed).filter(|slot| slot.is_current()) {
            self.held_slots.lock().insert(claim.claim_id, Arc::clone(&slot));
            return ClaimPermit::with_slot(slot);
        }
        let since = Stopwatch::start();
        let slot = gate.force_slot(claim.coupon_id, claim.member_id, now).await;
        let mut held = self.held_slots.lock();
        // Another process may have settled claims whose slots this process still holds.
        let expired: Vec<Arc<Slot>> = held.extract_if(|_, slot| !slot.is_current()).map(|(_, slot)| slot).collect();
        if let Some(slot) = &slot {
            held.insert(claim.claim_id, Arc::clone(slot));
        }
        drop(held);
        drop(expired);
        ClaimPermit::from_gate(slot, since, gate.permit_ttl())
    }

    fn drop_slots_after_commit(&self, work: &mut Work, claims: &[&ClaimRequested]) {
        let held_slots = Arc::clone(&self.held_slots);
        let ids: Vec<ClaimId> = claims.iter().map(|claim| claim.claim_id).collect();
        work.after_commit(move || {
            // Dropped after the lock is released.
            let settled: Vec<_> = ids.iter().filter_map(|id| held_slots.lock().remove(id)).collect();
            drop(settled);
        });
    }
}

/// Those of the claims that have no recorded answer, each once.
async fn unsettled<'c>(work: &mut Work, claims: &[&'c ClaimRequested]) -> Result<Vec<&'c ClaimRequested>, Fault> {
    let recorded = claims::find(&mut work.tx, claims.iter().map(|claim| claim.claim_id)).await?;
    let mut seen = HashSet::new();
    Ok(claims.iter().copied().filter(|claim| !recorded.contains_key(&claim.claim_id) && seen.insert(claim.claim_id)).collect())
}

/// Stores the answers under the idempotency keys of their claims.
async fn store_keys(work: &mut Work, claims: &[&ClaimRequested], answers: &[Answer]) -> Result<(), Fault> {
    let keys: Vec<Option<IdempotencyKey>> = claims.iter().map(|claim| key_of(claim)).collect();
    let keyed: Vec<(&IdempotencyKey, Option<&Answer>)> =
        keys.iter().zip(answers).filter_map(|(key, answer)| Some((key.as_ref()?, Some(answer)))).collect();
    idempotency::store(&mut work.tx, "coupons", OPERATION, &keyed, work.now).await?;
    Ok(())
}

fn claimant(claim: &ClaimRequested) -> Claimant {
    Claimant { coupon_id: claim.coupon_id, member_id: claim.member_id }
}

fn settled_claim(claim: &ClaimRequested, answer: Answer) -> SettledClaim {
    SettledClaim { id: claim.claim_id, coupon_id: claim.coupon_id, member_id: claim.member_id, answer }
}

fn key_of(claim: &ClaimRequested) -> Option<IdempotencyKey> {
    let ClaimKey { key, request_hash } = claim.key.clone()?;
    Some(IdempotencyKey { scope: claim.member_id.0, key, request_hash })
}

/// Finds the claims that must not be settled: their key has an answer already, or it belongs to another request.
async fn answered_before(tx: &mut Tx, claims: &[&ClaimRequested]) -> Result<HashMap<ClaimId, SettledClaim>, Fault> {
    let mut answered = HashMap::new();
    let mut seen: HashSet<(MemberId, String)> = HashSet::new();
    let mut first: Vec<(&ClaimRequested, IdempotencyKey)> = Vec::new();
    for claim in claims {
        let Some(key) = key_of(claim) else { continue };
        match seen.insert((claim.member_id, key.key.clone())) {
            true => first.push((claim, key)),
            // The first claim of this transaction owns the key. This is another request, as a repeat would have the same id.
            false => drop(answered.insert(claim.claim_id, settled_claim(claim, Answer::refusal(&Code::IdempotencyKeyMismatch.into())))),
        }
    }
    let keys: Vec<&IdempotencyKey> = first.iter().map(|(_, key)| key).collect();
    let states = idempotency::look_up_all(tx, "coupons", OPERATION, &keys).await?;
    for ((claim, _), state) in first.iter().zip(states) {
        let answer = match state {
            idempotency::KeyState::Fresh => continue,
            idempotency::KeyState::Answered(answer) => answer,
            idempotency::KeyState::OtherRequest => Answer::refusal(&Code::IdempotencyKeyMismatch.into()),
            idempotency::KeyState::Running => Answer::refusal(&Code::IdempotencyInProgress.into()),
        };
        answered.insert(claim.claim_id, settled_claim(claim, answer));
    }
    Ok(answered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::CouponId;
    use uuid::Uuid;

    #[test]
    fn a_claim_id_verifies_only_for_its_claimant() {
        let kit = kit::process::detached_kit();
        let claimant = |n| Claimant { coupon_id: CouponId(Uuid::from_u128(1)), member_id: MemberId(Uuid::from_u128(n)) };
        let key = |key: &str| IdempotencyKey { scope: Uuid::from_u128(2), key: key.into(), request_hash: [7; 32] };
        let (free, keyed) = (claim_id(&kit, claimant(2), None), claim_id(&kit, claimant(2), Some(&key("a"))));
        for id in [free, keyed] {
            assert!(verify_claim_id(&kit, claimant(2), id) && !verify_claim_id(&kit, claimant(3), id));
            assert_eq!(id.0.get_version_num(), 8);
            let other = Uuid::from_u128(id.0.as_u128() ^ 1);
            assert!(!verify_claim_id(&kit, claimant(2), ClaimId(other)));
        }
        assert_eq!(keyed, claim_id(&kit, claimant(2), Some(&key("a"))), "a repeat gets the same id");
        assert_ne!(keyed, claim_id(&kit, claimant(2), Some(&key("b"))));
        assert_ne!(free, claim_id(&kit, claimant(2), None));
    }
}
