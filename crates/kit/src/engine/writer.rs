//! The writer thread: executes commands from the queue, and lets readers catch up in between.

use super::{Engine, Fault};
use crate::{
    batch::{AnyCommand, AnyGroup, Queue, QueueItem, QueueSender, SubmitError},
    db::DbError,
    one_reader::TaskScope,
    ports::Stopwatch,
};
use std::{any::TypeId, collections::HashMap, sync::mpsc::RecvTimeoutError, thread::JoinHandle, time::Duration};

/// Interval of the periodic work, such as redrive and retention, and the longest sleep without work.
pub(super) const TICK: Duration = Duration::from_millis(500);

/// A running engine and its thread. Dropping it stops the thread without waiting.
pub struct RunningEngine {
    queue: QueueSender,
    thread: Option<JoinHandle<()>>,
}

impl RunningEngine {
    /// Executes the queued commands, then stops. Later submits get [`SubmitError::Unavailable`].
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

impl Engine {
    /// Starts the engine on a thread of its own, because SQLite calls block and the writer must never wait behind a request.
    pub fn start(mut self, queue: Queue) -> std::io::Result<RunningEngine> {
        let sender = queue.sender();
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("writer".into()).spawn(move || {
            // PostgreSQL needs the runtime's timers and sockets; SQLite does not.
            let _inside = runtime.enter();
            TaskScope::default().enter(|| self.run(&queue));
        })?;
        Ok(RunningEngine { queue: sender, thread: Some(thread) })
    }

    fn run(&mut self, queue: &Queue) {
        self.balance_partitions();
        let mut wait = self.deliver_all();
        let mut since_tick = Stopwatch::start();
        loop {
            let mut is_quiet = false;
            let stop = match queue.items.recv_timeout(wait) {
                Ok(QueueItem::Command(command)) => self.execute_queued(command, queue),
                Ok(QueueItem::Wake) => false,
                Ok(QueueItem::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    is_quiet = !wait.is_zero();
                    false
                }
            };
            if stop {
                break;
            }
            // By elapsed time and not only when idle, because steady load leaves no idle moment.
            let is_tick = since_tick.elapsed() >= TICK;
            if is_tick {
                since_tick = Stopwatch::start();
                self.mark_all_due();
                self.balance_partitions();
                self.reload_stalled_readers();
                self.redrive();
                self.apply_retention();
            }
            if is_quiet {
                self.mark_deferred_due();
            }
            wait = self.deliver_all();
            if is_quiet || is_tick {
                self.flush_positions();
            }
        }
        self.mark_deferred_due();
        self.deliver_all();
        self.flush_positions();
        self.release_partitions();
        if let Some(sqlite) = self.work.tx.sqlite() {
            // Leaves a single file behind. If this fails, the next start reads the write-ahead log.
            let _ = sqlite.pragma_update(None, "wal_checkpoint", "truncate");
        }
    }

    /// Executes the queued commands, beginning with `first`. Returns true when the engine must stop.
    fn execute_queued(&mut self, first: Box<dyn AnyCommand>, queue: &Queue) -> bool {
        let (batches, stop) = take_batch(first, queue, self.settings.max_batch);
        let last = batches.len() - 1;
        for (index, batch) in batches.into_iter().enumerate() {
            // Exclusive commands come first and share one lock budget.
            if index == 0 || index == last {
                self.lock_budget.refill();
            }
            self.execute(batch, self.settings.fold);
        }
        stop
    }

    /// Executes commands in one transaction. After a fault it bisects them until the failing command is alone.
    fn execute(&mut self, mut groups: Vec<Box<dyn AnyGroup>>, fold: bool) {
        if self.lock_budget.is_exhausted() {
            // Some of these commands may want other rows. But commands queued behind them have waited long enough.
            return reject_contended(groups, "lock wait budget exhausted");
        }
        let Err(fault) = self.retry_on_conflict(|engine| engine.attempt_commands(&mut groups, fold)) else {
            for group in groups {
                group.answer();
            }
            return;
        };
        let commands: usize = groups.iter().map(|group| group.len()).sum();
        if fault.is_outage() {
            tracing::error!(error = %fault, commands, "database not writable");
            let error = if matches!(fault, Fault::Db(DbError::Unknown)) { SubmitError::Unknown } else { SubmitError::Unavailable };
            for group in groups {
                group.fail(error.clone());
            }
        } else if groups.len() > 1 {
            let rest = groups.split_off(groups.len() / 2);
            self.execute(groups, fold);
            self.execute(rest, fold);
        } else if commands > 1 {
            for group in groups {
                let (first, second) = group.split();
                self.execute(vec![first], fold);
                self.execute(vec![second], fold);
            }
        } else if fold {
            // A reader further down may have failed. Commit the command without folding, and leave its messages to the outbox.
            self.execute(groups, false);
        } else if fault.is_contention() {
            reject_contended(groups, &fault.to_string());
        } else {
            for group in groups {
                tracing::error!(error = %fault, operation = group.operation(), "command failed");
                group.fail(SubmitError::Failed);
            }
        }
    }

    fn attempt_commands(&mut self, groups: &mut [Box<dyn AnyGroup>], fold: bool) -> Result<(), Fault> {
        let names: Vec<String> =
            if cfg!(feature = "testing") { groups.iter().map(|group| group.operation().to_owned()).collect() } else { Vec::new() };
        let size: usize = groups.iter().map(|group| group.len()).sum();
        let result = self.attempt(
            async |engine: &mut Engine| {
                for group in groups.iter_mut() {
                    engine.work.service = group.service_name();
                    group.run(&mut engine.work).await?;
                }
                if fold {
                    engine.fold().await?;
                }
                engine.flush_services().await?;
                for group in groups.iter_mut() {
                    engine.work.service = group.service_name();
                    group.finish(&mut engine.work).await?;
                }
                Ok(())
            },
            &names,
        );
        if result.is_ok() {
            metrics::histogram!("onrush_batch_commands").record(size as f64);
        }
        result
    }
}

/// Rejects commands that lost to lock contention. Nothing was written and their keys stay free, so clients may retry.
fn reject_contended(groups: Vec<Box<dyn AnyGroup>>, reason: &str) {
    for group in groups {
        tracing::warn!(operation = group.operation(), commands = group.len(), reason, "command rejected");
        metrics::counter!("onrush_commands_put_off_total", "operation" => group.operation()).increment(group.len() as u64);
        group.fail(SubmitError::Unavailable);
    }
}

/// Takes queued commands up to the limit, grouped by operation in order of first arrival. Each exclusive command gets a batch of its own.
fn take_batch(first: Box<dyn AnyCommand>, queue: &Queue, limit: usize) -> (Vec<Vec<Box<dyn AnyGroup>>>, bool) {
    let mut groups: Vec<Box<dyn AnyGroup>> = Vec::new();
    let mut index: HashMap<(TypeId, &'static str), usize> = HashMap::new();
    let mut exclusive: Vec<Vec<Box<dyn AnyGroup>>> = Vec::new();
    let mut next = Some(first);
    let mut taken = 0;
    let mut stop = false;
    while let Some(command) = next.take() {
        taken += 1;
        if command.is_exclusive() {
            exclusive.push(vec![command.into_group()]);
        } else if let Some(&at) = index.get(&command.group_key()) {
            command.join(groups[at].as_mut());
        } else {
            index.insert(command.group_key(), groups.len());
            groups.push(command.into_group());
        }
        if taken >= limit {
            break;
        }
        next = next_command(queue, &mut stop);
    }
    if !groups.is_empty() {
        exclusive.push(groups);
    }
    (exclusive, stop)
}

fn next_command(queue: &Queue, stop: &mut bool) -> Option<Box<dyn AnyCommand>> {
    loop {
        match queue.items.try_recv() {
            Ok(QueueItem::Command(command)) => return Some(command),
            // Readers catch up after the commands anyway.
            Ok(QueueItem::Wake) => {}
            Ok(QueueItem::Stop) => {
                *stop = true;
                return None;
            }
            Err(_) => return None,
        }
    }
}
