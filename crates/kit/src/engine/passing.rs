//! Passing over: what a reader does not act on costs it no transaction (docs/decisions/0016).

use super::{Engine, Fault, lanes::Lanes, log, streams::Reader};

impl Engine {
    /// Much of a stream may be nothing to a reader. Over what it need not act on it moves without a transaction: its service's tables learn of
    /// it with its next delivery, or when things are quiet. Until then, whoever reads in its place passes over it once more.
    pub(super) fn passes_over(&mut self, index: usize, stored: &[log::Stored]) -> bool {
        let reader = &self.readers[index];
        let Some(last) = stored.last().filter(|_| !stored.iter().any(|message| reader.takes(&message.kind))) else { return false };
        self.moved_to(index, last.mark());
        true
    }

    /// Writes down where the readers are that passed over messages.
    pub(super) fn keep_positions(&mut self) {
        if !self.is_any_ahead() {
            return;
        }
        self.patience.begin();
        let kept = self.despite_conflicts(|engine| {
            engine.attempt(
                async |engine: &mut Engine| {
                    for reader in engine.readers.iter_mut().filter(|reader| reader.is_ahead()) {
                        reader.pending = Some(reader.position);
                        // On Kafka, what comes next may have waited for this.
                        reader.is_due = true;
                    }
                    Ok(())
                },
                &[],
            )
        });
        match kept {
            Ok(()) => {}
            Err(fault @ Fault::Fenced(_)) if self.lanes.is_some() => self.read_anew(&fault),
            Err(fault) => tracing::debug!(error = %fault, "positions are kept later"),
        }
    }

    pub(super) fn is_any_ahead(&self) -> bool {
        self.readers.iter().any(Reader::is_ahead)
    }

    /// Nothing else is to be done: time for what there is only to pass over.
    pub(super) fn mark_due_for_later(&mut self) {
        let rung = self.lanes.as_ref().map(Lanes::rung_for_later).unwrap_or_default();
        for reader in &mut self.readers {
            reader.is_due |= rung.contains(&reader.place.source);
        }
    }
}
