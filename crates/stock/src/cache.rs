//! Available units of each SKU in memory, so that thousands of reads a second need no database.
//!
//! The cache shows the state after the last commit of this process and is only a hint: the transaction of an order decides by
//! the rows. If other processes write, too, an entry expires after half a second.

use contracts::Sku;
use kit::ports::{Stopwatch, random_bytes};
use parking_lot::RwLock;
use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Lifetime of an entry that another process may have changed.
pub const SHARED_TTL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct AvailabilityCache {
    /// Never evicted, because [`AvailabilityCache::insert_read`] relies on existing entries. An entry has some 50 bytes; only existing
    /// SKUs have one.
    known: RwLock<HashMap<Sku, CachedQuantity>>,
    version: AtomicU64,
    /// Lifetime of an entry. `None`: unlimited, because this process is the only writer.
    ttl: Option<Duration>,
    since_start: Stopwatch,
}

#[derive(Clone, Copy, Debug)]
struct CachedQuantity {
    available: i64,
    /// Time at which the quantity was current.
    at: CacheTime,
}

/// Time since the start; tells the later of two quantities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CacheTime(Duration);

impl AvailabilityCache {
    pub fn new(ttl: Option<Duration>) -> Self {
        // Random, so that a version of the previous process does not match.
        let version = AtomicU64::new(u64::from_le_bytes(random_bytes()));
        Self { known: RwLock::default(), version, ttl, since_start: Stopwatch::start() }
    }

    /// The current time. Callers take it before they read the database.
    pub fn now(&self) -> CacheTime {
        CacheTime(self.since_start.elapsed())
    }

    /// Changes after each commit of this process that changed stock. If other processes write, too, it also changes with each `ttl`.
    pub fn version(&self) -> u64 {
        let ticks = self.ttl.map_or(0, |ttl| self.now().0.as_micros() / ttl.as_micros().max(1));
        self.version.load(Ordering::SeqCst).wrapping_add(u64::try_from(ticks).unwrap_or(0) << 32)
    }

    /// The cached quantities of `skus`, and the SKUs that are missing or expired.
    pub fn get(&self, skus: &[Sku]) -> (HashMap<Sku, i64>, Vec<Sku>) {
        let now = self.now();
        let known = self.known.read();
        let mut found = HashMap::with_capacity(skus.len());
        let mut missing = Vec::new();
        for sku in skus {
            match known.get(sku).filter(|quantity| self.ttl.is_none_or(|ttl| now.0.saturating_sub(quantity.at.0) < ttl)) {
                Some(quantity) => {
                    found.insert(*sku, quantity.available);
                }
                None => missing.push(*sku),
            }
        }
        (found, missing)
    }

    /// Inserts the quantities that a commit changed, even for SKUs that were never read. So a reader that is slower than the commit
    /// finds an entry and does not insert its older quantity.
    pub fn insert_committed(&self, changes: &[(Sku, i64)]) {
        let at = self.now();
        let quantities = changes.iter().map(|(sku, available)| (*sku, CachedQuantity { available: *available, at }));
        self.known.write().extend(quantities);
        // After the quantities: a reader of the new version reads the new quantities.
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// Inserts quantities from the database, whose read began `at` that time. Newer entries stay.
    pub fn insert_read(&self, read: &[(Sku, i64)], at: CacheTime) {
        let mut known = self.known.write();
        for (sku, available) in read {
            let quantity = known.entry(*sku).or_insert(CachedQuantity { available: *available, at });
            if quantity.at < at {
                *quantity = CachedQuantity { available: *available, at };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_slow_reader_does_not_restore_an_old_quantity() {
        let (one, two) = (Sku(Uuid::from_u128(1)), Sku(Uuid::from_u128(2)));
        let availability = AvailabilityCache::new(None);
        let before = availability.now();
        availability.insert_committed(&[(one, 3)]);
        availability.insert_read(&[(one, 9), (two, 5)], before);
        assert_eq!(availability.get(&[one, two]), (HashMap::from([(one, 3), (two, 5)]), vec![]));
        let version = availability.version();
        availability.insert_committed(&[(two, 4)]);
        assert_eq!(availability.get(&[two]).0[&two], 4);
        assert_ne!(availability.version(), version);
    }

    #[test]
    fn an_expired_quantity_is_read_again() {
        let sku = Sku(Uuid::from_u128(1));
        let availability = AvailabilityCache::new(Some(Duration::from_nanos(1)));
        let version = availability.version();
        let before = availability.now();
        availability.insert_committed(&[(sku, 3)]);
        while availability.now().0 < before.0 + Duration::from_micros(2) {}
        assert_eq!(availability.get(&[sku]), (HashMap::new(), vec![sku]));
        assert_ne!(availability.version(), version);
        let later = availability.now();
        availability.insert_read(&[(sku, 2)], later);
        availability.insert_read(&[(sku, 9)], before);
        assert_eq!(availability.known.read()[&sku].available, 2, "an older quantity does not replace it");
    }
}
