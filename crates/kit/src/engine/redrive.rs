//! Dead letters that an operator wants tried again.

use super::{Engine, Fault, letters, letters::DeadLetter, log};
use std::collections::HashSet;
use uuid::Uuid;

impl Engine {
    /// Tries again what an operator marked, key by key in stream order. A letter that fails again stays, and so do those behind it.
    pub(super) fn redrive(&mut self) {
        for service in self.services.clone() {
            if !self.readers.iter().any(|reader| reader.service.name() == service.name()) {
                continue;
            }
            let marked = match futures::executor::block_on(letters::to_redrive(&mut self.work.tx, service.name())) {
                Ok(marked) => marked,
                Err(error) => {
                    tracing::error!(%error, reader = service.name(), "cannot look for letters to redrive");
                    continue;
                }
            };
            if marked.is_empty() {
                continue;
            }
            let mut failed: HashSet<(String, Uuid)> = HashSet::new();
            self.patience.begin();
            for letter in marked {
                if self.patience.is_over() {
                    break;
                }
                if self.is_elsewhere(&letter) {
                    continue;
                }
                let line = (letter.source.clone(), letter.key);
                if failed.contains(&line) {
                    continue;
                }
                if let Err(fault) = self.redrive_one(&letter) {
                    tracing::error!(reader = letter.reader, source = letter.source, seq = letter.seq, error = %fault, "redrive failed");
                    self.put_back(&letter, &fault);
                    failed.insert(line);
                }
            }
            self.reload_parked(service.name());
        }
    }

    /// Another instance reads the messages of this letter's key. In an older numbering the stream may have had other partitions.
    fn is_elsewhere(&self, letter: &DeadLetter) -> bool {
        let Some(lanes) = &self.lanes else { return false };
        let readers = || self.readers.iter().filter(|reader| reader.place.source == letter.source);
        let lane = match readers().next() {
            Some(reader) if reader.place.epoch != letter.epoch => {
                match futures::executor::block_on(lanes.feed.stream_of(reader.place.source)) {
                    Ok(Some(stream)) => stream.partition_of(letter.key),
                    Ok(None) | Err(_) => return true,
                }
            }
            _ => letter.partition,
        };
        !readers().any(|reader| reader.place.partition == lane)
    }

    fn redrive_one(&mut self, letter: &DeadLetter) -> Result<(), Fault> {
        let Some(reader) =
            self.readers.iter().find(|reader| reader.service.name() == letter.reader && reader.place.source == letter.source)
        else {
            return Err(Fault::Bug(format!("{} does not read {} any more", letter.reader, letter.source)));
        };
        let DeadLetter { seq, key, ref kind, ref data, written_at: at, trace, .. } = *letter;
        let envelope =
            log::Stored { seq, key, kind: kind.clone(), data: data.clone(), at, trace, offset: None }.decode(reader.place.source)?;
        let service = reader.service.clone();
        self.despite_conflicts(|engine| {
            engine.attempt(
                async |engine: &mut Engine| {
                    engine.hand_over(service.as_ref(), &[&envelope]).await?;
                    let now = engine.work.now;
                    letters::resolve(&mut engine.work.tx, letter, now).await?;
                    engine.flush().await
                },
                &[],
            )
        })
    }

    fn put_back(&mut self, letter: &DeadLetter, fault: &Fault) {
        if fault.is_outage() || fault.is_locked() || matches!(fault, Fault::Fenced(_)) {
            // Not the letter's fault: it stays marked and is tried again when writes are possible, or another instance has settled it.
            return;
        }
        let error = fault.to_string();
        let put_back = self.attempt(async |engine: &mut Engine| Ok(letters::put_back(&mut engine.work.tx, letter, &error).await?), &[]);
        if let Err(error) = put_back {
            tracing::error!(%error, "cannot put a letter back");
        }
    }

    fn reload_parked(&mut self, name: &str) {
        let parked = match futures::executor::block_on(letters::parked_keys(&mut self.work.tx, name)) {
            Ok(parked) => parked,
            Err(error) => {
                tracing::error!(%error, reader = name, "cannot read the parked keys");
                return;
            }
        };
        for reader in self.readers.iter_mut().filter(|reader| reader.service.name() == name) {
            reader.parked = parked.iter().filter(|(source, _)| source == reader.place.source).map(|(_, key)| *key).collect();
        }
    }
}
