//! Early refusal: after a coupon is sold out, or outside its window, an applicant who has none of it is told so from memory, before his
//! claim costs a place in a batch (C25).
//!
//! It only repeats what a committed transaction would answer, and forgets what it knows with the commit that changes it. No correctness
//! rests on it: when it knows nothing, claims go to the batch. It never lets anyone in, and never answers for who may have a coupon.
//!
//! Commits of other processes are not heard of here. Where there are any, what is known is looked up again after a moment, by one of those
//! who ask, and nobody is refused for what is older: the refusal is then one that the batch would have given less than a second ago.

use crate::{
    model::Definition,
    store::{definitions, issued},
};
use contracts::{Code, CouponId, MemberId, Timestamp};
use kit::{DbError, Kit, ports::Stopwatch};
use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Owners kept of one coupon (16 bytes each). A larger campaign is answered by the batch.
const MAX_OWNERS: usize = 250_000;
/// Owners kept of all coupons together: 16 MB.
const MAX_OWNERS_IN_ALL: usize = 1_000_000;
/// Owners read at once: some milliseconds, after which other requests get their turn on this thread.
const CHUNK: u32 = 10_000;
/// How long it believes what other processes may have changed. After half of it somebody looks.
pub const SHARED_TTL: Duration = Duration::from_millis(600);

pub struct Gate {
    slots: RwLock<HashMap<CouponId, Slot>>,
    /// Without end where nobody else writes.
    ttl: Option<Duration>,
    running: Stopwatch,
}

/// What is remembered of one coupon.
struct Slot {
    doors: Doors,
    owners: Owners,
    /// When the doors were known to stand like this, by the gate's watch.
    seen: Duration,
    /// Somebody is about to look again.
    is_looked_for: AtomicBool,
}

/// The part of a definition that turns applicants away.
#[derive(Clone, Copy, Debug)]
pub struct Doors {
    version: i64,
    opens_at: Timestamp,
    closes_at: Timestamp,
    sold_out: bool,
    gone: bool,
    /// While it stays the same, so do the owners.
    next_number: i64,
}

impl From<&Definition> for Doors {
    fn from(definition: &Definition) -> Self {
        Doors {
            version: definition.version,
            opens_at: definition.terms.issue_from,
            closes_at: definition.closes_at(),
            sold_out: definition.is_sold_out(),
            gone: definition.deleted_at.is_some(),
            next_number: definition.next_number,
        }
    }
}

/// Everybody who was ever issued one: their answers are the batch's.
enum Owners {
    Unknown,
    /// A request reads them; others go to the batch meanwhile.
    Loading,
    Sorted(Box<[MemberId]>),
    TooMany,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Refuse(Code),
    Pass,
    /// The answer is in the database.
    Look,
}

impl Gate {
    pub fn new(ttl: Option<Duration>) -> Self {
        Self { slots: RwLock::default(), ttl, running: Stopwatch::start() }
    }

    /// The refusal that the batch would give now, if memory is sure of it.
    pub async fn refusal(&self, kit: &Kit, coupon_id: CouponId, member_id: MemberId) -> Option<Code> {
        let now = kit.clock.now();
        let mut verdict = self.verdict(coupon_id, member_id, now);
        if verdict == Verdict::Look {
            if let Err(error) = self.look(kit, coupon_id, now).await {
                tracing::warn!(%error, coupon.id = %coupon_id, "the gate cannot look, claims go to the batch");
            }
            verdict = self.verdict(coupon_id, member_id, now);
        }
        match verdict {
            Verdict::Refuse(code) => {
                metrics::counter!("onrush_coupons_refused_early_total").increment(1);
                Some(code)
            }
            Verdict::Pass | Verdict::Look => None,
        }
    }

    /// Definitions as a commit left them. Called in the order of the commits, before their answers leave.
    pub fn learn(&self, news: impl IntoIterator<Item = (CouponId, Doors)>) {
        let seen = self.running.elapsed();
        let mut slots = self.write();
        for (id, doors) in news {
            remember(&mut slots, id, doors, seen);
        }
    }

    fn verdict(&self, coupon_id: CouponId, member_id: MemberId, now: Timestamp) -> Verdict {
        let slots = self.read();
        let Some(slot) = slots.get(&coupon_id) else { return Verdict::Look };
        if self.is_old(slot, self.running.elapsed()) {
            return Verdict::Look;
        }
        let Slot { doors, owners, .. } = slot;
        if doors.gone {
            return Verdict::Refuse(Code::NotFound);
        }
        if now < doors.opens_at {
            return Verdict::Refuse(Code::NotOpen);
        }
        let closed = now >= doors.closes_at;
        if !closed && !doors.sold_out {
            return Verdict::Pass;
        }
        match owners {
            Owners::Unknown => Verdict::Look,
            Owners::Loading | Owners::TooMany => Verdict::Pass,
            Owners::Sorted(owners) if owners.binary_search(&member_id).is_ok() => Verdict::Pass,
            Owners::Sorted(_) => Verdict::Refuse(if closed { Code::Closed } else { Code::SoldOut }),
        }
    }

    /// Whether the caller has to look before he may believe it. Of those who come in the second half of its time, one has to.
    fn is_old(&self, slot: &Slot, at: Duration) -> bool {
        let Some(ttl) = self.ttl else { return false };
        let age = at.saturating_sub(slot.seen);
        age >= ttl || (age >= ttl / 2 && !slot.is_looked_for.swap(true, Ordering::Relaxed))
    }

    async fn look(&self, kit: &Kit, coupon_id: CouponId, now: Timestamp) -> Result<(), DbError> {
        let seen = self.running.elapsed();
        let found = definitions::find(&mut *kit.db.reader().await?, &[coupon_id]).await?.pop();
        // Unknown ids leave nothing behind, or guessing them would fill the memory.
        let Some(definition) = found else { return Ok(()) };
        let doors = Doors::from(&definition);
        let Some(looking) = self.start_looking(coupon_id, doors, seen, now) else { return Ok(()) };
        let owners = read_owners(kit, coupon_id).await?;
        looking.finish(owners);
        Ok(())
    }

    /// Remembers the doors. Where they turn applicants away, the owners matter: the first who comes here reads them.
    fn start_looking(&self, coupon_id: CouponId, doors: Doors, seen: Duration, now: Timestamp) -> Option<Looking<'_>> {
        let mut slots = self.write();
        let slot = remember(&mut slots, coupon_id, doors, seen);
        let turns_away = slot.doors.sold_out || now >= slot.doors.closes_at;
        if slot.doors.version != doors.version || doors.gone || !turns_away || !matches!(slot.owners, Owners::Unknown) {
            return None;
        }
        slot.owners = Owners::Loading;
        Some(Looking { gate: self, coupon_id, next_number: doors.next_number, found: Owners::Unknown })
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<CouponId, Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<CouponId, Slot>> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes news of a coupon unless later ones are known. The owners stay known as long as nothing was issued.
fn remember(slots: &mut HashMap<CouponId, Slot>, id: CouponId, doors: Doors, seen: Duration) -> &mut Slot {
    let new = Slot { doors, owners: Owners::Unknown, seen, is_looked_for: AtomicBool::new(false) };
    let slot = slots.entry(id).or_insert(new);
    if doors.version > slot.doors.version {
        if doors.next_number != slot.doors.next_number {
            slot.owners = Owners::Unknown;
        }
        slot.doors = doors;
    }
    if doors.version == slot.doors.version && seen > slot.seen {
        slot.seen = seen;
        slot.is_looked_for = AtomicBool::new(false);
    }
    slot
}

/// A read of the owners under way. Dropped half-way, as when the caller hangs up, it leaves them unknown for the next.
struct Looking<'a> {
    gate: &'a Gate,
    coupon_id: CouponId,
    next_number: i64,
    found: Owners,
}

impl Looking<'_> {
    fn finish(mut self, owners: Owners) {
        self.found = owners;
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        let found = std::mem::replace(&mut self.found, Owners::Unknown);
        let mut slots = self.gate.write();
        if let Owners::Sorted(new) = &found {
            make_room(&mut slots, new.len());
        }
        if let Some(slot) = slots.get_mut(&self.coupon_id)
            && matches!(slot.owners, Owners::Loading)
        {
            // Issued meanwhile: what was read may lack somebody.
            slot.owners = if slot.doors.next_number == self.next_number { found } else { Owners::Unknown };
        }
    }
}

/// Forgets all owners when too many are kept; those that are asked for are read again.
fn make_room(slots: &mut HashMap<CouponId, Slot>, wanted: usize) {
    let kept: usize = slots.values().map(|slot| if let Owners::Sorted(owners) = &slot.owners { owners.len() } else { 0 }).sum();
    if kept + wanted > MAX_OWNERS_IN_ALL {
        for slot in slots.values_mut().filter(|slot| matches!(slot.owners, Owners::Sorted(_))) {
            slot.owners = Owners::Unknown;
        }
    }
}

async fn read_owners(kit: &Kit, coupon_id: CouponId) -> Result<Owners, DbError> {
    let mut owners: Vec<MemberId> = Vec::new();
    let mut after = 0;
    loop {
        let chunk = issued::owners(&mut *kit.db.reader().await?, coupon_id, after, CHUNK).await?;
        let Some((last, _)) = chunk.last() else { break };
        after = *last;
        owners.extend(chunk.into_iter().map(|(_, member_id)| member_id));
        if owners.len() > MAX_OWNERS {
            return Ok(Owners::TooMany);
        }
        tokio::task::yield_now().await;
    }
    owners.sort_unstable();
    owners.dedup();
    Ok(Owners::Sorted(owners.into_boxed_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const ID: CouponId = CouponId(Uuid::from_u128(1));
    const OWNER: MemberId = MemberId(Uuid::from_u128(2));
    const OTHER: MemberId = MemberId(Uuid::from_u128(3));
    const OPEN: Timestamp = Timestamp(15);

    fn doors(version: i64, sold_out: bool) -> Doors {
        Doors { version, opens_at: Timestamp(10), closes_at: Timestamp(20), sold_out, gone: false, next_number: 2 }
    }

    fn sold_out() -> Gate {
        let gate = Gate::new(None);
        gate.learn([(ID, doors(1, true))]);
        gate.start_looking(ID, doors(1, true), Duration::ZERO, OPEN).unwrap().finish(Owners::Sorted([OWNER].into()));
        gate
    }

    // C25
    #[test]
    fn it_refuses_only_who_has_nothing_and_can_get_nothing() {
        let gate = sold_out();
        for (member, now, expected) in [
            (OTHER, 9, Verdict::Refuse(Code::NotOpen)),
            (OTHER, 15, Verdict::Refuse(Code::SoldOut)),
            (OTHER, 20, Verdict::Refuse(Code::Closed)),
            (OWNER, 15, Verdict::Pass),
            (OWNER, 20, Verdict::Pass),
        ] {
            assert_eq!(gate.verdict(ID, member, Timestamp(now)), expected, "{now}");
        }
    }

    #[test]
    fn a_unit_that_comes_back_opens_it_at_once() {
        let gate = sold_out();
        gate.learn([(ID, doors(2, false))]);
        assert_eq!(gate.verdict(ID, OTHER, OPEN), Verdict::Pass);
        gate.learn([(ID, doors(3, true))]);
        assert_eq!(gate.verdict(ID, OTHER, OPEN), Verdict::Refuse(Code::SoldOut), "nothing was issued: the owners are the same");
        gate.learn([(ID, Doors { next_number: 3, ..doors(4, true) })]);
        assert_eq!(gate.verdict(ID, OTHER, OPEN), Verdict::Look, "there is an owner more");
    }

    #[test]
    fn what_was_read_before_a_commit_does_not_outlive_it() {
        let gate = Gate::new(None);
        let looking = gate.start_looking(ID, doors(1, true), Duration::ZERO, OPEN).unwrap();
        assert_eq!(gate.verdict(ID, OTHER, OPEN), Verdict::Pass, "others do not wait for the read");
        gate.learn([(ID, Doors { next_number: 3, ..doors(2, true) })]);
        looking.finish(Owners::Sorted([OWNER].into()));
        assert_eq!(gate.verdict(ID, OTHER, OPEN), Verdict::Look);
        assert!(gate.start_looking(ID, doors(1, true), Duration::ZERO, OPEN).is_none(), "an old state is no news");
    }

    #[test]
    fn a_read_that_was_given_up_is_started_again() {
        let gate = Gate::new(None);
        drop(gate.start_looking(ID, doors(1, true), Duration::ZERO, OPEN).unwrap());
        assert!(gate.start_looking(ID, doors(1, true), Duration::ZERO, OPEN).is_some());
    }

    #[test]
    fn memory_is_bounded() {
        let gate = sold_out();
        make_room(&mut gate.write(), MAX_OWNERS_IN_ALL);
        assert_eq!(gate.verdict(ID, OTHER, OPEN), Verdict::Look);
    }

    // C25
    #[test]
    fn what_others_may_have_changed_is_looked_up_again() {
        let gate = Gate { ttl: Some(SHARED_TTL), ..Gate::new(None) };
        let mut slots = HashMap::new();
        remember(&mut slots, ID, doors(1, true), Duration::ZERO);
        let is_old = |slots: &HashMap<CouponId, Slot>, millis: u64| gate.is_old(&slots[&ID], Duration::from_millis(millis));
        assert_eq!([299, 300, 301, 599, 600, 601].map(|at| is_old(&slots, at)), [false, true, false, false, true, true]);
        remember(&mut slots, ID, doors(1, true), Duration::from_millis(400));
        assert_eq!([601, 699, 700, 701, 1_000].map(|at| is_old(&slots, at)), [false, false, true, false, true]);
        // What was read before the last news says nothing about them.
        remember(&mut slots, ID, doors(2, true), Duration::from_millis(500));
        remember(&mut slots, ID, doors(1, true), Duration::from_millis(900));
        assert_eq!((slots[&ID].doors.version, slots[&ID].seen), (2, Duration::from_millis(500)));
        assert!(!Gate::new(None).is_old(&slots[&ID], Duration::from_secs(3_600)), "alone it is told of everything");
    }

    #[test]
    fn a_deleted_coupon_is_not_found() {
        let gate = sold_out();
        gate.learn([(ID, Doors { gone: true, ..doors(2, true) })]);
        assert_eq!(gate.verdict(ID, OWNER, OPEN), Verdict::Refuse(Code::NotFound));
    }
}
