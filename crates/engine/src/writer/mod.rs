//! The writer: schedules the work of an engine. Commands come first, then deliveries to readers, and upkeep in between.

mod commands;

use super::{
    delivery::{Delivery, DeliveryState},
    flushing::PositionFlush,
    group::AnyCommand,
    heartbeat::Heartbeat,
    queue::{Queue, QueueItem, QueueSender},
    readers::Readers,
    redrive::Redrive,
    retention::Retention,
    setup::EngineSetup,
    transaction::Transaction,
};
use commands::CommandExecution;
use runtime::{
    one_reader::TaskScope,
    ports::Stopwatch,
    tasks::{panic_text, report_fatal},
};
use std::{panic::AssertUnwindSafe, sync::mpsc::RecvTimeoutError, thread::JoinHandle, time::Duration};

/// Interval of the periodic work, such as redrive and retention, and the longest sleep without work.
const TICK: Duration = Duration::from_millis(500);
/// Idle time after which readers catch up with messages they only skip, and positions are flushed.
const QUIET_PERIOD: Duration = Duration::from_millis(20);
/// Delay before a failed delivery is retried.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// A running engine and its thread. Dropping it stops the thread without waiting.
pub struct RunningEngine {
    queue: QueueSender,
    heartbeat: Heartbeat,
    thread: Option<JoinHandle<()>>,
}

impl RunningEngine {
    pub fn heartbeat(&self) -> &Heartbeat {
        &self.heartbeat
    }

    /// Executes the queued commands, then stops. Later submits get [`SubmitError::Unavailable`](super::SubmitError::Unavailable).
    pub fn stop(mut self) {
        self.queue.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for RunningEngine {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.queue.try_stop();
        }
    }
}

/// The loop of an engine, with the schedule of its upkeep.
pub(super) struct Writer {
    setup: EngineSetup,
    flush: PositionFlush,
    retention: Retention,
}

impl Writer {
    pub fn new(setup: EngineSetup) -> Writer {
        Writer { setup, flush: PositionFlush::default(), retention: Retention::default() }
    }

    /// Starts the loop on a thread of its own, because SQLite calls block and the writer must never wait behind a request.
    pub fn start(mut self, mut readers: Readers, mut transaction: Transaction, queue: Queue) -> std::io::Result<RunningEngine> {
        let sender = queue.sender();
        let heartbeat = transaction.heartbeat().clone();
        let beating = heartbeat.clone();
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("writer".into()).spawn(move || {
            // PostgreSQL needs the runtime's timers and sockets; SQLite does not.
            let _inside = runtime.enter();
            let run = || TaskScope::begin().enter(|| self.run(&mut readers, &mut transaction, &queue));
            let ended = std::panic::catch_unwind(AssertUnwindSafe(run));
            beating.end();
            if let Err(panic) = ended {
                tracing::error!(panic = panic_text(panic.as_ref()), "writer panicked");
                report_fatal("writer");
            }
        })?;
        Ok(RunningEngine { queue: sender, heartbeat, thread: Some(thread) })
    }

    fn run(&mut self, readers: &mut Readers, transaction: &mut Transaction, queue: &Queue) {
        readers.balance_partitions(transaction.tx());
        let mut wait = self.deliver(readers, transaction);
        let mut since_tick = Stopwatch::start();
        loop {
            transaction.heartbeat().beat();
            let mut is_quiet = false;
            match queue.items.recv_timeout(wait) {
                Ok(QueueItem::Command(command)) => {
                    if self.execute(readers, transaction, command, queue) {
                        break;
                    }
                }
                Ok(QueueItem::Wake) => {}
                Ok(QueueItem::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => is_quiet = !wait.is_zero(),
            }
            // By elapsed time and not only when idle, because steady load leaves no idle moment.
            let is_tick = since_tick.elapsed() >= TICK;
            if is_tick {
                since_tick = Stopwatch::start();
                self.keep_up(readers, transaction);
            }
            if is_quiet {
                readers.mark_deferred_due();
            }
            wait = self.deliver(readers, transaction);
            if is_quiet || is_tick {
                self.flush.flush(readers, transaction);
            }
        }
        self.finish(readers, transaction);
    }

    /// Executes the queued commands, beginning with `first`. Returns true when the engine must stop.
    fn execute(&self, readers: &mut Readers, transaction: &mut Transaction, first: Box<dyn AnyCommand>, queue: &Queue) -> bool {
        CommandExecution { setup: &self.setup, readers, transaction }.execute_queued(first, queue)
    }

    /// Lets readers catch up. Returns the time the writer may wait for commands before it calls this again.
    fn deliver(&self, readers: &mut Readers, transaction: &mut Transaction) -> Duration {
        match (Delivery { setup: &self.setup, readers, transaction }).deliver_all() {
            DeliveryState::Behind => Duration::ZERO,
            DeliveryState::Failed => RETRY_DELAY,
            // A message that a test holds back is looked at again shortly.
            DeliveryState::CaughtUp if self.setup.faults.has_held_messages() => RETRY_DELAY,
            DeliveryState::CaughtUp if self.flush.is_due(readers) || readers.has_deferred() => QUIET_PERIOD,
            DeliveryState::CaughtUp => TICK,
        }
    }

    /// The periodic work: leases, repaired readers, marked dead letters, retention.
    fn keep_up(&mut self, readers: &mut Readers, transaction: &mut Transaction) {
        readers.mark_all_due();
        readers.balance_partitions(transaction.tx());
        readers.reload_stalled(transaction.tx());
        Redrive { setup: &self.setup, readers, transaction }.redrive_all();
        self.retention.apply(&self.setup, readers, transaction);
    }

    /// Delivers and stores everything a last time, so that the next start or another instance finds nothing half done.
    fn finish(&mut self, readers: &mut Readers, transaction: &mut Transaction) {
        readers.mark_deferred_due();
        self.deliver(readers, transaction);
        self.flush.flush(readers, transaction);
        readers.release_partitions(transaction.tx());
        if let Some(sqlite) = transaction.tx().sqlite() {
            // Leaves a single file behind. If this fails, the next start reads the write-ahead log.
            let _ = sqlite.pragma_update(None, "wal_checkpoint", "truncate");
        }
    }
}
