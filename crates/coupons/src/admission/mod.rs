//! Admission: rejects claims that cannot succeed and gives the others a permit that the transaction checks (C25).
//!
//! It rejects only claims that the database would refuse, too. Under the strategy `redis` the gate of all processes (`redis`) decides, and
//! a permit may hold a slot there. Under the others the cache of this process (`memory`) decides, and permits never expire.

pub mod memory;
pub mod redis;

use crate::Coupons;
use contracts::{Code, CouponId, MemberId};
use kit::ports::Stopwatch;
use redis::{GateVerdict, SharedGate, Slot};
use std::{sync::Arc, time::Duration};

/// Questions to a full gate before the claim goes to the database: a claim in progress may end and free its slot.
const MAX_ATTEMPTS: u32 = 10;
/// Pause between two of these questions.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// A claim that asks for admission.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest {
    pub coupon_id: CouponId,
    pub member_id: MemberId,
    /// An earlier request may have got the answer already. Only the database may refuse this one, with that same answer.
    pub may_be_repeat: bool,
    /// The claim is settled from the claims log. It does not wait here for a free slot.
    pub is_deferred: bool,
}

impl ClaimRequest {
    /// Number of questions to the gate before the claim takes a slot by force.
    fn attempts(self) -> u32 {
        match self {
            ClaimRequest { may_be_repeat: true, .. } => 0,
            ClaimRequest { is_deferred: true, .. } => 1,
            _ => MAX_ATTEMPTS,
        }
    }
}

/// Travels with an admitted claim to its transaction.
#[derive(Debug, Default)]
pub struct ClaimPermit {
    slot: Option<Arc<Slot>>,
    /// Time since the gate was asked, and the time for which its answer is valid. `None`: there is no gate, or the slot knows its age.
    issued: Option<(Stopwatch, Duration)>,
}

impl ClaimPermit {
    pub fn with_slot(slot: Arc<Slot>) -> ClaimPermit {
        ClaimPermit { slot: Some(slot), issued: None }
    }

    /// `since` was started before the gate was asked.
    pub fn from_gate(slot: Option<Arc<Slot>>, since: Stopwatch, ttl: Duration) -> ClaimPermit {
        ClaimPermit { slot, issued: Some((since, ttl)) }
    }

    pub fn slot(&self) -> Option<&Arc<Slot>> {
        self.slot.as_ref()
    }

    /// False: the gate may have lost this claim, and must be asked again. The transaction checks it after it has locked the coupon's row.
    pub fn is_current(&self) -> bool {
        self.slot.as_ref().is_none_or(|slot| slot.is_current()) && self.issued.as_ref().is_none_or(|(since, ttl)| since.elapsed() < *ttl)
    }
}

impl Coupons {
    /// `Err`: the refusal that the database would give.
    pub async fn admit(&self, request: ClaimRequest) -> Result<ClaimPermit, Code> {
        let may_be_repeat = request.may_be_repeat || !self.settings.refuses_early;
        let request = ClaimRequest { may_be_repeat, ..request };
        let ClaimRequest { coupon_id, member_id, .. } = request;
        match &self.gate {
            Some(gate) => self.admit_by_gate(gate, request).await,
            None if may_be_repeat => Ok(ClaimPermit::default()),
            None => self.refusals.refusal(&self.kit, coupon_id, member_id).await.map_or_else(|| Ok(ClaimPermit::default()), Err),
        }
    }

    async fn admit_by_gate(&self, gate: &SharedGate, request: ClaimRequest) -> Result<ClaimPermit, Code> {
        let ClaimRequest { coupon_id, member_id, .. } = request;
        let attempts = request.attempts();
        for attempt in 1..=attempts {
            // Started before the call, so that the permit expires in time.
            let since = Stopwatch::start();
            let slot = match gate.admit(coupon_id, member_id, self.kit.clock.now()).await {
                GateVerdict::Admitted(slot) => Some(slot),
                GateVerdict::Undecided(slot) => slot,
                GateVerdict::Refused(code) => return Err(code),
                GateVerdict::Full => {
                    if attempt < attempts {
                        tokio::time::sleep(RETRY_INTERVAL).await;
                    }
                    continue;
                }
            };
            return Ok(ClaimPermit::from_gate(slot, since, gate.permit_ttl()));
        }
        let since = Stopwatch::start();
        let slot = gate.force_slot(coupon_id, member_id, self.kit.clock.now()).await;
        Ok(ClaimPermit::from_gate(slot, since, gate.permit_ttl()))
    }

    /// Waits until the gate has the commits of this process. Returns at once without a gate.
    pub async fn flush_gate(&self) {
        if let Some(gate) = &self.gate {
            gate.flushed().await;
        }
    }
}
