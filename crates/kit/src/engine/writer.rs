//! The thread that writes: takes commands from the queue, settles them, and in between lets readers catch up.

use super::{Engine, Fault};
use crate::{
    batch::{AnyGroup, AnyJob, Input, Queue, Sender, SubmitError},
    db::DbError,
    ports::Stopwatch,
    testing::Course,
};
use std::{any::TypeId, collections::HashMap, sync::mpsc::RecvTimeoutError, thread::JoinHandle, time::Duration};

/// How often the writer looks for letters to redrive and for old rows; also how long it sleeps when nothing comes in.
pub(super) const TICK: Duration = Duration::from_millis(500);

/// The engine on its thread. Stops, after settling what is queued, when told to.
pub struct RunningEngine {
    queue: Sender,
    thread: Option<JoinHandle<()>>,
}

impl RunningEngine {
    /// Settles what is queued, then stops. Later submits are refused as unavailable.
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
            self.queue.abandon();
        }
    }
}

impl Engine {
    /// Runs on a thread of its own: SQLite calls block, and the one writer must never wait behind a request.
    pub fn start(mut self, queue: Queue) -> std::io::Result<RunningEngine> {
        let sender = queue.sender();
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("writer".into()).spawn(move || {
            // A database across a network needs the runtime's timers and sockets; SQLite does not.
            let _inside = runtime.enter();
            Course::default().go_on(|| self.run(&queue));
        })?;
        Ok(RunningEngine { queue: sender, thread: Some(thread) })
    }

    fn run(&mut self, queue: &Queue) {
        self.keep_lanes();
        let mut wait = self.deliver_all();
        let mut since_tick = Stopwatch::start();
        loop {
            let mut is_quiet = false;
            let stop = match queue.inputs.recv_timeout(wait) {
                Ok(Input::Job(job)) => self.settle_waiting(job, queue),
                Ok(Input::Wake) => false,
                Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    is_quiet = !wait.is_zero();
                    false
                }
            };
            if stop {
                break;
            }
            // By elapsed time and not only when idle: under steady load there is no idle moment.
            let is_tick = since_tick.elapsed() >= TICK;
            if is_tick {
                since_tick = Stopwatch::start();
                self.mark_all_due();
                self.keep_lanes();
                self.look_again();
                self.redrive();
                self.upkeep();
            }
            if is_quiet {
                self.mark_due_for_later();
            }
            wait = self.deliver_all();
            if is_quiet || is_tick {
                self.keep_positions();
            }
        }
        self.mark_due_for_later();
        self.deliver_all();
        self.keep_positions();
        self.leave_lanes();
        if let Some(sqlite) = self.work.tx.sqlite() {
            // Leaves one tidy file behind; failing that, the next start reads the write-ahead log.
            let _ = sqlite.pragma_update(None, "wal_checkpoint", "truncate");
        }
    }

    /// Settles what waits in the queue, `first` before all. True when the engine is to stop.
    fn settle_waiting(&mut self, first: Box<dyn AnyJob>, queue: &Queue) -> bool {
        let (batches, stop) = take_batch(first, queue, self.settings.max_batch);
        let last = batches.len() - 1;
        for (place, batch) in batches.into_iter().enumerate() {
            // Those that must be alone come first, and share what time there is for waiting.
            if place == 0 || place == last {
                self.patience.begin();
            }
            self.settle(batch, self.settings.fold);
        }
        stop
    }

    /// Settles commands in one transaction; after a fault in smaller and smaller ones, until the culprit is alone.
    fn settle(&mut self, mut groups: Vec<Box<dyn AnyGroup>>, fold: bool) {
        if self.patience.is_over() {
            // Some of them may want other rows; but whoever waits behind them has waited long enough for those that do not.
            return put_off(groups, "enough time went into waiting for locks");
        }
        let Err(fault) = self.despite_conflicts(|engine| engine.attempt_commands(&mut groups, fold)) else {
            for group in groups {
                group.answer();
            }
            return;
        };
        let commands: usize = groups.iter().map(|group| group.len()).sum();
        if fault.is_outage() {
            tracing::error!(error = %fault, commands, "the database takes no writes");
            let error = if matches!(fault, Fault::Db(DbError::Unknown)) { SubmitError::Unknown } else { SubmitError::Unavailable };
            for group in groups {
                group.fail(error.clone());
            }
        } else if groups.len() > 1 {
            let rest = groups.split_off(groups.len() / 2);
            self.settle(groups, fold);
            self.settle(rest, fold);
        } else if commands > 1 {
            for group in groups {
                let (first, second) = group.split();
                self.settle(vec![first], fold);
                self.settle(vec![second], fold);
            }
        } else if fold {
            // A reader further down may be at fault: commit the command alone and let the log deal with its messages.
            self.settle(groups, false);
        } else if fault.is_contention() {
            put_off(groups, &fault.to_string());
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
                engine.flush().await?;
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

/// Nothing is wrong with these commands: others were in their way. They did nothing, and their keys are not used up.
fn put_off(groups: Vec<Box<dyn AnyGroup>>, reason: &str) {
    for group in groups {
        tracing::warn!(operation = group.operation(), commands = group.len(), reason, "others are in the way: come back later");
        metrics::counter!("onrush_commands_put_off_total", "operation" => group.operation()).increment(group.len() as u64);
        group.fail(SubmitError::Unavailable);
    }
}

/// Takes what waits, up to the limit, grouped by operation in the order of first arrival. Commands that must be alone get a batch each.
fn take_batch(first: Box<dyn AnyJob>, queue: &Queue, limit: usize) -> (Vec<Vec<Box<dyn AnyGroup>>>, bool) {
    let mut groups: Vec<Box<dyn AnyGroup>> = Vec::new();
    let mut index: HashMap<(TypeId, &'static str), usize> = HashMap::new();
    let mut alone: Vec<Vec<Box<dyn AnyGroup>>> = Vec::new();
    let mut next = Some(first);
    let mut taken = 0;
    let mut stop = false;
    while let Some(job) = next.take() {
        taken += 1;
        if job.alone() {
            alone.push(vec![job.into_group()]);
        } else if let Some(&at) = index.get(&job.kind()) {
            job.join(groups[at].as_mut());
        } else {
            index.insert(job.kind(), groups.len());
            groups.push(job.into_group());
        }
        if taken >= limit {
            break;
        }
        next = next_job(queue, &mut stop);
    }
    if !groups.is_empty() {
        alone.push(groups);
    }
    (alone, stop)
}

fn next_job(queue: &Queue, stop: &mut bool) -> Option<Box<dyn AnyJob>> {
    loop {
        match queue.inputs.try_recv() {
            Ok(Input::Job(job)) => return Some(job),
            // What it is woken for comes after the commands.
            Ok(Input::Wake) => {}
            Ok(Input::Stop) => {
                *stop = true;
                return None;
            }
            Err(_) => return None,
        }
    }
}
