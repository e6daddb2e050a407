//! What could be ordered of each SKU, in memory: so that thousands of questions a second need no database.
//!
//! It is what the last commit left, and only a hint for whoever asks: what an order gets is decided in the transaction, from the rows.

use contracts::Sku;
use kit::ports::random_bytes;
use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

#[derive(Debug)]
pub struct Availability {
    /// Never evicted: an entry is some 40 bytes, only for SKUs that exist. That is what makes [`Availability::learn`] safe.
    known: RwLock<HashMap<Sku, i64>>,
    version: AtomicU64,
}

impl Default for Availability {
    fn default() -> Self {
        // A random start: what was remembered of the process before must not look current.
        Self { known: RwLock::default(), version: AtomicU64::new(u64::from_le_bytes(random_bytes())) }
    }
}

impl Availability {
    /// Another number after any commit that changed something.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// The known ones of `skus`, and the others.
    pub fn look(&self, skus: &[Sku]) -> (HashMap<Sku, i64>, Vec<Sku>) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = HashMap::with_capacity(skus.len());
        let mut missing = Vec::new();
        for sku in skus {
            match known.get(sku) {
                Some(available) => {
                    found.insert(*sku, *available);
                }
                None => missing.push(*sku),
            }
        }
        (found, missing)
    }

    /// What a commit changed. Always written, also for SKUs nobody has asked for: a reader that is slower than the commit then finds
    /// an entry and keeps its older figure to itself.
    pub fn committed(&self, changes: &[(Sku, i64)]) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).extend(changes.iter().copied());
        // After the figures: whoever reads the new number reads the new figures behind it.
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// What a reader found in the database, unless a commit was faster.
    pub fn learn(&self, read: &[(Sku, i64)]) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for (sku, available) in read {
            known.entry(*sku).or_insert(*available);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_late_reader_does_not_bring_back_an_old_figure() {
        let (one, two) = (Sku(Uuid::from_u128(1)), Sku(Uuid::from_u128(2)));
        let availability = Availability::default();
        availability.committed(&[(one, 3)]);
        availability.learn(&[(one, 9), (two, 5)]);
        assert_eq!(availability.look(&[one, two]), (HashMap::from([(one, 3), (two, 5)]), vec![]));
        let version = availability.version();
        availability.committed(&[(two, 4)]);
        assert_eq!(availability.look(&[two]).0[&two], 4);
        assert_ne!(availability.version(), version);
    }
}
