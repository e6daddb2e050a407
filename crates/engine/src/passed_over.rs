//! Items that a job passes over for a while, because the command for each of them failed: its row is locked, or broken.
//!
//! So one item delays neither the others nor the next pass.

use crate::command::SubmitError;
use parking_lot::Mutex;
use runtime::{backoff::Backoff, ports::Stopwatch};
use std::{collections::HashMap, hash::Hash, time::Duration};

/// Delays of an item. The first is longer than most locks, the last short enough for an item that was unlocked or repaired.
const DELAYS: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(60));
/// Most items remembered. With more, the fault is not that of single items.
const MAX_ITEMS: usize = 1_000;

/// Failed items of one job.
pub struct PassedOver<I> {
    job: &'static str,
    failed: Mutex<HashMap<I, FailedItem>>,
}

struct FailedItem {
    failures: u32,
    since: Stopwatch,
    delay: Duration,
}

impl FailedItem {
    fn is_waiting(&self) -> bool {
        self.since.elapsed() < self.delay
    }
}

impl<I: Copy + Eq + Hash> PassedOver<I> {
    pub fn new(job: &'static str) -> Self {
        Self { job, failed: Mutex::default() }
    }

    /// Number of items that are passed over now. A query for due items must read so many more to find others.
    pub fn count(&self) -> u32 {
        let waiting = self.failed.lock().values().filter(|item| item.is_waiting()).count();
        u32::try_from(waiting).unwrap_or(u32::MAX)
    }

    /// Removes the items that are passed over now, and limits the others to one pass.
    pub fn limit(&self, items: &mut Vec<I>, per_pass: u32) {
        let failed = self.failed.lock();
        items.retain(|item| failed.get(item).is_none_or(|failed| !failed.is_waiting()));
        items.truncate(per_pass as usize);
    }

    /// Records the result of an item. A full queue is not the item's fault.
    pub fn record<T>(&self, item: I, result: &Result<T, SubmitError>) {
        let mut failed = self.failed.lock();
        match result {
            Ok(_) => {
                failed.remove(&item);
            }
            Err(SubmitError::Overloaded) => {}
            Err(_) if failed.len() >= MAX_ITEMS && !failed.contains_key(&item) => failed.retain(|_, item| item.is_waiting()),
            Err(_) => {
                let failures = failed.get(&item).map_or(0, |item| item.failures);
                let delay = DELAYS.delay(failures);
                failed.insert(item, FailedItem { failures: failures.saturating_add(1), since: Stopwatch::start(), delay });
            }
        }
        metrics::gauge!("onrush_job_items_passed_over", "job" => self.job).set(failed.len() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Finding 9
    #[test]
    fn a_failed_item_is_passed_over_and_others_are_not() {
        let failed = PassedOver::new("orders.due");
        let due = || {
            let mut items = vec![1, 2, 3];
            failed.limit(&mut items, 2);
            items
        };
        assert_eq!((due(), failed.count()), (vec![1, 2], 0));
        failed.record::<()>(1, &Err(SubmitError::Unavailable));
        failed.record::<()>(2, &Err(SubmitError::Overloaded));
        failed.record(3, &Ok(()));
        assert_eq!((due(), failed.count()), (vec![2, 3], 1));
        failed.record(1, &Ok(()));
        assert_eq!((due(), failed.count()), (vec![1, 2], 0));
    }

    #[test]
    fn the_memory_of_failed_items_is_bounded() {
        let failed = PassedOver::new("orders.due");
        for item in 0..MAX_ITEMS * 2 {
            failed.record::<()>(item, &Err(SubmitError::Failed));
        }
        assert!(failed.failed.lock().len() <= MAX_ITEMS);
    }
}
