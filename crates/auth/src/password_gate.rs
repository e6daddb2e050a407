//! Bounds the concurrent hashes of passwords, and shares them fairly.
//!
//! Sign-ups and sign-ins wait in queues of their own. Sign-ins go first, so that a flood of sign-ups does not keep customers out. In each queue an
//! address gets at most as many places as are free. So one address never has more than half of them, and others always find one.

use contracts::Code;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
};
use tokio::sync::oneshot;
use web::Problem;

/// Most concurrent hashes: each occupies a core and 19 MiB.
const MAX_RUNNING: usize = 2;
/// Most sign-ins that wait, at some 20 ms each. Further ones are refused at once.
const MAX_WAITING_SIGN_INS: usize = 32;
/// Most sign-ups that wait. New customers wait longer than known ones, so fewer of them may wait.
const MAX_WAITING_SIGN_UPS: usize = 16;
/// Sign-ins that may overtake a waiting sign-up. Afterwards it runs, so that sign-ups do not wait forever.
const MAX_OVERTAKING: usize = 7;
const RETRY_AFTER_SECS: u32 = 2;

/// The queue in which a hash waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashQueue {
    /// Sign-ins, and members who confirm or change their password.
    SignIn,
    /// New accounts. At most one runs beside sign-ins.
    SignUp,
}

/// Bounds the number of concurrent password hashes and of those that wait. Cheap to clone; clones share their places.
#[derive(Clone, Debug)]
pub struct PasswordGate(Arc<Mutex<GateState>>);

#[derive(Debug)]
struct GateState {
    max_running: usize,
    running: usize,
    running_sign_ups: usize,
    /// Sign-ins started since a sign-up waits.
    overtaking: usize,
    sign_ins: HashLine,
    sign_ups: HashLine,
}

#[derive(Debug)]
struct HashLine {
    /// Hashes that run or wait.
    taken: usize,
    /// Most of them.
    places: usize,
    by_address: HashMap<IpAddr, usize>,
    waiting: VecDeque<oneshot::Sender<RunningHash>>,
}

impl Default for PasswordGate {
    fn default() -> Self {
        Self::new(MAX_RUNNING, MAX_WAITING_SIGN_INS, MAX_WAITING_SIGN_UPS)
    }
}

impl PasswordGate {
    pub fn new(at_once: usize, waiting_sign_ins: usize, waiting_sign_ups: usize) -> PasswordGate {
        PasswordGate(Arc::new(Mutex::new(GateState {
            max_running: at_once,
            running: 0,
            running_sign_ups: 0,
            overtaking: 0,
            sign_ins: HashLine::new(at_once + waiting_sign_ins),
            sign_ups: HashLine::new(1 + waiting_sign_ups),
        })))
    }

    /// Runs `work` on a blocking thread once its turn comes. `Err`: too many are waiting, in all or from this address.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        queue: HashQueue,
        address: IpAddr,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let (place, turn) = self.join(queue, address).ok_or_else(overloaded)?;
        let running = turn.await.map_err(|_| overloaded())?;
        let task = tokio::task::spawn_blocking(move || {
            // The work holds the place, not the request: a cancelled request frees its place only when its hash is done.
            let _held = (place, running);
            work()
        });
        task.await.map_err(|error| {
            tracing::error!(%error, "password hashing failed");
            Problem::from(Code::Internal)
        })
    }

    /// Takes a place. `None`: there is none for this address.
    fn join(&self, queue: HashQueue, address: IpAddr) -> Option<(HashPlace, oneshot::Receiver<RunningHash>)> {
        let (go, turn) = oneshot::channel();
        let mut state = self.0.lock();
        state.line(queue).take_place(address)?;
        let place = HashPlace { gate: self.clone(), queue, address };
        state.line(queue).waiting.push_back(go);
        self.start_waiting(&mut state);
        drop(state);
        Some((place, turn))
    }

    /// Starts waiting hashes while there is room.
    fn start_waiting(&self, state: &mut GateState) {
        while let Some(queue) = state.next_queue() {
            let Some(go) = state.line(queue).waiting.pop_front() else { return };
            let running = RunningHash { gate: Some(self.clone()), queue };
            if let Err(mut unwanted) = go.send(running) {
                // Its request was cancelled. The lock is held, so the value must not release what it does not have.
                unwanted.gate = None;
                continue;
            }
            state.started(queue);
        }
    }
}

impl GateState {
    fn line(&mut self, queue: HashQueue) -> &mut HashLine {
        match queue {
            HashQueue::SignIn => &mut self.sign_ins,
            HashQueue::SignUp => &mut self.sign_ups,
        }
    }

    /// The queue whose first hash may run now.
    fn next_queue(&mut self) -> Option<HashQueue> {
        if self.running >= self.max_running {
            return None;
        }
        let is_sign_up_possible = !self.sign_ups.waiting.is_empty() && self.running_sign_ups == 0;
        match !self.sign_ins.waiting.is_empty() {
            true if is_sign_up_possible && self.overtaking >= MAX_OVERTAKING => Some(HashQueue::SignUp),
            true => Some(HashQueue::SignIn),
            false => is_sign_up_possible.then_some(HashQueue::SignUp),
        }
    }

    fn started(&mut self, queue: HashQueue) {
        self.running += 1;
        match queue {
            HashQueue::SignIn if self.sign_ups.waiting.is_empty() => self.overtaking = 0,
            HashQueue::SignIn => self.overtaking += 1,
            HashQueue::SignUp => {
                self.running_sign_ups += 1;
                self.overtaking = 0;
            }
        }
    }

    fn ended(&mut self, queue: HashQueue) {
        self.running -= 1;
        if queue == HashQueue::SignUp {
            self.running_sign_ups -= 1;
        }
    }
}

impl HashLine {
    fn new(places: usize) -> HashLine {
        HashLine { taken: 0, places, by_address: HashMap::new(), waiting: VecDeque::new() }
    }

    /// `None`: all places are taken, or this address has as many as are free.
    fn take_place(&mut self, address: IpAddr) -> Option<()> {
        let free = self.places - self.taken;
        let own = self.by_address.get(&address).copied().unwrap_or(0);
        if free == 0 || own >= free.max(1) {
            return None;
        }
        // Cancelled requests have given their places back, and must not lengthen the queue.
        self.waiting.retain(|go| !go.is_closed());
        self.taken += 1;
        self.by_address.insert(address, own + 1);
        Some(())
    }

    fn free_place(&mut self, address: IpAddr) {
        self.taken -= 1;
        if let Some(own) = self.by_address.get_mut(&address) {
            *own -= 1;
            if *own == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

/// A place in a queue, until the hash is done.
struct HashPlace {
    gate: PasswordGate,
    queue: HashQueue,
    address: IpAddr,
}

impl Drop for HashPlace {
    fn drop(&mut self) {
        self.gate.0.lock().line(self.queue).free_place(self.address);
    }
}

/// The right to run now.
#[derive(Debug)]
struct RunningHash {
    /// `None`: it was never used.
    gate: Option<PasswordGate>,
    queue: HashQueue,
}

impl Drop for RunningHash {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            let mut state = gate.0.lock();
            state.ended(self.queue);
            gate.start_waiting(&mut state);
        }
    }
}

fn overloaded() -> Problem {
    metrics::counter!("onrush_password_shed_total").increment(1);
    Problem::from(Code::Overloaded).retry_after(RETRY_AFTER_SECS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, future::join_all};
    use std::{
        net::Ipv4Addr,
        sync::mpsc::{Receiver, Sender, channel},
    };

    fn address(number: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).expect("a small number")))
    }

    /// Blocks the first hash until it is told to end, and records the others in the order of their start.
    struct Scene {
        gate: PasswordGate,
        order: (Sender<usize>, Receiver<usize>),
    }

    impl Scene {
        fn new(gate: PasswordGate) -> Scene {
            Scene { gate, order: channel() }
        }

        /// The future of a hash that records its number.
        fn hash(&self, queue: HashQueue, number: usize) -> impl Future<Output = Result<(), Problem>> + use<> {
            let (gate, order) = (self.gate.clone(), self.order.0.clone());
            async move { gate.run(queue, address(number), move || order.send(number).expect("the test listens")).await }
        }

        fn started(&self) -> Vec<usize> {
            self.order.1.try_iter().collect()
        }
    }

    /// Occupies the gate until the sender is dropped.
    fn occupy(gate: &PasswordGate) -> (impl Future<Output = Result<(), Problem>> + use<>, Sender<()>) {
        let (release, released) = channel::<()>();
        let gate = gate.clone();
        let hash = async move {
            gate.run(HashQueue::SignIn, address(0), move || {
                let _ = released.recv();
            })
            .await
        };
        (hash, release)
    }

    // H3
    #[tokio::test]
    async fn sign_ins_go_before_sign_ups_but_not_for_ever() {
        let scene = Scene::new(PasswordGate::new(1, 32, 16));
        let (first, release) = occupy(&scene.gate);
        let mut waiting = vec![first.boxed()];
        waiting.extend((100..103).map(|number| scene.hash(HashQueue::SignUp, number).boxed()));
        waiting.extend((1..=10).map(|number| scene.hash(HashQueue::SignIn, number).boxed()));
        let mut all = join_all(waiting);
        assert!((&mut all).now_or_never().is_none());
        drop(release);
        assert!(all.await.iter().all(Result::is_ok));
        assert_eq!(scene.started(), [1, 2, 3, 4, 5, 6, 7, 100, 8, 9, 10, 101, 102]);
    }

    // H3
    #[tokio::test]
    async fn a_sign_in_never_waits_for_two_sign_ups() {
        let gate = PasswordGate::new(2, 32, 16);
        let (release, released) = channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let sign_ups = (1..=4).map(|number| {
            let (gate, released) = (gate.clone(), Arc::clone(&released));
            async move {
                gate.run(HashQueue::SignUp, address(number), move || {
                    let _ = released.lock().recv();
                })
                .await
            }
        });
        let mut sign_ups = join_all(sign_ups);
        assert!((&mut sign_ups).now_or_never().is_none());
        assert!(gate.run(HashQueue::SignIn, address(9), || ()).await.is_ok());
        drop(release);
        assert!(sign_ups.await.iter().all(Result::is_ok));
    }

    // H3: one place stays free for another address, however many requests one address sends
    #[tokio::test]
    async fn one_address_never_takes_all_places() {
        for queue in [HashQueue::SignIn, HashQueue::SignUp] {
            let scene = Scene::new(PasswordGate::new(1, 32, 16));
            let (first, release) = occupy(&scene.gate);
            let mut first = first.boxed();
            assert!((&mut first).now_or_never().is_none());
            let mut admitted = Vec::new();
            for _ in 0..100 {
                let mut hash = scene.hash(queue, 7).boxed();
                if (&mut hash).now_or_never().is_none() {
                    admitted.push(hash);
                }
            }
            assert!((1..=16).contains(&admitted.len()), "{}", admitted.len());
            let mut others: Vec<_> = (10..14).map(|number| scene.hash(queue, number).boxed()).collect();
            assert!(others.iter_mut().all(|hash| hash.now_or_never().is_none()), "each other address finds a place");
            drop(release);
            others.extend(admitted);
            assert!(first.await.is_ok() && join_all(others).await.iter().all(Result::is_ok));
        }
    }

    #[tokio::test]
    async fn a_cancelled_request_frees_its_place() {
        let scene = Scene::new(PasswordGate::new(1, 2, 0));
        let (first, release) = occupy(&scene.gate);
        let mut first = first.boxed();
        assert!((&mut first).now_or_never().is_none());
        for _ in 0..100 {
            let mut cancelled = scene.hash(HashQueue::SignIn, 5).boxed();
            assert!((&mut cancelled).now_or_never().is_none());
        }
        assert!(scene.gate.0.lock().sign_ins.waiting.len() <= 2);
        let mut waiting = scene.hash(HashQueue::SignIn, 6).boxed();
        assert!((&mut waiting).now_or_never().is_none());
        drop(release);
        assert!(first.await.is_ok() && waiting.await.is_ok());
        assert_eq!(scene.started(), [6]);
        let state = scene.gate.0.lock();
        assert_eq!((state.running, state.sign_ins.taken, state.sign_ins.by_address.len()), (0, 0, 0));
    }

    // row 32
    #[tokio::test]
    async fn a_full_hashing_queue_answers_overloaded() {
        let scene = Scene::new(PasswordGate::new(1, 3, 0));
        let all = join_all((0..50).map(|number| scene.hash(HashQueue::SignIn, number))).await;
        let refused: Vec<Problem> = all.into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 46);
        assert!(refused.iter().all(|problem| problem.code() == Code::Overloaded && problem.retry_after.is_some()));
        assert!(scene.hash(HashQueue::SignIn, 51).await.is_ok(), "the room is empty again");
    }
}
