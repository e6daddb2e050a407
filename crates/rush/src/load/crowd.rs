//! Clients beside the measured load, as a hostile stranger would run them. They never wait because a server asks for it, and repeat nothing.
//! Their answers are counted, and not judged.

use super::{
    connection::{HttpConnection, PreparedRequest, TargetServer},
    stats::OperationStats,
    workload,
};
use crate::{RushError, run_clock::RunClock};
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{runtime, sync::watch, task::JoinSet, time::sleep};

/// Pause after a lost connection, so that a dead server is not asked in a busy loop.
const LOST_PAUSE: Duration = Duration::from_millis(20);

/// Makes the nth request of a group.
pub type RequestFn = Arc<dyn Fn(u64) -> PreparedRequest + Send + Sync>;

/// Connections that send the same kind of request.
#[derive(Clone)]
pub struct CrowdGroup {
    pub name: &'static str,
    pub connections: usize,
    /// Pause of each connection after an answer.
    pub pause: Duration,
    pub request: RequestFn,
}

/// A running crowd. It ends when it is stopped or dropped.
pub struct Crowd {
    stop: watch::Sender<bool>,
    thread: JoinHandle<Vec<(&'static str, OperationStats)>>,
}

struct CrowdClient {
    group: CrowdGroup,
    sent: Arc<AtomicU64>,
    stats: Arc<Mutex<OperationStats>>,
    clock: RunClock,
    stopped: watch::Receiver<bool>,
}

impl Crowd {
    /// Starts all groups on one thread of their own. The connections of each are spread over the servers.
    pub fn start(groups: Vec<CrowdGroup>, targets: Vec<Arc<TargetServer>>, clock: RunClock) -> Result<Crowd, RushError> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(RushError::Thread)?;
        let (stop, stopped) = watch::channel(false);
        let thread = thread::spawn(move || runtime.block_on(run_groups(groups, &targets, clock, &stopped)));
        Ok(Crowd { stop, thread })
    }

    /// Ends all requests and returns the counts of each group.
    pub fn stop(self) -> Result<Vec<(&'static str, OperationStats)>, RushError> {
        let _ = self.stop.send(true);
        self.thread.join().map_err(|_| RushError::Panic)
    }
}

async fn run_groups(
    groups: Vec<CrowdGroup>,
    targets: &[Arc<TargetServer>],
    clock: RunClock,
    stopped: &watch::Receiver<bool>,
) -> Vec<(&'static str, OperationStats)> {
    let mut members = JoinSet::new();
    let mut counts = Vec::with_capacity(groups.len());
    for group in groups {
        let (sent, stats) = (Arc::<AtomicU64>::default(), Arc::<Mutex<OperationStats>>::default());
        counts.push((group.name, Arc::clone(&stats)));
        for target in targets.iter().cycle().take(group.connections) {
            let (group, sent, stats, stopped) = (group.clone(), Arc::clone(&sent), Arc::clone(&stats), stopped.clone());
            members.spawn(CrowdClient { group, sent, stats, clock, stopped }.run(HttpConnection::new(Arc::clone(target))));
        }
    }
    members.join_all().await;
    counts.into_iter().map(|(name, stats)| (name, std::mem::take(&mut *stats.lock()))).collect()
}

impl CrowdClient {
    async fn run(mut self, connection: HttpConnection) {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            // Also when the crowd was dropped.
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = self.send_requests(connection) => {}
        }
    }

    async fn send_requests(&mut self, mut connection: HttpConnection) {
        loop {
            let request = (self.group.request)(self.sent.fetch_add(1, Ordering::Relaxed));
            let begin = self.clock.nanos();
            let label = match connection.exchange(&request).await {
                Ok(answer) if (200..300).contains(&answer.status) => Some("ok"),
                Ok(answer) => Some(workload::refusal_label(&answer)),
                Err(_) => None,
            };
            {
                let mut stats = self.stats.lock();
                stats.count(label.unwrap_or("lost"));
                if label.is_some() {
                    stats.latency.record(self.clock.nanos() - begin);
                }
            }
            sleep(if label.is_some() { self.group.pause } else { self.group.pause.max(LOST_PAUSE) }).await;
        }
    }
}
