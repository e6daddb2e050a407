//! Passing over: what a reader does not act on costs it no transaction (docs/decisions/0016).

use super::{Engine, Fault, lanes::Lanes, log, streams::Reader, trouble::Why};
use crate::ports::Stopwatch;
use std::time::Duration;

/// How long it rests when positions could not be written down.
const REST: Duration = Duration::from_secs(1);

impl Engine {
    /// Much of a stream may be nothing to a reader. Over what it need not act on it moves without a transaction: its service's tables learn of
    /// it with its next delivery, or when things are quiet. Until then, whoever reads in its place passes over it once more.
    pub(super) fn passes_over(&mut self, index: usize, stored: &[log::Stored]) -> bool {
        let reader = &self.readers[index];
        let Some(last) = stored.last().filter(|_| !stored.iter().any(|message| reader.takes(&message.kind))) else { return false };
        self.moved_to(index, last.mark());
        true
    }

    /// Writes down where the readers are that passed over messages. Nobody waits for it: a lock is only looked at, and what fails is tried again
    /// after a rest.
    pub(super) fn keep_positions(&mut self) {
        if !self.has_positions_to_keep() {
            return;
        }
        let ahead: Vec<usize> = (0..self.readers.len()).filter(|index| self.readers[*index].is_ahead()).collect();
        self.patience.glance();
        let Err(fault) = self.keep(&ahead) else {
            self.keeping_failed = None;
            return;
        };
        self.keeping_failed = Some(Stopwatch::start());
        if !fault.is_outage() {
            self.keep_each(&ahead);
        }
    }

    /// One of them is at fault; that must not hold up the others.
    fn keep_each(&mut self, ahead: &[usize]) {
        for index in ahead {
            match self.keep(&[*index]) {
                Ok(()) => {}
                Err(fault @ Fault::Fenced(_)) if self.lanes.is_some() => return self.read_anew(&fault),
                Err(fault) if fault.is_locked() => self.troubles.shows(self.readers[*index].spot(), Why::Lock, &fault.to_string()),
                Err(fault) => {
                    let Reader { service, place, .. } = &self.readers[*index];
                    tracing::warn!(reader = service.name(), ?place, error = %fault, "its position cannot be written down, trying again");
                }
            }
        }
    }

    fn keep(&mut self, ahead: &[usize]) -> Result<(), Fault> {
        self.despite_conflicts(|engine| {
            engine.attempt(
                async |engine: &mut Engine| {
                    for index in ahead {
                        let reader = &mut engine.readers[*index];
                        reader.pending = Some(reader.position);
                    }
                    Ok(())
                },
                &[],
            )
        })?;
        for index in ahead {
            // On Kafka, what comes next may have waited for this.
            self.readers[*index].is_due = true;
        }
        Ok(())
    }

    pub(super) fn has_positions_to_keep(&self) -> bool {
        let rests = self.keeping_failed.is_some_and(|since| since.elapsed() < REST);
        !rests && self.readers.iter().any(Reader::is_ahead)
    }

    /// Nothing else is to be done: time for what there is only to pass over.
    pub(super) fn mark_due_for_later(&mut self) {
        let rung = self.lanes.as_ref().map(Lanes::rung_for_later).unwrap_or_default();
        for reader in &mut self.readers {
            reader.is_due |= rung.contains(&reader.place.source);
        }
    }
}
