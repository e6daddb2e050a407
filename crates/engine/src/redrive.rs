//! Redrive: retries of dead letters that an operator marked, and of messages that were set aside.

use super::{
    dead_letters::{self, DeadLetter},
    delivery::report_dead_letter,
    fault::Fault,
    log::StoredMessage,
    readers::Readers,
    retries::{RetryDecision, RetryKey},
    setup::EngineSetup,
    transaction::Transaction,
    work::Work,
};
use runtime::ports::Stopwatch;
use std::time::Duration;
use uuid::Uuid;

/// Retries the marked dead letters of the services that are read here.
pub(super) struct Redrive<'e> {
    pub setup: &'e EngineSetup,
    pub readers: &'e mut Readers,
    pub transaction: &'e mut Transaction,
}

impl Redrive<'_> {
    /// Retries the marked dead letters, key by key in stream order. A message that fails again is retried later, or is dead after its
    /// time. The messages behind it stay parked.
    pub fn redrive_all(&mut self) {
        for service in self.setup.services.iter() {
            let name = service.name();
            if self.readers.of(name).next().is_none() {
                continue;
            }
            match futures::executor::block_on(dead_letters::find_retried_keys(self.transaction.tx(), name)) {
                Ok(keys) => self.redrive_keys(name, &keys),
                Err(error) => tracing::error!(%error, reader = name, "redrive lookup failed"),
            }
        }
    }

    fn redrive_keys(&mut self, reader: &'static str, keys: &[(String, Uuid)]) {
        self.readers.retries().retain(reader, keys);
        let mut limit = dead_letters::REDRIVE_LIMIT;
        let mut has_tried = false;
        self.transaction.lock_budget().refill();
        for source_and_key in keys {
            let key = (reader, source_and_key.0.clone(), source_and_key.1);
            if limit <= 0 || self.transaction.lock_budget().is_exhausted() {
                break;
            }
            if !self.readers.retries().is_due(&key) {
                continue;
            }
            match futures::executor::block_on(dead_letters::find_redrivable(self.transaction.tx(), reader, source_and_key, limit)) {
                Ok(letters) => {
                    limit -= i64::try_from(letters.len()).unwrap_or(limit);
                    has_tried |= !letters.is_empty();
                    self.redrive_letters(&letters, &key);
                }
                Err(error) => tracing::error!(%error, reader, "redrive lookup failed"),
            }
        }
        if has_tried {
            self.readers.reload_parked_keys(self.transaction.tx(), reader);
        }
    }

    /// Retries the messages of a key until one fails.
    fn redrive_letters(&mut self, letters: &[DeadLetter], key: &RetryKey) {
        for letter in letters {
            if self.is_read_elsewhere(letter) {
                return self.readers.retries().forget(key);
            }
            let since_start = Stopwatch::start();
            match self.redrive_one(letter) {
                Ok(()) => self.readers.retries().forget(key),
                Err(fault) => return self.on_failure(letter, key, since_start.elapsed(), &fault),
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

    /// Plans the next try of a message that failed again, or gives it up.
    fn on_failure(&mut self, letter: &DeadLetter, key: &RetryKey, took: Duration, fault: &Fault) {
        let (reader, DeadLetter { source, seq, kind, .. }) = (key.0, letter);
        if fault.is_outage() || fault.is_locked() || matches!(fault, Fault::Fenced(_)) {
            // Not the message's fault. It is retried when writes are possible, or another instance has handled it.
            return tracing::debug!(reader, source, seq, error = %fault, "redrive postponed");
        }
        if self.readers.retries().count_failure(key.clone(), took) == RetryDecision::TryLater {
            return tracing::warn!(reader, source, seq, error = %fault, "redrive failed, retrying later");
        }
        let error = fault.to_string();
        let marked = self.transaction.attempt(self.readers, &[], async |work: &mut Work, _: &mut Readers| {
            Ok(dead_letters::mark_dead(&mut work.tx, letter, &error).await?)
        });
        match marked {
            Ok(()) => report_dead_letter(reader, source, *seq, kind, &error),
            Err(error) => tracing::error!(%error, "dead letter update failed"),
        }
    }
}
