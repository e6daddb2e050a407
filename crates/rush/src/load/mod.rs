//! Runs a [`Workload`] on connections in a closed loop: each connection has one request in flight and starts the next iteration when its
//! last one has ended. A closed loop measures a fixed number of waiting shoppers. It adds no load when the server slows down.
//!
//! This module repeats and counts requests. The workload knows their meaning and judges the answers.

pub mod connection;
pub mod crowd;
pub mod histogram;
pub mod stats;
pub mod timeline;
pub mod workload;

use crate::{RushError, run_clock::RunClock, system};
use connection::{ExchangeFailure, HttpConnection, TargetServer};
use indicatif::ProgressBar;
use parking_lot::Mutex;
use stats::{IterationRecord, Stats};
use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU32, AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};
use tokio::{runtime, task::JoinSet, time::sleep};
use workload::{Finished, IterationAttempts, NextStep, Workload};

/// Wait after the first lost connection. Doubled after each further one, up to [`MAX_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const MAX_BACKOFF: Duration = Duration::from_millis(500);
/// Bounds of the wait that a `Retry-After` asks for. A longer wait would only extend the run.
const MIN_RETRY_AFTER: Duration = Duration::from_millis(5);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(2);
/// Interval between updates of the progress bar.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Size of the load and its target servers.
#[derive(Clone, Debug)]
pub struct ClosedLoopOptions {
    /// At least one server. The connections are spread over all of them.
    pub targets: Vec<Arc<TargetServer>>,
    pub clock: RunClock,
    pub connections: usize,
    pub threads: usize,
    pub patience: Duration,
    pub server_pids: Vec<u32>,
}

/// Statistics and cost of a load that has ended.
#[derive(Clone, Debug)]
pub struct LoadResult<S> {
    pub stats: Stats<S>,
    pub connections: usize,
    /// From the moment all connections were open to the end of the last iteration.
    pub seconds: f64,
    pub client_cpu_seconds: Option<f64>,
    pub server_cpu_seconds: Option<f64>,
    pub server_peak_rss_mib: Option<f64>,
}

struct LoadRun<P> {
    workload: Arc<P>,
    load: ClosedLoopOptions,
    next_iteration: AtomicU32,
    done: AtomicU64,
    /// Start of the load, in nanoseconds of the run's clock.
    started: AtomicU64,
    /// Time of the latest answer on any connection.
    last_answer: AtomicU64,
}

/// Runs the workload to its end.
pub fn run_load<P: Workload>(
    workload: Arc<P>,
    load: &ClosedLoopOptions,
    bar: &ProgressBar,
) -> Result<LoadResult<P::Observation>, RushError> {
    let connections = workload.iterations().map_or(load.connections, |iterations| load.connections.min(iterations as usize)).max(1);
    let threads = load.threads.clamp(1, connections);
    let load_run = Arc::new(LoadRun {
        workload,
        load: load.clone(),
        next_iteration: AtomicU32::new(0),
        done: AtomicU64::new(0),
        started: AtomicU64::new(0),
        last_answer: AtomicU64::new(0),
    });
    let ready = Arc::new(Barrier::new(threads + 1));
    let go = Arc::new(Barrier::new(threads + 1));
    let (finished, finishes) = mpsc::channel();
    // All runtimes are built before the first thread waits at the barrier, so a failure here leaves no thread blocked.
    let runtimes: Result<Vec<_>, _> = (0..threads).map(|_| runtime::Builder::new_current_thread().enable_all().build()).collect();
    let mut handles = Vec::with_capacity(threads);
    for (index, runtime) in runtimes.map_err(RushError::Thread)?.into_iter().enumerate() {
        let share = connections / threads + usize::from(index < connections % threads);
        let (load_run, ready, go, finished) = (Arc::clone(&load_run), Arc::clone(&ready), Arc::clone(&go), finished.clone());
        handles.push(thread::spawn(move || {
            let connections = runtime.block_on(connect_all(&load_run.load.targets, share));
            ready.wait();
            go.wait();
            let stats = runtime.block_on(run_workers(&load_run, connections));
            let _ = finished.send(());
            stats
        }));
    }
    drop(finished);
    ready.wait();
    let client_before = system::cpu_seconds(std::process::id());
    let server_before = system::cpu_seconds_of_all(&load.server_pids);
    load_run.started.store(load.clock.nanos(), Ordering::Release);
    load_run.last_answer.store(load.clock.nanos(), Ordering::Release);
    go.wait();
    show_progress(&load_run, &finishes, bar);
    let used = |before: Option<f64>, after: Option<f64>| Some(after? - before?).filter(|used| *used >= 0.0);
    let client_cpu_seconds = used(client_before, system::cpu_seconds(std::process::id()));
    let server_cpu_seconds = used(server_before, system::cpu_seconds_of_all(&load.server_pids));
    let mut stats = Stats::new(load_run.workload.operations().len());
    for handle in handles {
        stats.merge(handle.join().map_err(|_| RushError::Panic)?);
    }
    let server_peak_rss_mib = system::peak_rss_mib_of_all(&load.server_pids);
    let seconds = stats.last_end_nanos as f64 / 1e9;
    Ok(LoadResult { stats, connections, seconds, client_cpu_seconds, server_cpu_seconds, server_peak_rss_mib })
}

/// Moves the progress bar until every thread has ended.
fn show_progress<P: Workload>(load_run: &LoadRun<P>, finishes: &mpsc::Receiver<()>, bar: &ProgressBar) {
    loop {
        match finishes.recv_timeout(PROGRESS_INTERVAL) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => {
                let elapsed_ms = (load_run.load.clock.nanos() - load_run.started.load(Ordering::Relaxed)) / 1_000_000;
                bar.set_position(if load_run.workload.iterations().is_some() { load_run.done.load(Ordering::Relaxed) } else { elapsed_ms });
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Opens the connections before the clock starts. If one fails, its worker opens it again.
async fn connect_all(targets: &[Arc<TargetServer>], connections: usize) -> Vec<HttpConnection> {
    let mut opening = JoinSet::new();
    for target in targets.iter().cycle().take(connections) {
        let mut connection = HttpConnection::new(Arc::clone(target));
        opening.spawn(async move {
            let _ = connection.connect().await;
            connection
        });
    }
    opening.join_all().await
}

async fn run_workers<P: Workload>(load_run: &Arc<LoadRun<P>>, connections: Vec<HttpConnection>) -> Stats<P::Observation> {
    let stats = Arc::new(Mutex::new(Stats::new(load_run.workload.operations().len())));
    let mut workers = JoinSet::new();
    for connection in connections {
        workers.spawn(run_worker(Arc::clone(load_run), connection, Arc::clone(&stats)));
    }
    workers.join_all().await;
    let merged = Arc::into_inner(stats).expect("the workers that shared the stats have ended");
    merged.into_inner()
}

/// Runs iterations on one connection until the workload has no more.
async fn run_worker<P: Workload>(load_run: Arc<LoadRun<P>>, mut connection: HttpConnection, stats: Arc<Mutex<Stats<P::Observation>>>) {
    let started = load_run.started.load(Ordering::Acquire);
    loop {
        let iteration = load_run.next_iteration.fetch_add(1, Ordering::Relaxed);
        let Some(request) = load_run.workload.first_request(iteration, load_run.load.clock.nanos() - started) else { return };
        let ended = run_iteration(&load_run, &mut connection, iteration, request).await;
        load_run.done.fetch_add(1, Ordering::Relaxed);
        // Only tasks of this thread share the stats, and none awaits while it holds the lock.
        let mut stats = stats.lock();
        ended.count(&mut stats, load_run.workload.operation(iteration), started);
    }
}

struct EndedIteration<S> {
    iteration: u32,
    attempts: IterationAttempts,
    end: u64,
    done: Finished<S>,
    /// False when `patience` ended first.
    answered: bool,
}

impl<S> EndedIteration<S> {
    fn count(self, stats: &mut Stats<S>, operation: usize, started: u64) {
        let IterationAttempts {
            first_begin,
            answering_begin,
            unknown_begin,
            shed,
            unknown,
            in_progress,
            not_sent,
            server_errors,
            follow_ups,
        } = self.attempts;
        let latency = self.end - answering_begin;
        stats.iterations += 1;
        stats.last_end_nanos = stats.last_end_nanos.max(self.end - started);
        stats.count_ending(operation, self.done.label);
        if self.answered {
            stats.operations[operation].latency.record(latency);
            stats.timeline.record(self.end - started, latency, self.done.won);
        } else {
            stats.error_counts.gave_up += 1;
        }
        if shed + unknown + in_progress + not_sent > 0 {
            stats.repeated_iterations.record(self.end - first_begin);
        }
        stats.error_counts.shed += u64::from(shed);
        stats.error_counts.unknown += u64::from(unknown);
        stats.error_counts.in_progress += u64::from(in_progress);
        stats.error_counts.not_sent += u64::from(not_sent);
        stats.error_counts.server_errors += u64::from(server_errors);
        stats.error_counts.follow_ups += u64::from(follow_ups);
        if let Some(observation) = self.done.observation {
            let begin = unknown_begin.unwrap_or(answering_begin);
            stats.records.push(IterationRecord { iteration: self.iteration, first_begin, begin, end: self.end, observation });
        }
    }
}

/// Delay before a shed or running request is sent again.
fn retry_delay(answer: &connection::ServerAnswer<'_>, iteration: u32) -> Duration {
    // Spread out, so that shoppers who were shed together do not return together.
    let spread = Duration::from_millis(u64::from(iteration % 16) * 8);
    Duration::from_secs(u64::from(answer.retry_after.unwrap_or(1))).clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER) + spread
}

impl<P: Workload> LoadRun<P> {
    /// An iteration is given up after `patience`. It is also given up when no connection had an answer for that time: the server is down,
    /// and later iterations do not each wait for the full time.
    fn is_out_of_patience(&self, first_begin: u64, now: u64) -> bool {
        let patience = u64::try_from(self.load.patience.as_nanos()).unwrap_or(u64::MAX);
        now.saturating_sub(first_begin) > patience || now.saturating_sub(self.last_answer.load(Ordering::Relaxed)) > patience
    }
}

/// Runs one iteration: repeats the request until it is answered, sends follow-ups, or gives up.
async fn run_iteration<P: Workload>(
    load_run: &LoadRun<P>,
    connection: &mut HttpConnection,
    iteration: u32,
    mut request: connection::PreparedRequest,
) -> EndedIteration<P::Observation> {
    let clock = load_run.load.clock;
    let mut attempts = IterationAttempts::at(clock.nanos());
    let mut backoff = FIRST_BACKOFF;
    let mut begin = attempts.first_begin;
    loop {
        if attempts.follow_ups == 0 {
            attempts.answering_begin = begin;
        }
        let exchanged = connection.exchange(&request).await;
        if exchanged.is_ok() {
            load_run.last_answer.store(clock.nanos(), Ordering::Relaxed);
        }
        let pause = match exchanged {
            Ok(answer) if matches!(answer.status, 429 | 503) => {
                attempts.shed += 1;
                retry_delay(&answer, iteration)
            }
            // A temporary conflict: the first request with this key is still running.
            Ok(answer) if answer.status == 409 && answer.retry_after.is_some() => {
                attempts.in_progress += 1;
                retry_delay(&answer, iteration)
            }
            Ok(answer) => {
                attempts.server_errors += u32::from(answer.status >= 500);
                match load_run.workload.read_answer(iteration, &answer, &attempts) {
                    NextStep::Finish(done) => return EndedIteration { iteration, attempts, end: clock.nanos(), done, answered: true },
                    NextStep::Follow { request: next, after } => {
                        attempts.follow_ups += 1;
                        request = *next;
                        after
                    }
                }
            }
            Err(failure) => {
                match failure {
                    ExchangeFailure::NotSent => attempts.not_sent += 1,
                    ExchangeFailure::Lost => {
                        attempts.unknown += 1;
                        attempts.unknown_begin.get_or_insert(begin);
                    }
                }
                let pause = backoff;
                backoff = (backoff * 2).min(MAX_BACKOFF);
                pause
            }
        };
        if load_run.is_out_of_patience(attempts.first_begin, clock.nanos()) {
            let done = load_run.workload.give_up(iteration, &attempts);
            return EndedIteration { iteration, attempts, end: clock.nanos(), done, answered: false };
        }
        if !pause.is_zero() {
            sleep(pause).await;
        }
        begin = clock.nanos();
    }
}
