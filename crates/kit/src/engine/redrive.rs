//! Redrive: retries of dead letters that an operator marked.

use super::{Engine, Fault, dead_letters, dead_letters::DeadLetter, log};
use std::collections::HashSet;
use uuid::Uuid;

impl Engine {
    /// Retries the marked dead letters, key by key in stream order. A message that fails again stays dead, and the messages behind it
    /// stay parked.
    pub(super) fn redrive(&mut self) {
        for service in self.services.clone() {
            if !self.readers.iter().any(|reader| reader.service.name() == service.name()) {
                continue;
            }
            let marked = match futures::executor::block_on(dead_letters::find_redrivable(&mut self.work.tx, service.name())) {
                Ok(marked) => marked,
                Err(error) => {
                    tracing::error!(%error, reader = service.name(), "redrive lookup failed");
                    continue;
                }
            };
            if marked.is_empty() {
                continue;
            }
            let mut failed: HashSet<(String, Uuid)> = HashSet::new();
            self.lock_budget.refill();
            for dead_letter in marked {
                if self.lock_budget.is_exhausted() {
                    break;
                }
                if self.is_read_elsewhere(&dead_letter) {
                    continue;
                }
                let key = (dead_letter.source.clone(), dead_letter.key);
                if failed.contains(&key) {
                    continue;
                }
                if let Err(fault) = self.redrive_one(&dead_letter) {
                    tracing::error!(reader = dead_letter.reader, source = dead_letter.source, seq = dead_letter.seq, error = %fault, "redrive failed");
                    self.mark_dead_again(&dead_letter, &fault);
                    failed.insert(key);
                }
            }
            self.reload_parked_keys(service.name());
        }
    }

    /// True when another instance reads the key of this dead letter. For an older epoch the partition is computed again, because the
    /// stream may have had other partitions then.
    fn is_read_elsewhere(&self, dead_letter: &DeadLetter) -> bool {
        let Some(assignment) = &self.assignment else { return false };
        let readers = || self.readers.iter().filter(|reader| reader.stream.source == dead_letter.source);
        let partition = match readers().next() {
            Some(reader) if reader.stream.epoch != dead_letter.epoch => {
                match futures::executor::block_on(assignment.message_source.find_stream(reader.stream.source)) {
                    Ok(Some(stream)) => stream.partition_of(dead_letter.key),
                    Ok(None) | Err(_) => return true,
                }
            }
            _ => dead_letter.partition,
        };
        !readers().any(|reader| reader.stream.partition == partition)
    }

    fn redrive_one(&mut self, dead_letter: &DeadLetter) -> Result<(), Fault> {
        let Some(reader) =
            self.readers.iter().find(|reader| reader.service.name() == dead_letter.reader && reader.stream.source == dead_letter.source)
        else {
            return Err(Fault::Bug(format!("{} does not read {} any more", dead_letter.reader, dead_letter.source)));
        };
        let DeadLetter { seq, key, ref kind, ref data, written_at: at, trace, .. } = *dead_letter;
        let envelope = log::StoredMessage { seq, key, kind: kind.clone(), data: data.clone(), at, trace, offset: None }
            .decode(reader.stream.source)?;
        let service = reader.service.clone();
        self.retry_on_conflict(|engine| {
            engine.attempt(
                async |engine: &mut Engine| {
                    engine.dispatch(service.as_ref(), &[&envelope]).await?;
                    let now = engine.work.now;
                    dead_letters::resolve(&mut engine.work.tx, dead_letter, now).await?;
                    engine.flush_services().await
                },
                &[],
            )
        })
    }

    fn mark_dead_again(&mut self, dead_letter: &DeadLetter, fault: &Fault) {
        if fault.is_outage() || fault.is_locked() || matches!(fault, Fault::Fenced(_)) {
            // Not the message's fault. It stays marked and is retried when writes are possible, or another instance has handled it.
            return;
        }
        let error = fault.to_string();
        let marked = self
            .attempt(async |engine: &mut Engine| Ok(dead_letters::mark_dead_again(&mut engine.work.tx, dead_letter, &error).await?), &[]);
        if let Err(error) = marked {
            tracing::error!(%error, "dead letter update failed");
        }
    }

    fn reload_parked_keys(&mut self, name: &str) {
        let parked = match futures::executor::block_on(dead_letters::parked_keys(&mut self.work.tx, name)) {
            Ok(parked) => parked,
            Err(error) => {
                tracing::error!(%error, reader = name, "parked keys not reloaded");
                return;
            }
        };
        for reader in self.readers.iter_mut().filter(|reader| reader.service.name() == name) {
            reader.parked_keys = parked.iter().filter(|(source, _)| source == reader.stream.source).map(|(_, key)| *key).collect();
        }
    }
}
