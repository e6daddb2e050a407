//! How an engine is told that streams went on.

use super::streams::takes;
use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
};

/// The streams that were rung for since the engine looked.
pub(super) struct Rung {
    is_any: AtomicBool,
    sources: Vec<(&'static str, AtomicBool)>,
}

impl Rung {
    /// All of them at first.
    fn of(sources: impl Iterator<Item = &'static str>) -> Rung {
        Rung { is_any: AtomicBool::new(true), sources: sources.map(|source| (source, AtomicBool::new(true))).collect() }
    }

    /// Rings for one stream, or for all. False: it was rung before, and nobody has looked since; who does will see this, too.
    fn ring(&self, source: Option<&str>) -> bool {
        for (_, flag) in self.sources.iter().filter(|(name, _)| source.is_none_or(|source| source == *name)) {
            flag.store(true, Ordering::Release);
        }
        !self.is_any.swap(true, Ordering::AcqRel)
    }

    pub fn is_any(&self) -> bool {
        self.is_any.load(Ordering::Acquire)
    }

    pub fn take(&self) -> Vec<&'static str> {
        if !self.is_any.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        self.sources.iter().filter(|(_, flag)| flag.swap(false, Ordering::AcqRel)).map(|(source, _)| *source).collect()
    }
}

/// What an engine was told.
pub(super) struct Bell {
    /// There is something to act on.
    pub now: Rung,
    /// There are messages to pass over, which can wait until nothing else is to be done.
    pub later: Rung,
}

impl Bell {
    pub fn of(sources: &[&'static str]) -> Bell {
        Bell { now: Rung::of(sources.iter().copied()), later: Rung::of(sources.iter().copied()) }
    }

    /// Rings for a stream, or for all, that went on by messages of these kinds, or of any. True when the engine must be woken.
    pub fn ring(&self, source: Option<&str>, wanted: &HashSet<&'static str>, kinds: Option<&[&str]>) -> bool {
        let is_wanted = kinds.is_none_or(|kinds| kinds.iter().any(|kind| takes(wanted, kind)));
        let rung = if is_wanted { &self.now } else { &self.later };
        rung.ring(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_to_be_passed_over_can_wait() {
        let bell = Bell::of(&["orders", "stock"]);
        let wanted = HashSet::from(["coupon.hold"]);
        // Both begin rung.
        assert_eq!((bell.now.take().len(), bell.later.take().len()), (2, 2));
        let rung = |kinds: Option<&[&str]>| {
            let must_wake = bell.ring(Some("orders"), &wanted, kinds);
            (must_wake, bell.now.take(), bell.later.take())
        };
        let (nothing, orders) = (Vec::new(), vec!["orders"]);
        assert_eq!(rung(Some(&["stock.reserve", "coupon.hold"])), (true, orders.clone(), nothing.clone()));
        assert_eq!(rung(Some(&["stock.reserve", "order.paid"])), (true, nothing.clone(), orders.clone()));
        // What nobody here knows must not be passed over, and what is not said may be anything.
        assert_eq!(rung(Some(&["coupon.of_tomorrow"])), (true, orders.clone(), nothing.clone()));
        assert_eq!(rung(None), (true, orders, nothing));
    }

    #[test]
    fn an_engine_is_woken_once_until_it_looks() {
        let bell = Bell::of(&["orders"]);
        let wanted = HashSet::from(["coupon.hold"]);
        bell.now.take();
        bell.later.take();
        for kinds in [["coupon.hold"], ["order.paid"]] {
            assert!(bell.ring(Some("orders"), &wanted, Some(&kinds)));
            assert!(!bell.ring(Some("orders"), &wanted, Some(&kinds)));
        }
        assert!(bell.later.is_any());
        assert_eq!((bell.now.take(), bell.later.take()), (vec!["orders"], vec!["orders"]));
        assert!(!bell.later.is_any());
    }
}
