//! Executing commands: batches from the queue, one transaction for each, and bisection after a fault.

use super::super::{
    command::SubmitError,
    fault::Fault,
    fold::fold,
    group::{AnyCommand, AnyGroup},
    queue::{Queue, QueueItem},
    readers::Readers,
    setup::EngineSetup,
    transaction::Transaction,
    work::Work,
};
use db::DbError;
use std::{any::TypeId, collections::HashMap};

/// Executes queued commands.
pub(super) struct CommandExecution<'e> {
    pub setup: &'e EngineSetup,
    pub readers: &'e mut Readers,
    pub transaction: &'e mut Transaction,
}

impl CommandExecution<'_> {
    /// Executes the queued commands, beginning with `first`. Returns true when the engine must stop.
    pub fn execute_queued(&mut self, first: Box<dyn AnyCommand>, queue: &Queue) -> bool {
        let (batches, stop) = take_batch(first, queue, self.setup.settings.max_batch);
        let last = batches.len() - 1;
        for (index, batch) in batches.into_iter().enumerate() {
            // Exclusive commands come first and share one lock budget.
            if index == 0 || index == last {
                self.transaction.lock_budget().refill();
            }
            self.execute(batch, self.setup.settings.fold);
        }
        stop
    }

    /// Executes commands in one transaction. After a fault it bisects them until the failing command is alone.
    fn execute(&mut self, mut groups: Vec<Box<dyn AnyGroup>>, is_folded: bool) {
        if self.transaction.lock_budget().is_exhausted() {
            // Some of these commands may want other rows. But commands queued behind them have waited long enough.
            return reject_contended(groups, "lock wait budget exhausted");
        }
        let Err(fault) = self.attempt(&mut groups, is_folded) else {
            for group in groups {
                group.answer();
            }
            return;
        };
        let commands: usize = groups.iter().map(|group| group.len()).sum();
        if fault.is_outage() || fault.is_slow() {
            tracing::error!(error = %fault, commands, "database not writable");
            let error = if matches!(fault, Fault::Db(DbError::Unknown)) { SubmitError::Unknown } else { SubmitError::Unavailable };
            for group in groups {
                group.fail(error.clone());
            }
        } else if groups.len() > 1 {
            let rest = groups.split_off(groups.len() / 2);
            self.execute(groups, is_folded);
            self.execute(rest, is_folded);
        } else if commands > 1 {
            for group in groups {
                let (first, second) = group.split();
                self.execute(vec![first], is_folded);
                self.execute(vec![second], is_folded);
            }
        } else if is_folded {
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

    fn attempt(&mut self, groups: &mut [Box<dyn AnyGroup>], is_folded: bool) -> Result<(), Fault> {
        let setup = self.setup;
        self.transaction
            .retry_on_conflict(self.readers, |transaction, readers| attempt_commands(setup, transaction, readers, groups, is_folded))
    }
}

fn attempt_commands(
    setup: &EngineSetup,
    transaction: &mut Transaction,
    readers: &mut Readers,
    groups: &mut [Box<dyn AnyGroup>],
    is_folded: bool,
) -> Result<(), Fault> {
    let names: Vec<String> =
        if cfg!(feature = "testing") { groups.iter().map(|group| group.operation().to_owned()).collect() } else { Vec::new() };
    let size: usize = groups.iter().map(|group| group.len()).sum();
    transaction.attempt(readers, &names, async |work: &mut Work, readers: &mut Readers| {
        for group in groups.iter_mut() {
            work.act_as(group.service_name());
            group.run(work).await?;
        }
        if is_folded {
            fold(setup, work, readers).await?;
        }
        setup.flush_services(work).await?;
        for group in groups.iter_mut() {
            work.act_as(group.service_name());
            group.finish(work).await?;
        }
        Ok(())
    })?;
    metrics::histogram!("onrush_batch_commands").record(size as f64);
    Ok(())
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
