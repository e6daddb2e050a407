//! All open stores in memory. A mall has some thousands at most and changes them rarely, but every product list and coupon reads them.
//!
//! The database is the source of truth. Each commit that changes a store invalidates the cache, and the next reader reloads it.
//! If other processes change stores, too, the cache expires after half a second.

use crate::{model::Store, store};
use contracts::{MemberId, StoreId};
use kit::{Db, DbError, ports::Stopwatch};
use parking_lot::RwLock;
use std::{collections::HashMap, sync::Arc, time::Duration};

/// Lifetime of a snapshot that another process may have changed.
pub const SHARED_TTL: Duration = Duration::from_millis(500);

pub struct StoreCache {
    state: RwLock<CacheState>,
    /// Lifetime of a snapshot. `None`: unlimited, because this process is the only writer.
    ttl: Option<Duration>,
}

#[derive(Default)]
struct CacheState {
    /// Counts the changes, so that a snapshot read before a change is not cached after it.
    changes: u64,
    /// The snapshot, and the time since its read began.
    snapshot: Option<(Stopwatch, Arc<StoreSnapshot>)>,
}

/// The open stores at one moment, oldest first.
#[derive(Default)]
pub struct StoreSnapshot {
    stores: Vec<Store>,
    by_id: HashMap<StoreId, usize>,
    by_seller: HashMap<MemberId, Vec<usize>>,
}

impl StoreCache {
    pub fn new(ttl: Option<Duration>) -> Self {
        Self { state: RwLock::default(), ttl }
    }

    /// Drops the snapshot. Callers run this after the commit of a change.
    pub fn invalidate(&self) {
        let mut state = self.state.write();
        state.changes += 1;
        state.snapshot = None;
    }

    /// The stores at the time of this call, or later. Changes by other processes may be missing for half a second.
    pub async fn snapshot(&self, db: &Db) -> Result<Arc<StoreSnapshot>, DbError> {
        let changes = {
            let state = self.state.read();
            if let Some((age, snapshot)) = &state.snapshot
                && self.ttl.is_none_or(|ttl| age.elapsed() < ttl)
            {
                return Ok(Arc::clone(snapshot));
            }
            state.changes
        };
        let age = Stopwatch::start();
        let stores = {
            let mut reader = db.reader().await?;
            store::all(&mut reader).await?
        };
        let snapshot = Arc::new(StoreSnapshot::new(stores));
        let mut state = self.state.write();
        if state.changes == changes {
            state.snapshot = Some((age, Arc::clone(&snapshot)));
        }
        Ok(snapshot)
    }
}

impl StoreSnapshot {
    fn new(stores: Vec<Store>) -> StoreSnapshot {
        let mut snapshot = StoreSnapshot { stores, ..StoreSnapshot::default() };
        for (index, store) in snapshot.stores.iter().enumerate() {
            snapshot.by_id.insert(store.id, index);
            if let Some(seller_id) = store.seller_id {
                snapshot.by_seller.entry(seller_id).or_default().push(index);
            }
        }
        snapshot
    }

    pub fn get(&self, id: StoreId) -> Option<&Store> {
        self.by_id.get(&id).map(|index| &self.stores[*index])
    }

    pub fn of_seller(&self, seller_id: MemberId) -> impl Iterator<Item = &Store> {
        self.by_seller.get(&seller_id).into_iter().flatten().map(|index| &self.stores[*index])
    }

    /// Up to `limit` stores behind `after`, oldest first, and whether more follow.
    pub fn page(&self, after: Option<StoreId>, limit: usize) -> (&[Store], bool) {
        let from = after.map_or(0, |after| self.stores.partition_point(|store| store.id <= after));
        let rest = &self.stores[from..];
        (&rest[..rest.len().min(limit)], rest.len() > limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::Timestamp;
    use uuid::Uuid;

    fn snapshot(count: u128) -> StoreSnapshot {
        let store = |n| Store {
            id: StoreId(Uuid::from_u128(n)),
            name: format!("Store {n}"),
            seller_id: (n % 2 == 0).then(|| MemberId(Uuid::from_u128(7))),
            created_at: Timestamp(0),
        };
        StoreSnapshot::new((1..=count).map(store).collect())
    }

    fn ids<'s>(stores: impl IntoIterator<Item = &'s Store>) -> Vec<u128> {
        stores.into_iter().map(|store| store.id.0.as_u128()).collect()
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_repeat() {
        let all = snapshot(5);
        let at = |n| Some(StoreId(Uuid::from_u128(n)));
        let (page, more) = all.page(None, 2);
        assert_eq!((ids(page), more), (vec![1, 2], true));
        let (page, more) = all.page(at(2), 2);
        assert_eq!((ids(page), more), (vec![3, 4], true));
        let (page, more) = all.page(at(4), 2);
        assert_eq!((ids(page), more), (vec![5], false));
        assert_eq!(all.page(at(5), 2).0.len(), 0);
        assert_eq!(ids(all.page(None, 5).0).len(), 5);
        assert!(!all.page(None, 5).1, "a full last page has no next one");
    }

    #[test]
    fn a_seller_finds_all_of_its_stores_and_no_others() {
        let all = snapshot(5);
        let of = |n| all.of_seller(MemberId(Uuid::from_u128(n))).map(|store| store.id.0.as_u128()).collect::<Vec<_>>();
        assert_eq!(of(7), [2, 4]);
        assert!(of(8).is_empty());
    }
}
