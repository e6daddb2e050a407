//! Readers catching up: each reads on from its position. What waits for one service is settled in one transaction, whatever the number
//! of streams and partitions it came from; if that fails, reader by reader, and message by message.

use super::{
    Engine, Envelope, Fault, letters, log,
    streams::Reader,
    trouble::{Troubles, Why},
    writer::TICK,
};
use crate::{service::Service, testing::Verdict};
use std::{sync::Arc, time::Duration};

/// Messages a reader takes in one transaction.
const READ: i64 = 500;
/// Turns of all readers before commands get theirs: readers far behind must not keep callers waiting.
const TURNS: u32 = 8;
/// Tries of a message that fails alone, before it is buried.
const TRIES: u32 = 3;
/// The same where other transactions were in its way each time: that is seldom the message's fault.
const TRIES_IN_CONFLICT: u32 = 20;
/// How long to wait before a failed delivery is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// What became of one delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    /// Nothing can be done now: a gap, an outage, or a test holds it.
    Idle,
    Moved,
    /// Failed; to be tried again a little later.
    Retry,
}

/// What one reader settles in a transaction: messages up to `last`, some of which wait behind a dead letter.
struct Parcel<'s> {
    index: usize,
    last: i64,
    offset: Option<i64>,
    messages: Vec<Envelope>,
    parked: Vec<&'s log::Stored>,
    names: Vec<String>,
}

impl Engine {
    /// Lets every reader catch up with its streams. How long the writer may wait for commands before it must come back.
    pub(super) fn deliver_all(&mut self) -> Duration {
        for _ in 0..TURNS {
            self.mark_due();
            let (mut moved, mut retry) = (false, false);
            for service in self.services.clone() {
                match self.deliver_to(&service) {
                    Delivery::Moved => moved = true,
                    Delivery::Retry => retry = true,
                    Delivery::Idle => {}
                }
            }
            if retry {
                return RETRY;
            }
            if !moved {
                return if self.faults.hold_anything() { RETRY } else { TICK };
            }
        }
        Duration::ZERO
    }

    /// Which readers have something to look for: where the streams are numbered here that is known, else after a ring.
    fn mark_due(&mut self) {
        let rung = match &self.lanes {
            Some(lanes) => lanes.was_rung(),
            None => false,
        };
        for reader in &mut self.readers {
            match self.lanes {
                Some(_) => reader.is_due |= rung,
                None => reader.is_due = reader.position < self.heads.get(reader.place.source).copied().unwrap_or(0),
            }
        }
    }

    /// Nobody need have rung.
    pub(super) fn mark_all_due(&mut self) {
        for reader in &mut self.readers {
            reader.is_due = true;
        }
    }

    /// One transaction for all that waits for a service.
    fn deliver_to(&mut self, service: &Arc<dyn Service>) -> Delivery {
        let due = |reader: &Reader| reader.is_due && reader.service.name() == service.name();
        let indices: Vec<usize> = (0..self.readers.len()).filter(|index| due(&self.readers[*index])).collect();
        let mut loads = Vec::with_capacity(indices.len());
        for index in indices {
            match self.load(index, READ) {
                // What a test holds is looked at again before long.
                Ok(stored) if stored.is_empty() => self.readers[index].is_due = self.faults.hold_anything(),
                Ok(stored) => loads.push((index, stored)),
                Err(fault) => {
                    let reader = &mut self.readers[index];
                    // Looked at again with the next tick: whoever rings meanwhile knows no more.
                    reader.is_due = false;
                    self.troubles.shows(reader.spot(), Why::Feed, &fault.to_string());
                }
            }
        }
        match loads.as_slice() {
            [] => Delivery::Idle,
            [(index, stored)] => self.deliver(*index, stored),
            many => match self.settle_all(many) {
                Ok(()) => Delivery::Moved,
                // Which of them is at fault shows when each goes alone.
                Err(_) => self.deliver_each(many),
            },
        }
    }

    fn deliver_each(&mut self, loads: &[(usize, Vec<log::Stored>)]) -> Delivery {
        let mut sum = Delivery::Idle;
        for (index, stored) in loads {
            match self.deliver(*index, stored) {
                // Positions may have been read anew, and what was loaded may be old.
                Delivery::Retry => return Delivery::Retry,
                Delivery::Moved => sum = Delivery::Moved,
                Delivery::Idle => {}
            }
        }
        sum
    }

    /// What this reader can settle next.
    fn load(&mut self, index: usize, limit: i64) -> Result<Vec<log::Stored>, Fault> {
        let stored = futures::executor::block_on(self.fetch(index, limit))?;
        let is_more = !stored.is_empty() || self.lanes.is_none();
        let stored = up_to_gap(&self.readers[index], stored, is_more, &mut self.troubles);
        Ok(self.up_to_held(index, stored))
    }

    fn deliver(&mut self, index: usize, stored: &[log::Stored]) -> Delivery {
        let reader = &self.readers[index];
        if reader.position + 1 != stored[0].seq && !(reader.is_log && stored[0].seq > reader.position) {
            // Another try of this round moved it already, or showed that it is somewhere else.
            return Delivery::Retry;
        }
        let (name, place, position) = (reader.service.name(), reader.place, reader.position);
        match self.settle_alone(index, stored) {
            Ok(()) => Delivery::Moved,
            Err(fault @ (Fault::Fenced(_) | Fault::Db(crate::DbError::Unknown))) if self.lanes.is_some() => {
                // Somebody else reads here, or did while we were away: what is true stands in the database.
                tracing::warn!(reader = name, ?place, position, error = %fault, "reads its positions anew");
                match futures::executor::block_on(self.relearn()) {
                    Ok(()) => Delivery::Retry,
                    Err(fault) => {
                        tracing::error!(reader = name, error = %fault, "cannot read its positions");
                        Delivery::Retry
                    }
                }
            }
            Err(fault) if fault.is_outage() || matches!(fault, Fault::Fenced(_)) => {
                // Not the message's fault: it counts as no try, and waits for better times.
                tracing::error!(reader = name, ?place, position, error = %fault, "delivery is not possible now");
                Delivery::Idle
            }
            Err(_) if stored.len() > 1 => self.deliver(index, &stored[..stored.len() / 2]),
            Err(fault) => self.retry_or_bury(index, &stored[0], &fault),
        }
    }

    /// Cuts the batch before the first message that a test holds back.
    fn up_to_held(&self, index: usize, mut stored: Vec<log::Stored>) -> Vec<log::Stored> {
        let reader = &self.readers[index];
        let name = reader.service.name();
        if let Some(at) = stored.iter().position(|message| reader.takes(&message.kind) && self.faults.is_held(name, &message.kind)) {
            stored.truncate(at);
        }
        stored
    }

    fn settle_all(&mut self, loads: &[(usize, Vec<log::Stored>)]) -> Result<(), Fault> {
        let parcels: Vec<Parcel<'_>> = loads.iter().map(|(index, stored)| self.parcel(*index, stored)).collect::<Result<_, _>>()?;
        self.despite_conflicts(|engine| engine.attempt_delivery(&parcels, engine.settings.fold))
    }

    fn settle_alone(&mut self, index: usize, stored: &[log::Stored]) -> Result<(), Fault> {
        let parcel = [self.parcel(index, stored)?];
        let result = self.despite_conflicts(|engine| engine.attempt_delivery(&parcel, engine.settings.fold));
        match result {
            // A reader further down may be at fault: settle the message alone and let the log deal with what it led to.
            Err(fault) if stored.len() == 1 && self.settings.fold && !fault.is_outage() => self.attempt_delivery(&parcel, false),
            result => result,
        }
    }

    fn parcel<'s>(&self, index: usize, stored: &'s [log::Stored]) -> Result<Parcel<'s>, Fault> {
        let reader = &self.readers[index];
        let name = reader.service.name();
        let (last, offset) = stored.last().map_or((reader.position, reader.offset), |message| (message.seq, message.offset));
        let mut parcel = Parcel { index, last, offset, messages: Vec::with_capacity(stored.len()), parked: Vec::new(), names: Vec::new() };
        for message in stored.iter().filter(|message| reader.takes(&message.kind)) {
            if reader.parked.contains(&message.key) {
                parcel.parked.push(message);
                continue;
            }
            if cfg!(feature = "testing") {
                parcel.names.push(format!("{name}.{}", message.kind));
            }
            let envelope = message.decode(reader.place.source)?;
            match self.faults.verdict(name, &message.kind) {
                Verdict::Pass => parcel.messages.push(envelope),
                Verdict::Repeat => parcel.messages.extend([envelope.clone(), envelope]),
                Verdict::Fail => return Err(Fault::Injected(format!("{name} fails {}", message.kind))),
            }
        }
        Ok(parcel)
    }

    /// Settles parcels of one service.
    fn attempt_delivery(&mut self, parcels: &[Parcel<'_>], fold: bool) -> Result<(), Fault> {
        let Some(first) = parcels.first() else { return Ok(()) };
        let service = Arc::clone(&self.readers[first.index].service);
        let names: Vec<String> = parcels.iter().flat_map(|parcel| parcel.names.iter().cloned()).collect();
        self.attempt(
            async |engine: &mut Engine| {
                for parcel in parcels {
                    let grave = engine.grave(parcel.index);
                    for message in &parcel.parked {
                        grave.park(&mut engine.work.tx, message).await?;
                    }
                    let reader = &mut engine.readers[parcel.index];
                    reader.pending = parcel.last;
                    reader.offset = parcel.offset;
                }
                let messages: Vec<&Envelope> = parcels.iter().flat_map(|parcel| &parcel.messages).collect();
                if !messages.is_empty() {
                    engine.hand_over(service.as_ref(), &messages).await?;
                }
                if fold {
                    engine.fold().await?;
                }
                engine.flush().await
            },
            &names,
        )
    }

    fn grave(&self, index: usize) -> letters::Grave {
        let reader = &self.readers[index];
        letters::Grave { reader: reader.service.name(), place: reader.place, now: self.work.now }
    }

    /// A message that fails alone: tried a few times, then put aside together with its key, so that the stream flows on.
    fn retry_or_bury(&mut self, index: usize, message: &log::Stored, fault: &Fault) -> Delivery {
        let is_conflict = self.lanes.is_some() && fault.is_conflict();
        let reader = &mut self.readers[index];
        let (name, source) = (reader.service.name(), reader.place.source);
        reader.tries += 1;
        let tries = if is_conflict { TRIES_IN_CONFLICT } else { TRIES };
        if reader.tries < tries {
            tracing::warn!(reader = name, source, seq = message.seq, kind = message.kind, error = %fault, "delivery failed, trying again");
            return Delivery::Retry;
        }
        let error = fault.to_string();
        let buried = self.attempt(
            async |engine: &mut Engine| {
                engine.grave(index).bury(&mut engine.work.tx, message, &error).await?;
                engine.readers[index].pending = message.seq;
                engine.readers[index].offset = message.offset;
                Ok(())
            },
            &[],
        );
        match buried {
            Ok(()) => {
                tracing::error!(reader = name, source, seq = message.seq, kind = message.kind, error, "dead letter");
                metrics::counter!("onrush_dead_letters_total", "reader" => name).increment(1);
                self.readers[index].parked.insert(message.key);
                Delivery::Moved
            }
            Err(error) => {
                tracing::error!(reader = name, source, seq = message.seq, %error, "cannot put a dead letter aside");
                Delivery::Retry
            }
        }
    }
}

/// Cuts the batch before the first number that is missing. A lost message must stop its reader, not be passed over: where nothing is
/// left to read although the stream goes on, that is trouble.
fn up_to_gap(reader: &Reader, mut stored: Vec<log::Stored>, is_more: bool, troubles: &mut Troubles) -> Vec<log::Stored> {
    if reader.is_log {
        // What Kafka lost it says so; a number it left out was nobody's.
        troubles.is_well(reader.spot(), !stored.is_empty());
        return stored;
    }
    let dense = stored.iter().zip(reader.position + 1..).take_while(|(message, seq)| message.seq == *seq).count();
    if dense > 0 || !is_more {
        troubles.is_well(reader.spot(), dense > 0);
    } else {
        let next = reader.position + 1;
        let there = stored.first().map_or_else(|| "nothing".to_owned(), |message| format!("number {}", message.seq));
        let reason = match reader.position {
            0 => format!("{there} is the oldest kept, and it has read nothing yet; if it is a new reader, it can be told to begin there"),
            _ => format!("number {next} is missing; {there} comes next"),
        };
        troubles.shows(reader.spot(), Why::Gap, &reason);
    }
    stored.truncate(dense);
    stored
}
