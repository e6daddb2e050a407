//! Rejects claims for sold-out or closed coupons from memory, before they are queued (C25).
//!
//! It only gives refusals that a committed transaction would give. A commit that changes a coupon updates the cache. Correctness does not
//! depend on it: a claim that it cannot decide goes to the queue. It never grants a claim, and never answers a member who owns the coupon.
//!
//! The cache does not learn of commits of other processes. If there are other processes, one of the callers rereads the coupon after a
//! moment, and an entry that is too old refuses nothing. So each refusal is one that the database would have given less than a second ago.

use crate::{
    model::Definition,
    store::{definitions, issued},
};
use contracts::{Code, CouponId, MemberId, Timestamp};
use kit::{DbError, Kit, ports::Stopwatch};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// Most owners of one coupon, 16 bytes each. Claims of a larger campaign go to the queue.
const MAX_OWNERS: usize = 250_000;
/// Most owners of all coupons together: 16 MB.
const MAX_OWNERS_IN_ALL: usize = 1_000_000;
/// Owners read at once: a few milliseconds, after which this thread serves other requests.
const CHUNK: u32 = 10_000;
/// Maximum age of an entry while other processes may write. After half of it a caller rereads the coupon.
pub const SHARED_TTL: Duration = Duration::from_millis(600);

pub struct RefusalCache {
    coupons: RwLock<HashMap<CouponId, KnownCoupon>>,
    /// `None`: entries never expire, because this process is the only writer.
    ttl: Option<Duration>,
    clock: Stopwatch,
}

/// Cache entry of one coupon.
struct KnownCoupon {
    window: ClaimWindow,
    owners: Owners,
    /// Time of the read, by the cache's clock.
    read_at: Duration,
    /// A caller is about to reread the coupon.
    is_refreshing: AtomicBool,
}

/// The part of a definition that decides early refusals.
#[derive(Clone, Copy, Debug)]
pub struct ClaimWindow {
    version: i64,
    opens_at: Timestamp,
    closes_at: Timestamp,
    sold_out: bool,
    is_deleted: bool,
    /// The owners stay the same while this number does.
    next_number: i64,
}

impl From<&Definition> for ClaimWindow {
    fn from(definition: &Definition) -> Self {
        ClaimWindow {
            version: definition.version,
            opens_at: definition.terms.issue_from,
            closes_at: definition.closes_at(),
            sold_out: definition.is_sold_out(),
            is_deleted: definition.deleted_at.is_some(),
            next_number: definition.next_number,
        }
    }
}

/// All members who ever got the coupon. The cache never refuses their claims.
enum Owners {
    Unknown,
    /// A request reads them. Other claims go to the queue meanwhile.
    Loading,
    Sorted(Box<[MemberId]>),
    TooMany,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CacheVerdict {
    Refuse(Code),
    Undecided,
    /// The caller must read the database first.
    Refresh,
}

impl RefusalCache {
    pub fn new(ttl: Option<Duration>) -> Self {
        Self { coupons: RwLock::default(), ttl, clock: Stopwatch::start() }
    }

    /// Returns the refusal that the database would give now. `None`: the cache cannot tell.
    pub async fn refusal(&self, kit: &Kit, coupon_id: CouponId, member_id: MemberId) -> Option<Code> {
        let now = kit.clock.now();
        let mut verdict = self.verdict(coupon_id, member_id, now);
        if verdict == CacheVerdict::Refresh {
            if let Err(error) = self.refresh(kit, coupon_id, now).await {
                tracing::warn!(%error, coupon.id = %coupon_id, "coupon not reread, claims go to the queue");
            }
            verdict = self.verdict(coupon_id, member_id, now);
        }
        match verdict {
            CacheVerdict::Refuse(code) => {
                metrics::counter!("onrush_coupons_refused_early_total").increment(1);
                Some(code)
            }
            CacheVerdict::Undecided | CacheVerdict::Refresh => None,
        }
    }

    /// Takes over definitions from a commit. The caller calls it in the order of the commits, before their answers are sent.
    pub fn apply(&self, windows: impl IntoIterator<Item = (CouponId, ClaimWindow)>) {
        let read_at = self.clock.elapsed();
        let mut coupons = self.write();
        for (id, window) in windows {
            update(&mut coupons, id, window, read_at);
        }
    }

    fn verdict(&self, coupon_id: CouponId, member_id: MemberId, now: Timestamp) -> CacheVerdict {
        let coupons = self.read();
        let Some(coupon) = coupons.get(&coupon_id) else { return CacheVerdict::Refresh };
        if self.needs_refresh(coupon, self.clock.elapsed()) {
            return CacheVerdict::Refresh;
        }
        let KnownCoupon { window, owners, .. } = coupon;
        if window.is_deleted {
            return CacheVerdict::Refuse(Code::NotFound);
        }
        if now < window.opens_at {
            return CacheVerdict::Refuse(Code::NotOpen);
        }
        let closed = now >= window.closes_at;
        if !closed && !window.sold_out {
            return CacheVerdict::Undecided;
        }
        match owners {
            Owners::Unknown => CacheVerdict::Refresh,
            Owners::Loading | Owners::TooMany => CacheVerdict::Undecided,
            Owners::Sorted(owners) if owners.binary_search(&member_id).is_ok() => CacheVerdict::Undecided,
            Owners::Sorted(_) => CacheVerdict::Refuse(if closed { Code::Closed } else { Code::SoldOut }),
        }
    }

    /// True: the caller must reread the coupon before the entry counts. In the second half of the entry's lifetime this is one of the
    /// callers.
    fn needs_refresh(&self, coupon: &KnownCoupon, at: Duration) -> bool {
        let Some(ttl) = self.ttl else { return false };
        let age = at.saturating_sub(coupon.read_at);
        age >= ttl || (age >= ttl / 2 && !coupon.is_refreshing.swap(true, Ordering::Relaxed))
    }

    async fn refresh(&self, kit: &Kit, coupon_id: CouponId, now: Timestamp) -> Result<(), DbError> {
        let read_at = self.clock.elapsed();
        let found = definitions::find(&mut *kit.db.reader().await?, &[coupon_id]).await?.pop();
        // Not cached: guessed ids must not fill the memory.
        let Some(definition) = found else { return Ok(()) };
        let window = ClaimWindow::from(&definition);
        let Some(load) = self.start_loading_owners(coupon_id, window, read_at, now) else { return Ok(()) };
        let owners = read_owners(kit, coupon_id).await?;
        load.finish(owners);
        Ok(())
    }

    /// Updates the entry. `Some`: claims may be refused, so the caller must load the owners. One caller gets this.
    fn start_loading_owners(&self, coupon_id: CouponId, window: ClaimWindow, read_at: Duration, now: Timestamp) -> Option<OwnersLoad<'_>> {
        let mut coupons = self.write();
        let coupon = update(&mut coupons, coupon_id, window, read_at);
        let has_refusals = coupon.window.sold_out || now >= coupon.window.closes_at;
        if coupon.window.version != window.version || window.is_deleted || !has_refusals || !matches!(coupon.owners, Owners::Unknown) {
            return None;
        }
        coupon.owners = Owners::Loading;
        Some(OwnersLoad { cache: self, coupon_id, next_number: window.next_number, found: Owners::Unknown })
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<CouponId, KnownCoupon>> {
        self.coupons.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<CouponId, KnownCoupon>> {
        self.coupons.write()
    }
}

/// Updates an entry unless it is newer. The owners stay valid if no coupon was issued.
fn update(coupons: &mut HashMap<CouponId, KnownCoupon>, id: CouponId, window: ClaimWindow, read_at: Duration) -> &mut KnownCoupon {
    let new = KnownCoupon { window, owners: Owners::Unknown, read_at, is_refreshing: AtomicBool::new(false) };
    let coupon = coupons.entry(id).or_insert(new);
    if window.version > coupon.window.version {
        if window.next_number != coupon.window.next_number {
            coupon.owners = Owners::Unknown;
        }
        coupon.window = window;
    }
    if window.version == coupon.window.version && read_at > coupon.read_at {
        coupon.read_at = read_at;
        coupon.is_refreshing = AtomicBool::new(false);
    }
    coupon
}

/// A read of the owners in progress. If it is dropped halfway, for instance because its client disconnects, another caller reads them.
struct OwnersLoad<'a> {
    cache: &'a RefusalCache,
    coupon_id: CouponId,
    next_number: i64,
    found: Owners,
}

impl OwnersLoad<'_> {
    fn finish(mut self, owners: Owners) {
        self.found = owners;
    }
}

impl Drop for OwnersLoad<'_> {
    fn drop(&mut self) {
        let found = std::mem::replace(&mut self.found, Owners::Unknown);
        let mut coupons = self.cache.write();
        if let Owners::Sorted(new) = &found {
            make_room(&mut coupons, new.len());
        }
        if let Some(coupon) = coupons.get_mut(&self.coupon_id)
            && matches!(coupon.owners, Owners::Loading)
        {
            // Discarded if coupons were issued meanwhile: an owner may be missing.
            coupon.owners = if coupon.window.next_number == self.next_number { found } else { Owners::Unknown };
        }
    }
}

/// Drops all owners if the cache is full. Owners that are needed are read again.
fn make_room(coupons: &mut HashMap<CouponId, KnownCoupon>, wanted: usize) {
    let kept: usize = coupons.values().map(|coupon| if let Owners::Sorted(owners) = &coupon.owners { owners.len() } else { 0 }).sum();
    if kept + wanted > MAX_OWNERS_IN_ALL {
        for coupon in coupons.values_mut().filter(|coupon| matches!(coupon.owners, Owners::Sorted(_))) {
            coupon.owners = Owners::Unknown;
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

    fn window(version: i64, sold_out: bool) -> ClaimWindow {
        ClaimWindow { version, opens_at: Timestamp(10), closes_at: Timestamp(20), sold_out, is_deleted: false, next_number: 2 }
    }

    fn sold_out() -> RefusalCache {
        let cache = RefusalCache::new(None);
        cache.apply([(ID, window(1, true))]);
        cache.start_loading_owners(ID, window(1, true), Duration::ZERO, OPEN).unwrap().finish(Owners::Sorted([OWNER].into()));
        cache
    }

    // C25
    #[test]
    fn only_members_without_the_coupon_are_refused() {
        let cache = sold_out();
        for (member, now, expected) in [
            (OTHER, 9, CacheVerdict::Refuse(Code::NotOpen)),
            (OTHER, 15, CacheVerdict::Refuse(Code::SoldOut)),
            (OTHER, 20, CacheVerdict::Refuse(Code::Closed)),
            (OWNER, 15, CacheVerdict::Undecided),
            (OWNER, 20, CacheVerdict::Undecided),
        ] {
            assert_eq!(cache.verdict(ID, member, Timestamp(now)), expected, "{now}");
        }
    }

    #[test]
    fn a_returned_unit_ends_the_refusals_at_once() {
        let cache = sold_out();
        cache.apply([(ID, window(2, false))]);
        assert_eq!(cache.verdict(ID, OTHER, OPEN), CacheVerdict::Undecided);
        cache.apply([(ID, window(3, true))]);
        assert_eq!(cache.verdict(ID, OTHER, OPEN), CacheVerdict::Refuse(Code::SoldOut), "no coupon was issued, so the owners are the same");
        cache.apply([(ID, ClaimWindow { next_number: 3, ..window(4, true) })]);
        assert_eq!(cache.verdict(ID, OTHER, OPEN), CacheVerdict::Refresh, "there is a new owner");
    }

    #[test]
    fn a_read_from_before_a_commit_is_discarded() {
        let cache = RefusalCache::new(None);
        let load = cache.start_loading_owners(ID, window(1, true), Duration::ZERO, OPEN).unwrap();
        assert_eq!(cache.verdict(ID, OTHER, OPEN), CacheVerdict::Undecided, "other claims do not wait for the read");
        cache.apply([(ID, ClaimWindow { next_number: 3, ..window(2, true) })]);
        load.finish(Owners::Sorted([OWNER].into()));
        assert_eq!(cache.verdict(ID, OTHER, OPEN), CacheVerdict::Refresh);
        assert!(cache.start_loading_owners(ID, window(1, true), Duration::ZERO, OPEN).is_none(), "an older state changes nothing");
    }

    #[test]
    fn an_abandoned_read_is_started_again() {
        let cache = RefusalCache::new(None);
        drop(cache.start_loading_owners(ID, window(1, true), Duration::ZERO, OPEN).unwrap());
        assert!(cache.start_loading_owners(ID, window(1, true), Duration::ZERO, OPEN).is_some());
    }

    #[test]
    fn owners_are_dropped_when_the_cache_is_full() {
        let cache = sold_out();
        make_room(&mut cache.write(), MAX_OWNERS_IN_ALL);
        assert_eq!(cache.verdict(ID, OTHER, OPEN), CacheVerdict::Refresh);
    }

    // C25
    #[test]
    fn a_shared_entry_expires_and_is_reread_once() {
        let cache = RefusalCache { ttl: Some(SHARED_TTL), ..RefusalCache::new(None) };
        let mut coupons = HashMap::new();
        update(&mut coupons, ID, window(1, true), Duration::ZERO);
        let needs_refresh =
            |coupons: &HashMap<CouponId, KnownCoupon>, millis: u64| cache.needs_refresh(&coupons[&ID], Duration::from_millis(millis));
        assert_eq!([299, 300, 301, 599, 600, 601].map(|at| needs_refresh(&coupons, at)), [false, true, false, false, true, true]);
        update(&mut coupons, ID, window(1, true), Duration::from_millis(400));
        assert_eq!([601, 699, 700, 701, 1_000].map(|at| needs_refresh(&coupons, at)), [false, false, true, false, true]);
        // A read from before the last update does not confirm it.
        update(&mut coupons, ID, window(2, true), Duration::from_millis(500));
        update(&mut coupons, ID, window(1, true), Duration::from_millis(900));
        assert_eq!((coupons[&ID].window.version, coupons[&ID].read_at), (2, Duration::from_millis(500)));
        assert!(!RefusalCache::new(None).needs_refresh(&coupons[&ID], Duration::from_secs(3_600)), "a single process knows all commits");
    }

    #[test]
    fn a_deleted_coupon_is_not_found() {
        let cache = sold_out();
        cache.apply([(ID, ClaimWindow { is_deleted: true, ..window(2, true) })]);
        assert_eq!(cache.verdict(ID, OWNER, OPEN), CacheVerdict::Refuse(Code::NotFound));
    }
}
