//! What could be ordered of each SKU, in memory: so that thousands of questions a second need no database.
//!
//! It is what the last commit left, and only a hint for whoever asks: what an order gets is decided in the transaction, from the rows.
//! Where other processes commit as well, a figure is forgotten after a moment.

use contracts::Sku;
use kit::ports::{Stopwatch, random_bytes};
use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How long a figure is believed that another process may have changed.
pub const SHARED_TTL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Availability {
    /// Never evicted: an entry is some 50 bytes, only for SKUs that exist. That is what makes [`Availability::learn`] safe.
    known: RwLock<HashMap<Sku, Figure>>,
    version: AtomicU64,
    /// How long a figure is believed; without end where nobody else writes.
    ttl: Option<Duration>,
    running: Stopwatch,
}

#[derive(Clone, Copy, Debug)]
struct Figure {
    available: i64,
    /// When it was true.
    at: Moment,
}

/// Time since the start, for telling which of two figures is the later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Availability {
    pub fn new(ttl: Option<Duration>) -> Self {
        // A random start: what was remembered of the process before must not look current.
        let version = AtomicU64::new(u64::from_le_bytes(random_bytes()));
        Self { known: RwLock::default(), version, ttl, running: Stopwatch::start() }
    }

    /// To be taken before the database is read.
    pub fn now(&self) -> Moment {
        Moment(self.running.elapsed())
    }

    /// Another number after any commit that changed something here. What others commit is not known: then it is another one every moment.
    pub fn version(&self) -> u64 {
        let moments = self.ttl.map_or(0, |ttl| self.now().0.as_micros() / ttl.as_micros().max(1));
        self.version.load(Ordering::SeqCst).wrapping_add(u64::try_from(moments).unwrap_or(0) << 32)
    }

    /// The known ones of `skus`, and the others.
    pub fn look(&self, skus: &[Sku]) -> (HashMap<Sku, i64>, Vec<Sku>) {
        let now = self.now();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = HashMap::with_capacity(skus.len());
        let mut missing = Vec::new();
        for sku in skus {
            match known.get(sku).filter(|figure| self.ttl.is_none_or(|ttl| now.0.saturating_sub(figure.at.0) < ttl)) {
                Some(figure) => {
                    found.insert(*sku, figure.available);
                }
                None => missing.push(*sku),
            }
        }
        (found, missing)
    }

    /// What a commit changed. Always written, also for SKUs nobody has asked for: a reader that is slower than the commit then finds
    /// an entry and keeps its older figure to itself.
    pub fn committed(&self, changes: &[(Sku, i64)]) {
        let at = self.now();
        let figures = changes.iter().map(|(sku, available)| (*sku, Figure { available: *available, at }));
        self.known.write().unwrap_or_else(PoisonError::into_inner).extend(figures);
        // After the figures: whoever reads the new number reads the new figures behind it.
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// What a reader found in the database, who began to read at that moment; unless a commit was faster.
    pub fn learn(&self, read: &[(Sku, i64)], at: Moment) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for (sku, available) in read {
            let figure = known.entry(*sku).or_insert(Figure { available: *available, at });
            if figure.at < at {
                *figure = Figure { available: *available, at };
            }
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
        let availability = Availability::new(None);
        let before = availability.now();
        availability.committed(&[(one, 3)]);
        availability.learn(&[(one, 9), (two, 5)], before);
        assert_eq!(availability.look(&[one, two]), (HashMap::from([(one, 3), (two, 5)]), vec![]));
        let version = availability.version();
        availability.committed(&[(two, 4)]);
        assert_eq!(availability.look(&[two]).0[&two], 4);
        assert_ne!(availability.version(), version);
    }

    #[test]
    fn what_others_may_have_changed_is_looked_up_again() {
        let sku = Sku(Uuid::from_u128(1));
        let availability = Availability::new(Some(Duration::from_nanos(1)));
        let version = availability.version();
        let before = availability.now();
        availability.committed(&[(sku, 3)]);
        while availability.now().0 < before.0 + Duration::from_micros(2) {}
        assert_eq!(availability.look(&[sku]), (HashMap::new(), vec![sku]));
        assert_ne!(availability.version(), version);
        let later = availability.now();
        availability.learn(&[(sku, 2)], later);
        availability.learn(&[(sku, 9)], before);
        assert_eq!(availability.known.read().unwrap()[&sku].available, 2, "an older one does not replace it");
    }
}
