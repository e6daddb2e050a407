//! All open connections of a server: the share of each address, the connection to close when the server is full, and the shutdown.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// State of the server, as connections see it.
pub(super) const RUNNING: u8 = 0;
/// Running requests finish, and waiting connections close.
pub(super) const STOPPING: u8 = 1;
pub(super) const CUT_OFF: u8 = 2;

/// Pause before a full server looks again for a connection to close, because all were busy.
const FULL_PAUSE: Duration = Duration::from_millis(50);

/// Value of [`Activity::waiting_since`] while a request is in progress.
const BUSY: u64 = u64::MAX;

/// Activity of one connection. Costs a request two atomic stores.
#[derive(Debug)]
pub(super) struct Activity {
    created: Instant,
    /// Microseconds after `created` at which the wait for a request began, or [`BUSY`].
    waiting_since: AtomicU64,
    is_evicted: AtomicBool,
}

impl Activity {
    fn new() -> Activity {
        Activity { created: Instant::now(), waiting_since: AtomicU64::new(0), is_evicted: AtomicBool::new(false) }
    }

    /// The connection waits for a request from now on.
    pub fn begin_wait(&self) {
        let since = u64::try_from(self.created.elapsed().as_micros()).unwrap_or(BUSY - 1);
        self.waiting_since.store(since, Ordering::Relaxed);
    }

    /// A request has arrived.
    pub fn end_wait(&self) {
        self.waiting_since.store(BUSY, Ordering::Relaxed);
    }

    /// Beginning of the wait. `None`: a request is in progress, or the connection is being closed.
    fn waiting_since(&self) -> Option<Instant> {
        let since = self.waiting_since.load(Ordering::Relaxed);
        (since != BUSY && !self.is_evicted()).then(|| self.created + Duration::from_micros(since))
    }

    /// True when the connection must close to make room for another.
    pub fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Relaxed)
    }
}

/// All open connections.
pub(super) struct Connections {
    phase: AtomicU8,
    slots: Arc<Semaphore>,
    /// Most connections of one address.
    share: u32,
    open: Mutex<OpenConnections>,
}

#[derive(Default)]
struct OpenConnections {
    next: u64,
    by_id: HashMap<u64, ConnectionEntry>,
    counts: HashMap<IpAddr, u32>,
}

struct ConnectionEntry {
    source: Option<IpAddr>,
    activity: Arc<Activity>,
    waker: Waker,
}

impl OpenConnections {
    /// Closes the connection that has waited longest for a request, of this source or of any. `false`: all have a request in progress.
    fn close_longest_waiting(&self, source: Option<IpAddr>) -> bool {
        let of_source = self.by_id.values().filter(|open| source.is_none() || open.source == source);
        let waiting = of_source.filter_map(|open| Some((open.activity.waiting_since()?, open)));
        let Some((_, longest)) = waiting.min_by_key(|(since, _)| *since) else { return false };
        longest.activity.is_evicted.store(true, Ordering::Relaxed);
        longest.waker.wake_by_ref();
        true
    }
}

impl Connections {
    pub fn new(most: u32, share: u32) -> Arc<Connections> {
        let slots = Arc::new(Semaphore::new(most as usize));
        Arc::new(Connections { phase: AtomicU8::new(RUNNING), slots, share, open: Mutex::default() })
    }

    /// Takes a place for a new connection. A full server closes the one that has waited longest for a request.
    pub async fn take_slot(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
                return slot;
            }
            if self.open.lock().close_longest_waiting(None) {
                count_shed("full");
            }
            // The closed connection still has to end.
            if let Ok(Ok(slot)) = tokio::time::timeout(FULL_PAUSE, Arc::clone(&self.slots).acquire_owned()).await {
                return slot;
            }
        }
    }

    /// Registers the task of a connection. A task keeps its waker for life, so it registers once.
    ///
    /// `source` is the address that the connection counts for. `None`: a trusted proxy, which has no share.
    /// Above its share, an address loses its connection that has waited longest. Returns `None` when all of them have a request in
    /// progress.
    pub fn register(self: &Arc<Self>, waker: Waker, source: Option<IpAddr>) -> Option<Registration> {
        let mut open = self.open.lock();
        if let Some(source) = source {
            if open.counts.get(&source).is_some_and(|count| *count >= self.share) {
                count_shed("address");
                if !open.close_longest_waiting(Some(source)) {
                    return None;
                }
            }
            *open.counts.entry(source).or_default() += 1;
        }
        let id = open.next;
        open.next += 1;
        let activity = Arc::new(Activity::new());
        open.by_id.insert(id, ConnectionEntry { source, activity: Arc::clone(&activity), waker });
        Some(Registration { id, activity, is_lifted: AtomicBool::new(false), connections: Arc::clone(self) })
    }

    pub fn phase(&self) -> u8 {
        self.phase.load(Ordering::SeqCst)
    }

    /// Changes the phase and wakes all connections. The flag costs a request one atomic load; a channel would cost a lock.
    pub fn set_phase(&self, phase: u8) {
        self.phase.store(phase, Ordering::SeqCst);
        for open in self.open.lock().by_id.values() {
            open.waker.wake_by_ref();
        }
    }

    /// Waits until all connections have ended.
    pub async fn ended(&self, most: u32) {
        let _ = self.slots.acquire_many(most).await;
    }

    pub fn open_count(&self) -> usize {
        self.open.lock().by_id.len()
    }
}

fn count_shed(reason: &'static str) {
    metrics::counter!("onrush_http_connections_shed_total", "reason" => reason).increment(1);
}

/// Place of one connection among [`Connections`]. Dropping it gives the place back.
pub(super) struct Registration {
    id: u64,
    pub activity: Arc<Activity>,
    /// True when the connection no longer counts for its address.
    is_lifted: AtomicBool,
    connections: Arc<Connections>,
}

impl OpenConnections {
    /// Gives back a place in the share of an address.
    fn release(&mut self, source: Option<IpAddr>) {
        let Some(source) = source else { return };
        if let Some(count) = self.counts.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&source);
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        let source = open.by_id.remove(&self.id).and_then(|entry| entry.source);
        open.release(source);
    }
}

/// Share of an address that the connection of a request counts for.
#[derive(Clone)]
pub struct AddressShare(Arc<Registration>);

impl AddressShare {
    pub(super) fn new(registration: Arc<Registration>) -> AddressShare {
        AddressShare(registration)
    }

    /// Frees the connection from the share of its address, because its sender has proved to be a process of this mall. A gateway needs
    /// as many connections as its clients have.
    pub fn lift(&self) {
        let Registration { id, is_lifted, connections, .. } = &*self.0;
        if !is_lifted.swap(true, Ordering::Relaxed) {
            let mut open = connections.open.lock();
            let source = open.by_id.get_mut(id).and_then(|entry| entry.source.take());
            open.release(source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9)));
    const THERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 10)));

    fn register(connections: &Arc<Connections>, source: Option<IpAddr>) -> Option<Registration> {
        connections.register(Waker::noop().clone(), source)
    }

    // M1
    #[test]
    fn an_address_above_its_share_loses_its_longest_waiting_connection() {
        let connections = Connections::new(10, 2);
        let old = register(&connections, HERE).expect("within the share");
        let new = register(&connections, HERE).expect("within the share");
        let elsewhere = register(&connections, THERE).expect("another address");
        let proxies: Vec<_> = (0..5).map(|_| register(&connections, None).expect("proxies have no share")).collect();
        old.activity.begin_wait();
        let third = register(&connections, HERE).expect("one makes room");
        assert_eq!((old.activity.is_evicted(), new.activity.is_evicted()), (false, true), "the new one waits longer");
        assert!(!elsewhere.activity.is_evicted() && proxies.iter().all(|proxy| !proxy.activity.is_evicted()));
        for busy in [&old, &third] {
            busy.activity.end_wait();
        }
        assert!(register(&connections, HERE).is_none(), "all have a request in progress");
        drop((old, new));
        assert!(register(&connections, HERE).is_some(), "places are given back");
    }

    // M1
    #[test]
    fn a_lifted_connection_has_no_share() {
        let connections = Connections::new(10, 1);
        let share = AddressShare::new(Arc::new(register(&connections, HERE).expect("within the share")));
        share.0.activity.end_wait();
        assert!(register(&connections, HERE).is_none());
        share.lift();
        share.lift();
        let second = register(&connections, HERE).expect("the first no longer counts");
        second.activity.end_wait();
        drop(share);
        assert!(register(&connections, HERE).is_none(), "the second still counts");
    }

    // M1
    #[tokio::test]
    async fn a_full_server_closes_the_longest_waiting_connection() {
        let connections = Connections::new(2, 2);
        let (first, second) = (connections.take_slot().await, connections.take_slot().await);
        let (busy, idle) = (register(&connections, HERE).expect("room"), register(&connections, THERE).expect("room"));
        busy.activity.end_wait();
        let waiting = connections.take_slot();
        let ending = async {
            while !idle.activity.is_evicted() {
                tokio::task::yield_now().await;
            }
            drop(second);
        };
        let (_third, ()) = tokio::join!(waiting, ending);
        assert!(!busy.activity.is_evicted());
        drop(first);
    }
}
