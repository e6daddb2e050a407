//! Redrive: retries of dead letters that an operator marked.

use super::{
    dead_letters::{self, DeadLetter},
    fault::Fault,
    log::StoredMessage,
    readers::Readers,
    setup::EngineSetup,
    transaction::Transaction,
    work::Work,
};
use std::collections::HashSet;
use uuid::Uuid;

/// Retries the marked dead letters of the services that are read here.
pub(super) struct Redrive<'e> {
    pub setup: &'e EngineSetup,
    pub readers: &'e mut Readers,
    pub transaction: &'e mut Transaction,
}

impl Redrive<'_> {
    /// Retries the marked dead letters, key by key in stream order. A message that fails again stays dead, and the messages behind it
    /// stay parked.
    pub fn redrive_all(&mut self) {
        for service in self.setup.services.iter() {
            let name = service.name();
            if self.readers.of(name).next().is_none() {
                continue;
            }
            match futures::executor::block_on(dead_letters::find_redrivable(self.transaction.tx(), name)) {
                Ok(marked) if marked.is_empty() => {}
                Ok(marked) => {
                    self.redrive_marked(&marked);
                    self.readers.reload_parked_keys(self.transaction.tx(), name);
                }
                Err(error) => tracing::error!(%error, reader = name, "redrive lookup failed"),
            }
        }
    }

    fn redrive_marked(&mut self, marked: &[DeadLetter]) {
        let mut failed: HashSet<(&str, Uuid)> = HashSet::new();
        self.transaction.lock_budget().refill();
        for dead_letter in marked {
            if self.transaction.lock_budget().is_exhausted() {
                break;
            }
            let key = (dead_letter.source.as_str(), dead_letter.key);
            if self.is_read_elsewhere(dead_letter) || failed.contains(&key) {
                continue;
            }
            if let Err(fault) = self.redrive_one(dead_letter) {
                let DeadLetter { reader, source, seq, .. } = dead_letter;
                tracing::error!(reader, source, seq, error = %fault, "redrive failed");
                self.mark_dead_again(dead_letter, &fault);
                failed.insert(key);
            }
        }
    }

    /// True when another instance reads the key of this dead letter. For an older epoch the partition is computed again, because the
    /// stream may have had other partitions then.
    fn is_read_elsewhere(&self, dead_letter: &DeadLetter) -> bool {
        if !self.readers.are_shared() {
            return false;
        }
        let streams = || self.readers.iter().map(|reader| reader.stream()).filter(|stream| stream.source == dead_letter.source);
        let partition = match streams().next() {
            Some(stream) if stream.epoch != dead_letter.epoch => {
                match futures::executor::block_on(self.readers.find_stream(stream.source)) {
                    Ok(Some(stream)) => stream.partition_of(dead_letter.key),
                    Ok(None) | Err(_) => return true,
                }
            }
            _ => dead_letter.partition,
        };
        !streams().any(|stream| stream.partition == partition)
    }

    fn redrive_one(&mut self, dead_letter: &DeadLetter) -> Result<(), Fault> {
        let Some(reader) = self.readers.of(&dead_letter.reader).find(|reader| reader.stream().source == dead_letter.source) else {
            return Err(Fault::Bug(format!("{} does not read {} any more", dead_letter.reader, dead_letter.source)));
        };
        let DeadLetter { seq, key, ref kind, ref data, written_at: at, trace, .. } = *dead_letter;
        let envelope =
            StoredMessage { seq, key, kind: kind.clone(), data: data.clone(), at, trace, offset: None }.decode(reader.stream().source)?;
        let (setup, service) = (self.setup, reader.service().clone());
        self.transaction.retry_on_conflict(self.readers, |transaction, readers| {
            transaction.attempt(readers, &[], async |work: &mut Work, _: &mut Readers| {
                work.dispatch(service.as_ref(), &[&envelope]).await?;
                dead_letters::resolve(&mut work.tx, dead_letter, work.now).await?;
                setup.flush_services(work).await
            })
        })
    }

    fn mark_dead_again(&mut self, dead_letter: &DeadLetter, fault: &Fault) {
        if fault.is_outage() || fault.is_locked() || matches!(fault, Fault::Fenced(_)) {
            // Not the message's fault. It stays marked and is retried when writes are possible, or another instance has handled it.
            return;
        }
        let error = fault.to_string();
        let marked = self.transaction.attempt(self.readers, &[], async |work: &mut Work, _: &mut Readers| {
            Ok(dead_letters::mark_dead_again(&mut work.tx, dead_letter, &error).await?)
        });
        if let Err(error) = marked {
            tracing::error!(%error, "dead letter update failed");
        }
    }
}
