//! The gate in Redis (C25): admits as many claims as units are left, over all processes, and rejects the others at once.
//!
//! It only rejects early; the database decides every admitted claim. It never offers more units than the database has left (I-C8), also
//! during a rebuild. An update that a process could not send makes it wrong for at most one second.
//!
//! Each admitted claim holds a *slot*. Available units are the quantity minus the issued units minus the slots.
//! - A commit that changes a coupon sends one update ([`SharedGate::apply`]): the row's limits and version, the changed member counts, and
//!   the settled slots. Redis applies it in one step. An older version never overwrites a newer one. Each version changes the member
//!   counts once, and versions have no gaps, so the gate notices a missing update. A claim that ends without a commit drops its [`Slot`].
//! - The first caller of a missing gate rebuilds it. (Redis lost or evicted it, or a process died with slots or updates.) During the
//!   rebuild no claim is refused: claims go to the database, and hold slots of the new gate.
//! - The builder waits for the *barrier* before it reads the database. After the barrier no claim with a slot of the lost gate can be
//!   settled: its transaction checks [`Slot::is_current`] after it has locked the row. Updates that arrive during the rebuild are kept,
//!   and those of later versions than the builder read are applied. A builder that died is replaced after its lease. A late builder finds
//!   another builder's name and changes nothing.
//! - A failed update is not repeated, because Redis may have applied it. This process clears the gate as soon as Redis answers, and does
//!   not ask it before.
//! - A process may also die with its updates, or send none because it runs another strategy. So a caller compares the gate with the
//!   database row twice per [`GateTimes::max_staleness`], and the gate takes over newer values. Without such a refresh the gate
//!   refuses no claim. The row does not contain the member counts: if an update is missing for half of that time, only the database
//!   refuses. If it never arrives, the gate is rebuilt.
//!
//! All processes that settle claims should send their updates to the same Redis. The refresh only bounds the errors of those that do not.
//! The refusal cache in memory ([`super::memory`]) needs none of this.

mod rebuild;
mod refresh;
mod scripts;
#[cfg(test)]
mod tests;
mod updates;

pub use rebuild::{CouponSource, DatabaseSource, GateSnapshot, MemberCounts};
pub use updates::{GateUpdate, UpdateGuard};

use crate::model::Definition;
use contracts::{Code, CouponId, MemberId, Timestamp, messages::ClaimSlot};
use kit::{
    ports::{Stopwatch, new_id},
    redis::{Redis, RedisError, Script, ScriptInvocation},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use updates::UpdateQueue;

/// Longest wait of an answer for the gate to apply its change. The answer is right without it.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(250);

/// Times of the gate.
#[derive(Clone, Copy, Debug)]
pub struct GateTimes {
    /// Lifetime of a permit. A claim that waited longer for its transaction asks the gate again.
    pub permit_ttl: Duration,
    /// Time from the loss of a gate to the builder's read of the database. It must exceed `permit_ttl` by the time that a transaction takes
    /// from its check to its commit. It must also exceed the time after which a process tries Redis again (`open_for` of its breaker):
    /// commits before that try are not sent.
    pub barrier: Duration,
    /// Lifetime of a slot that is neither settled nor freed: its process has died, and the gate is rebuilt.
    pub slot_timeout: Duration,
    /// Time for one step of a builder, before another caller takes over.
    pub build_lease: Duration,
    /// Longest delay of an update behind later ones, before the gate is rebuilt.
    pub gap_timeout: Duration,
    /// Maximum age of the gate's state since the last check against the database. It bounds the effect of updates that were not sent.
    /// After half of it a caller refreshes the state.
    pub max_staleness: Duration,
    /// Maximum age of a gate, after which it is rebuilt.
    pub max_age: Duration,
}

impl Default for GateTimes {
    fn default() -> Self {
        Self {
            permit_ttl: Duration::from_secs(2),
            barrier: Duration::from_secs(3),
            slot_timeout: Duration::from_secs(10),
            build_lease: Duration::from_secs(10),
            gap_timeout: Duration::from_secs(5),
            max_staleness: Duration::from_secs(1),
            max_age: Duration::from_secs(3600),
        }
    }
}

/// The gate's answer to a claim.
#[derive(Debug)]
pub enum GateVerdict {
    /// A unit is reserved for the claim while it holds the slot.
    Admitted(Arc<Slot>),
    /// The database decides. With a slot if the claim must count meanwhile.
    Undecided(Option<Arc<Slot>>),
    /// The refusal that the database would give.
    Refused(Code),
    /// Claims in progress hold slots for all units that are left. One may become free: ask again after a moment.
    Full,
}

/// The part of a coupon that decides admission, as of one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimLimits {
    /// Counts the commits that changed the coupon.
    pub version: i64,
    pub quantity: Option<i64>,
    pub issued: i64,
    pub opens_at: Timestamp,
    pub closes_at: Timestamp,
    pub per_member: u32,
    /// There is a waitlist: a new claim gets no unit, but perhaps a ticket.
    pub has_waitlist: bool,
    pub is_deleted: bool,
}

impl From<&Definition> for ClaimLimits {
    fn from(definition: &Definition) -> Self {
        ClaimLimits {
            version: definition.version,
            quantity: definition.quantity,
            issued: definition.issued,
            opens_at: definition.terms.issue_from,
            closes_at: definition.closes_at(),
            per_member: definition.terms.per_member,
            has_waitlist: definition.waitlist || definition.waiting > 0,
            is_deleted: definition.deleted_at.is_some(),
        }
    }
}

/// A reserved unit of a claim in progress. Dropping the last clone frees it, unless a [`GateUpdate`] settled it or it was handed over.
#[derive(Debug)]
pub struct Slot {
    updates: Arc<UpdateQueue>,
    token: SlotToken,
    since: Stopwatch,
    /// Age of the slot when `since` was started.
    age: Duration,
    ttl: Duration,
    /// The slot is freed by an update, or by the process that it was handed to.
    is_released: AtomicBool,
}

impl Slot {
    /// False: the gate may have been lost and rebuilt without this slot. The claim must not be settled on it, and asks the gate again.
    /// The transaction checks it after it has locked the coupon's row.
    pub fn is_current(&self) -> bool {
        self.age + self.since.elapsed() < self.ttl
    }

    /// Gives the slot to the process that will settle the claim. This process does not free it any more; the other one does, after
    /// [`SharedGate::take_over`]. If the claim gets lost between them, the slot times out.
    pub fn hand_over(&self) -> SlotToken {
        self.is_released.store(true, Ordering::Release);
        self.token.clone()
    }
}

/// Identifies a slot in messages and in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotToken {
    coupon_id: CouponId,
    member_id: MemberId,
    /// Names the gate from one rebuild to the next.
    era: String,
    nth: u32,
    held_at: Timestamp,
}

impl SlotToken {
    pub fn to_message(&self) -> ClaimSlot {
        ClaimSlot { era: self.era.clone(), nth: self.nth, held_at: self.held_at }
    }

    pub fn of(coupon_id: CouponId, member_id: MemberId, slot: &ClaimSlot) -> SlotToken {
        let ClaimSlot { era, nth, held_at } = slot.clone();
        SlotToken { coupon_id, member_id, era, nth, held_at }
    }

    /// The slot's name within the gate.
    fn name(&self) -> Vec<u8> {
        [self.member_id.0.as_bytes(), format!(":{}", self.nth).as_bytes()].concat()
    }
}

/// The gate. Cheap to clone.
#[derive(Clone)]
pub struct SharedGate {
    redis: Redis,
    source: Arc<dyn CouponSource>,
    times: GateTimes,
    updates: Arc<UpdateQueue>,
}

impl SharedGate {
    /// Starts the task that sends updates. Must be called within the runtime.
    pub fn new(redis: Redis, source: Arc<dyn CouponSource>, times: GateTimes) -> SharedGate {
        let updates = UpdateQueue::start(redis.clone());
        SharedGate { redis, source, times, updates }
    }

    /// Asks for admission of one claim. `now` is the time by which the database would decide. Without Redis the verdict is `Undecided`.
    pub async fn admit(&self, coupon_id: CouponId, member_id: MemberId, now: Timestamp) -> GateVerdict {
        self.decide(coupon_id, member_id, now, false).await
    }

    /// Takes a slot for a claim that only the database may refuse, so that the claim counts meanwhile. `None`: the gate cannot be asked.
    pub async fn force_slot(&self, coupon_id: CouponId, member_id: MemberId, now: Timestamp) -> Option<Arc<Slot>> {
        match self.decide(coupon_id, member_id, now, true).await {
            GateVerdict::Admitted(slot) => Some(slot),
            GateVerdict::Undecided(slot) => slot,
            GateVerdict::Refused(_) | GateVerdict::Full => None,
        }
    }

    /// Continues with a slot that another process has handed over. `now` is the time of this process. A difference between the two clocks
    /// changes the slot's age, and must be small against [`GateTimes::permit_ttl`].
    pub fn take_over(&self, token: SlotToken, now: Timestamp) -> Arc<Slot> {
        let age = now.since(token.held_at);
        self.slot(token, Stopwatch::start(), age)
    }

    /// Lifetime of a permit.
    pub fn permit_ttl(&self) -> Duration {
        self.times.permit_ttl
    }

    /// Sends the results of a commit to the gate. Callers may call it in any order after their commits, also from a commit hook. It returns
    /// at once.
    pub fn apply(&self, updates: impl IntoIterator<Item = GateUpdate>) {
        self.updates.enqueue(updates);
    }

    /// Sends the limits on which claims were refused although the coupon did not change. Called like [`apply`](Self::apply).
    pub fn apply_refused(&self, updates: impl IntoIterator<Item = GateUpdate>) {
        self.updates.enqueue_refused(updates);
    }

    /// Has these gates rebuilt, because the outcome of a commit is unknown. Returns at once.
    pub fn invalidate(&self, coupons: impl IntoIterator<Item = CouponId>) {
        self.updates.invalidate(coupons);
    }

    /// Waits until Redis has all updates so far, so that a caller who learns of a free unit can get it. Gives up after a moment.
    pub async fn flushed(&self) {
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, self.updates.flushed()).await;
    }

    /// Units available to new claims. `None`: the gate is missing or stale, or the coupon is unlimited.
    pub async fn available_units(&self, coupon_id: CouponId) -> Result<Option<i64>, RedisError> {
        if self.updates.is_invalid(coupon_id) {
            return Ok(None);
        }
        let mut call = call(&self.redis, &scripts::AVAILABLE_UNITS, coupon_id);
        match self.redis.run::<i64>(call.arg(micros(self.times.max_staleness))).await {
            Ok(units) => Ok((units >= 0).then_some(units)),
            Err(error) => {
                self.invalidate([coupon_id]);
                Err(error)
            }
        }
    }

    async fn decide(&self, coupon_id: CouponId, member_id: MemberId, now: Timestamp, is_forced: bool) -> GateVerdict {
        if self.updates.is_invalid(coupon_id) {
            return GateVerdict::Undecided(None);
        }
        let new_gate = new_id().to_string();
        let (reply, since) = self.ask_and_refresh(coupon_id, member_id, now, &new_gate, is_forced).await;
        let (verdict, era, nth, barrier, ..) = match reply {
            Ok(reply) => reply,
            Err(error) => {
                tracing::debug!(%error, coupon.id = %coupon_id, "gate in Redis not asked");
                // Claims are settled without a slot from now on. And Redis may have given this claim a slot that no process would free.
                self.invalidate([coupon_id]);
                return GateVerdict::Undecided(None);
            }
        };
        let slot = (nth > 0).then(|| self.slot(SlotToken { coupon_id, member_id, era, nth, held_at: now }, since, Duration::ZERO));
        match (verdict.as_str(), slot) {
            ("admitted", Some(slot)) => GateVerdict::Admitted(slot),
            ("build", slot) => {
                self.start_rebuild(coupon_id, new_gate, Duration::from_micros(barrier));
                GateVerdict::Undecided(slot)
            }
            ("full", _) => GateVerdict::Full,
            ("already-issued", _) => refused(Code::AlreadyIssued),
            ("sold-out", _) => refused(Code::SoldOut),
            ("not-open", _) => refused(Code::NotOpen),
            ("closed", _) => refused(Code::Closed),
            ("not-found", _) => refused(Code::NotFound),
            (_, slot) => GateVerdict::Undecided(slot),
        }
    }

    fn slot(&self, token: SlotToken, since: Stopwatch, age: Duration) -> Arc<Slot> {
        let (updates, ttl) = (Arc::clone(&self.updates), self.times.permit_ttl);
        Arc::new(Slot { updates, token, since, age, ttl, is_released: AtomicBool::new(false) })
    }
}

fn refused(code: Code) -> GateVerdict {
    metrics::counter!("onrush_coupons_refused_early_total").increment(1);
    GateVerdict::Refused(code)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Prepares a call of a script on the keys of this coupon.
fn call<'s>(redis: &Redis, script: &'s Script, coupon_id: CouponId) -> ScriptInvocation<'s> {
    let name = coupon_id.to_string();
    let mut call = script.prepare_invoke();
    for kind in ["gate", "gate-shares", "gate-places", "gate-news"] {
        call.key(redis.key(kind, &name));
    }
    call
}

/// Adds the limits as arguments, in the order of `write_limits` in the scripts.
fn write_limits(call: &mut ScriptInvocation<'_>, limits: &ClaimLimits) {
    call.arg(limits.version).arg(limits.quantity.unwrap_or(-1)).arg(limits.issued).arg(limits.opens_at.0).arg(limits.closes_at.0);
    call.arg(limits.per_member).arg(u8::from(limits.has_waitlist)).arg(u8::from(limits.is_deleted));
}
