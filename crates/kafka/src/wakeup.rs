//! Wakes the thread that polls a consumer. Each partition has its own queue in the client library, and a thread cannot wait on several
//! queues.

use parking_lot::{Condvar, Mutex};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// Wakes the thread in [`super::Consumer::poll`], from any thread.
#[derive(Clone)]
pub struct Waker(pub(super) Arc<ConsumerWakeup>);

impl Waker {
    /// Ends the present `poll`, or else the next one.
    pub fn wake(&self) {
        self.0.notify(|reasons| reasons.is_woken = true);
    }
}

/// Reasons for waking since the last wait.
#[derive(Clone, Copy, Default)]
pub(super) struct WakeReasons {
    /// A partition has messages.
    pub has_arrivals: bool,
    pub is_woken: bool,
    /// The client library has events to serve: log lines, errors.
    pub has_client_events: bool,
}

#[derive(Default)]
pub(super) struct ConsumerWakeup {
    reasons: Mutex<WakeReasons>,
    changed: Condvar,
    arrival_callback: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl ConsumerWakeup {
    fn notify(&self, why: impl FnOnce(&mut WakeReasons)) {
        why(&mut self.reasons.lock());
        self.changed.notify_all();
    }

    /// Runs on a thread of the client library, which holds a lock.
    pub fn notify_arrival(&self) {
        self.notify(|reasons| reasons.has_arrivals = true);
        if let Some(callback) = self.arrival_callback.get() {
            callback();
        }
    }

    pub fn notify_client_event(&self) {
        self.notify(|reasons| reasons.has_client_events = true);
    }

    /// `false`: a callback is set already.
    pub fn set_arrival_callback(&self, callback: Box<dyn Fn() + Send + Sync>) -> bool {
        self.arrival_callback.set(callback).is_ok()
    }

    /// Waits for a reason, at most for `timeout`, and clears the reasons.
    pub fn wait(&self, timeout: Duration) -> WakeReasons {
        let mut reasons = self.reasons.lock();
        let silent = |reasons: &mut WakeReasons| !(reasons.has_arrivals || reasons.is_woken || reasons.has_client_events);
        self.changed.wait_while_for(&mut reasons, silent, timeout);
        std::mem::take(&mut *reasons)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wakeup_before_the_wait_is_seen_once() {
        let wakeup = Arc::new(ConsumerWakeup::default());
        Waker(wakeup.clone()).wake();
        wakeup.notify_arrival();
        let reasons = wakeup.wait(Duration::ZERO);
        assert!(reasons.is_woken && reasons.has_arrivals && !reasons.has_client_events);
        let reasons = wakeup.wait(Duration::ZERO);
        assert!(!reasons.is_woken && !reasons.has_arrivals);
    }

    #[test]
    fn a_wakeup_ends_the_wait_of_another_thread() {
        let wakeup = Arc::new(ConsumerWakeup::default());
        let notifier = wakeup.clone();
        let listener = std::thread::spawn(move || wakeup.wait(Duration::from_secs(30)).has_arrivals);
        notifier.notify_arrival();
        assert!(listener.join().unwrap());
    }
}
