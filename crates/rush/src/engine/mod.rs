//! Connections in a closed loop: each has one request at a time and takes the next turn when its last has ended. A closed loop measures
//! what a fixed number of waiting shoppers get; it does not add load when the server slows down.
//!
//! The engine repeats what may be repeated and counts it; what a request means, and what its answer is worth, is the plan's business.

pub mod histogram;
pub mod plan;
pub mod tally;
pub mod timeline;
pub mod wire;

use crate::{RushError, clock::Epoch, system};
use indicatif::ProgressBar;
use plan::{Done, Plan, Step, Trail};
use std::{
    sync::{
        Arc, Barrier, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};
use tally::{Record, Tally};
use tokio::{runtime, task::JoinSet, time::sleep};
use wire::{Failure, Target, Wire};

/// First wait after a lost connection; doubled up to the longest.
const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const LONGEST_BACKOFF: Duration = Duration::from_millis(500);
/// A `Retry-After` is obeyed up to here; a longer one would only stretch the run.
const SHORTEST_RETRY_AFTER: Duration = Duration::from_millis(5);
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(2);
/// How often the progress bar is told.
const PROGRESS_TICK: Duration = Duration::from_millis(100);

/// How hard to push.
#[derive(Clone, Debug)]
pub struct Load {
    /// At least one; connections are spread over them.
    pub targets: Vec<Arc<Target>>,
    pub epoch: Epoch,
    pub connections: usize,
    pub threads: usize,
    pub patience: Duration,
    pub server_pids: Vec<u32>,
}

/// What a load did and cost.
#[derive(Clone, Debug)]
pub struct Driven<S> {
    pub tally: Tally<S>,
    pub connections: usize,
    /// From the moment all connections stood to the end of the last turn.
    pub seconds: f64,
    pub client_cpu_seconds: Option<f64>,
    pub server_cpu_seconds: Option<f64>,
    pub server_peak_rss_mib: Option<f64>,
}

struct Shared<P> {
    plan: Arc<P>,
    load: Load,
    next_turn: AtomicU32,
    done: AtomicU64,
    /// Start of the load on the run's clock.
    started: AtomicU64,
    /// When the server last answered anything, to anyone.
    last_answer: AtomicU64,
}

/// Plays the plan to its end.
pub fn drive<P: Plan>(plan: Arc<P>, load: &Load, bar: &ProgressBar) -> Result<Driven<P::Seen>, RushError> {
    let connections = plan.turns().map_or(load.connections, |turns| load.connections.min(turns as usize)).max(1);
    let threads = load.threads.clamp(1, connections);
    let shared = Arc::new(Shared {
        plan,
        load: load.clone(),
        next_turn: AtomicU32::new(0),
        done: AtomicU64::new(0),
        started: AtomicU64::new(0),
        last_answer: AtomicU64::new(0),
    });
    let ready = Arc::new(Barrier::new(threads + 1));
    let go = Arc::new(Barrier::new(threads + 1));
    let (finished, finishes) = mpsc::channel();
    // Every runtime exists before the first thread waits at the barrier: a failure here leaves nobody waiting.
    let runtimes: Result<Vec<_>, _> = (0..threads).map(|_| runtime::Builder::new_current_thread().enable_all().build()).collect();
    let mut handles = Vec::with_capacity(threads);
    for (index, runtime) in runtimes.map_err(RushError::Thread)?.into_iter().enumerate() {
        let share = connections / threads + usize::from(index < connections % threads);
        let (shared, ready, go, finished) = (Arc::clone(&shared), Arc::clone(&ready), Arc::clone(&go), finished.clone());
        handles.push(thread::spawn(move || {
            let wires = runtime.block_on(connect_all(&shared.load.targets, share));
            ready.wait();
            go.wait();
            let tally = runtime.block_on(work_all(&shared, wires));
            let _ = finished.send(());
            tally
        }));
    }
    drop(finished);
    ready.wait();
    let client_before = system::cpu_seconds(std::process::id());
    let server_before = system::cpu_seconds_of_all(&load.server_pids);
    shared.started.store(load.epoch.nanos(), Ordering::Release);
    shared.last_answer.store(load.epoch.nanos(), Ordering::Release);
    go.wait();
    watch(&shared, &finishes, bar);
    let used = |before: Option<f64>, after: Option<f64>| Some(after? - before?).filter(|used| *used >= 0.0);
    let client_cpu_seconds = used(client_before, system::cpu_seconds(std::process::id()));
    let server_cpu_seconds = used(server_before, system::cpu_seconds_of_all(&load.server_pids));
    let mut tally = Tally::new(shared.plan.operations().len());
    for handle in handles {
        tally.merge(handle.join().map_err(|_| RushError::Panic)?);
    }
    let server_peak_rss_mib = system::peak_rss_mib_of_all(&load.server_pids);
    let seconds = tally.last_end_nanos as f64 / 1e9;
    Ok(Driven { tally, connections, seconds, client_cpu_seconds, server_cpu_seconds, server_peak_rss_mib })
}

/// Moves the progress bar until every thread has ended.
fn watch<P: Plan>(shared: &Shared<P>, finishes: &mpsc::Receiver<()>, bar: &ProgressBar) {
    loop {
        match finishes.recv_timeout(PROGRESS_TICK) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => {
                let elapsed_ms = (shared.load.epoch.nanos() - shared.started.load(Ordering::Relaxed)) / 1_000_000;
                bar.set_position(if shared.plan.turns().is_some() { shared.done.load(Ordering::Relaxed) } else { elapsed_ms });
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Opens the connections before the clock starts. One that cannot be opened now is tried again by its worker.
async fn connect_all(targets: &[Arc<Target>], connections: usize) -> Vec<Wire> {
    let mut opening = JoinSet::new();
    for target in targets.iter().cycle().take(connections) {
        let mut wire = Wire::new(Arc::clone(target));
        opening.spawn(async move {
            let _ = wire.connect().await;
            wire
        });
    }
    opening.join_all().await
}

async fn work_all<P: Plan>(shared: &Arc<Shared<P>>, wires: Vec<Wire>) -> Tally<P::Seen> {
    let tally = Arc::new(Mutex::new(Tally::new(shared.plan.operations().len())));
    let mut workers = JoinSet::new();
    for wire in wires {
        workers.spawn(work(Arc::clone(shared), wire, Arc::clone(&tally)));
    }
    workers.join_all().await;
    let counted = Arc::into_inner(tally).expect("the workers that shared the tally have ended");
    counted.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// One connection: turn after turn until the plan has no more.
async fn work<P: Plan>(shared: Arc<Shared<P>>, mut wire: Wire, tally: Arc<Mutex<Tally<P::Seen>>>) {
    let started = shared.started.load(Ordering::Acquire);
    loop {
        let turn = shared.next_turn.fetch_add(1, Ordering::Relaxed);
        let Some(call) = shared.plan.call(turn, shared.load.epoch.nanos() - started) else { return };
        let ended = play(&shared, &mut wire, turn, call).await;
        shared.done.fetch_add(1, Ordering::Relaxed);
        // Only this thread's tasks share the tally, and none waits while holding it.
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        ended.count(&mut tally, shared.plan.operation(turn), started);
    }
}

struct Ended<S> {
    turn: u32,
    trail: Trail,
    end: u64,
    done: Done<S>,
    /// False when patience ended first.
    answered: bool,
}

impl<S> Ended<S> {
    fn count(self, tally: &mut Tally<S>, operation: usize, started: u64) {
        let Trail { first_begin, answering_begin, unknown_begin, shed, unknown, in_progress, not_sent, server_errors, follow_ups } =
            self.trail;
        let latency = self.end - answering_begin;
        tally.turns += 1;
        tally.last_end_nanos = tally.last_end_nanos.max(self.end - started);
        tally.count_end(operation, self.done.label);
        if self.answered {
            tally.operations[operation].latency.record(latency);
            tally.timeline.record(self.end - started, latency, self.done.won);
        } else {
            tally.troubles.gave_up += 1;
        }
        if shed + unknown + in_progress + not_sent > 0 {
            tally.repeated_turns.record(self.end - first_begin);
        }
        tally.troubles.shed += u64::from(shed);
        tally.troubles.unknown += u64::from(unknown);
        tally.troubles.in_progress += u64::from(in_progress);
        tally.troubles.not_sent += u64::from(not_sent);
        tally.troubles.server_errors += u64::from(server_errors);
        tally.troubles.follow_ups += u64::from(follow_ups);
        if let Some(seen) = self.done.seen {
            let begin = unknown_begin.unwrap_or(answering_begin);
            tally.records.push(Record { turn: self.turn, first_begin, begin, end: self.end, seen });
        }
    }
}

/// When to send again what was answered with "not now".
fn come_back(answer: &wire::Answer<'_>, turn: u32) -> Duration {
    // Shoppers who were turned away together should not come back together.
    let spread = Duration::from_millis(u64::from(turn % 16) * 8);
    Duration::from_secs(u64::from(answer.retry_after.unwrap_or(1))).clamp(SHORTEST_RETRY_AFTER, LONGEST_RETRY_AFTER) + spread
}

impl<P: Plan> Shared<P> {
    /// A turn waits as long as patience lasts. When the server has not answered anyone for as long, it is gone, and those who ask from now
    /// on need not all find that out at the same length.
    fn out_of_patience(&self, first_begin: u64, now: u64) -> bool {
        let patience = u64::try_from(self.load.patience.as_nanos()).unwrap_or(u64::MAX);
        now.saturating_sub(first_begin) > patience || now.saturating_sub(self.last_answer.load(Ordering::Relaxed)) > patience
    }
}

/// One turn: sends the request until it is answered, asks what must still be asked, or gives up.
async fn play<P: Plan>(shared: &Shared<P>, wire: &mut Wire, turn: u32, mut call: wire::Call) -> Ended<P::Seen> {
    let epoch = shared.load.epoch;
    let mut trail = Trail::at(epoch.nanos());
    let mut backoff = FIRST_BACKOFF;
    let mut begin = trail.first_begin;
    loop {
        if trail.follow_ups == 0 {
            trail.answering_begin = begin;
        }
        let exchanged = wire.exchange(&call).await;
        if exchanged.is_ok() {
            shared.last_answer.store(epoch.nanos(), Ordering::Relaxed);
        }
        let pause = match exchanged {
            Ok(answer) if matches!(answer.status, 429 | 503) => {
                trail.shed += 1;
                come_back(&answer, turn)
            }
            // A conflict that passes by itself: the first request with this key is still running.
            Ok(answer) if answer.status == 409 && answer.retry_after.is_some() => {
                trail.in_progress += 1;
                come_back(&answer, turn)
            }
            Ok(answer) => {
                trail.server_errors += u32::from(answer.status >= 500);
                match shared.plan.read(turn, &answer, &trail) {
                    Step::Done(done) => return Ended { turn, trail, end: epoch.nanos(), done, answered: true },
                    Step::Follow { call: next, after } => {
                        trail.follow_ups += 1;
                        call = *next;
                        after
                    }
                }
            }
            Err(failure) => {
                match failure {
                    Failure::NotSent => trail.not_sent += 1,
                    Failure::Lost => {
                        trail.unknown += 1;
                        trail.unknown_begin.get_or_insert(begin);
                    }
                }
                let pause = backoff;
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
                pause
            }
        };
        if shared.out_of_patience(trail.first_begin, epoch.nanos()) {
            let done = shared.plan.give_up(turn, &trail);
            return Ended { turn, trail, end: epoch.nanos(), done, answered: false };
        }
        if !pause.is_zero() {
            sleep(pause).await;
        }
        begin = epoch.nanos();
    }
}
