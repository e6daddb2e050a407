//! Wakes an engine when a stream it reads has new messages.

use super::subscriptions::handles;
use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
};

/// The streams that may have new messages since the engine last took them.
pub(super) struct PendingSources {
    has_any: AtomicBool,
    sources: Vec<(&'static str, AtomicBool)>,
}

impl PendingSources {
    /// All sources pending, as at the start.
    fn all(sources: impl Iterator<Item = &'static str>) -> PendingSources {
        PendingSources { has_any: AtomicBool::new(true), sources: sources.map(|source| (source, AtomicBool::new(true))).collect() }
    }

    /// Marks one source, or all. Returns false when any mark was already pending: the engine takes this one together with it.
    fn add(&self, source: Option<&str>) -> bool {
        for (_, flag) in self.sources.iter().filter(|(name, _)| source.is_none_or(|source| source == *name)) {
            flag.store(true, Ordering::Release);
        }
        !self.has_any.swap(true, Ordering::AcqRel)
    }

    pub fn has_any(&self) -> bool {
        self.has_any.load(Ordering::Acquire)
    }

    pub fn take(&self) -> Vec<&'static str> {
        if !self.has_any.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        self.sources.iter().filter(|(_, flag)| flag.swap(false, Ordering::AcqRel)).map(|(source, _)| *source).collect()
    }
}

/// Wake-ups of an engine.
pub(super) struct Wakeup {
    /// Sources with messages to act on.
    pub pending: PendingSources,
    /// Sources with messages that are only skipped, which can wait until the engine is idle.
    pub deferred: PendingSources,
}

impl Wakeup {
    pub fn new(sources: &[&'static str]) -> Wakeup {
        Wakeup { pending: PendingSources::all(sources.iter().copied()), deferred: PendingSources::all(sources.iter().copied()) }
    }

    /// Marks a source, or all, with new messages of these kinds. `None`: any source, any kind. Returns true when the engine must be
    /// woken.
    pub fn notify(&self, source: Option<&str>, wanted: &HashSet<&'static str>, kinds: Option<&[&str]>) -> bool {
        let is_wanted = kinds.is_none_or(|kinds| kinds.iter().any(|kind| handles(wanted, kind)));
        let pending = if is_wanted { &self.pending } else { &self.deferred };
        pending.add(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_are_only_skipped_are_deferred() {
        let wakeup = Wakeup::new(&["orders", "stock"]);
        let wanted = HashSet::from(["coupon.hold"]);
        // All sources are pending at the start.
        assert_eq!((wakeup.pending.take().len(), wakeup.deferred.take().len()), (2, 2));
        let notify = |kinds: Option<&[&str]>| {
            let is_woken = wakeup.notify(Some("orders"), &wanted, kinds);
            (is_woken, wakeup.pending.take(), wakeup.deferred.take())
        };
        let (nothing, orders) = (Vec::new(), vec!["orders"]);
        assert_eq!(notify(Some(&["stock.reserve", "coupon.hold"])), (true, orders.clone(), nothing.clone()));
        assert_eq!(notify(Some(&["stock.reserve", "order.paid"])), (true, nothing.clone(), orders.clone()));
        // Unknown kinds are never skipped, and without kinds the messages may be of any.
        assert_eq!(notify(Some(&["coupon.of_tomorrow"])), (true, orders.clone(), nothing.clone()));
        assert_eq!(notify(None), (true, orders, nothing));
    }

    #[test]
    fn an_engine_is_woken_once_until_it_reads_the_flags() {
        let wakeup = Wakeup::new(&["orders"]);
        let wanted = HashSet::from(["coupon.hold"]);
        wakeup.pending.take();
        wakeup.deferred.take();
        for kinds in [["coupon.hold"], ["order.paid"]] {
            assert!(wakeup.notify(Some("orders"), &wanted, Some(&kinds)));
            assert!(!wakeup.notify(Some("orders"), &wanted, Some(&kinds)));
        }
        assert!(wakeup.deferred.has_any());
        assert_eq!((wakeup.pending.take(), wakeup.deferred.take()), (vec!["orders"], vec!["orders"]));
        assert!(!wakeup.deferred.has_any());
    }
}
