//! Wakes the thread that polls a consumer. Each partition has a queue of its own in the client library, and a thread cannot wait on several.

use std::{
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError},
    time::Duration,
};

/// Wakes whoever sleeps in [`super::Consumer::poll`], from any thread.
#[derive(Clone)]
pub struct Waker(pub(super) Arc<Bell>);

impl Waker {
    /// Ends the `poll` that is going on, or else the next one.
    pub fn wake(&self) {
        self.0.ring(|rung| rung.woken = true);
    }
}

/// Why the bell rang, since it was last listened to.
#[derive(Clone, Copy, Default)]
pub(super) struct Rung {
    /// A partition has something.
    pub arrived: bool,
    pub woken: bool,
    /// The client library wants to be served: log lines, errors.
    pub chores: bool,
}

#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<Rung>,
    changed: Condvar,
    on_arrival: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Bell {
    fn ring(&self, why: impl FnOnce(&mut Rung)) {
        why(&mut self.rung.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Called on a thread of the client library, with a lock of its own held.
    pub fn arrived(&self) {
        self.ring(|rung| rung.arrived = true);
        if let Some(tell) = self.on_arrival.get() {
            tell();
        }
    }

    pub fn chores(&self) {
        self.ring(|rung| rung.chores = true);
    }

    /// False when somebody is told already.
    pub fn tell(&self, tell: Box<dyn Fn() + Send + Sync>) -> bool {
        self.on_arrival.set(tell).is_ok()
    }

    /// Waits until it rings, at most for `timeout`, and makes it silent.
    pub fn wait(&self, timeout: Duration) -> Rung {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = |rung: &mut Rung| !(rung.arrived || rung.woken || rung.chores);
        let (mut rung, _) = self.changed.wait_timeout_while(rung, timeout, silent).unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *rung)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_heard_once_even_by_who_comes_later() {
        let bell = Arc::new(Bell::default());
        Waker(bell.clone()).wake();
        bell.arrived();
        let rung = bell.wait(Duration::ZERO);
        assert!(rung.woken && rung.arrived && !rung.chores);
        let rung = bell.wait(Duration::ZERO);
        assert!(!rung.woken && !rung.arrived);
    }

    #[test]
    fn a_ring_ends_the_wait_of_another_thread() {
        let bell = Arc::new(Bell::default());
        let ringer = bell.clone();
        let listener = std::thread::spawn(move || bell.wait(Duration::from_secs(30)).arrived);
        ringer.arrived();
        assert!(listener.join().unwrap());
    }
}
