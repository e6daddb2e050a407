//! Readers catching up: each reads on from its position. What waits for one service is settled in one transaction, whatever the number
//! of streams and partitions it came from; if that fails, reader by reader, and message by message.

use super::{
    Engine, Envelope, Fault,
    lanes::Lanes,
    letters, log,
    streams::{Mark, Reader},
    trouble::{Troubles, Why},
    writer::TICK,
};
use crate::{ports::Stopwatch, service::Service, testing::Verdict};
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
/// The same where somebody holds a lock: callers wait while it is tried.
const RETRY_LOCKED: Duration = Duration::from_secs(1);

/// When nothing came for so long, readers catch up with what they only pass over, and their positions are written down.
const QUIET: Duration = Duration::from_millis(20);

/// What became of one delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    /// Nothing can be done now: a gap, an outage, a lock that somebody holds, or a test holds it.
    Idle,
    Moved,
    /// Failed; to be tried again a little later.
    Retry,
}

/// What a reader found.
struct Load {
    index: usize,
    stored: Vec<log::Stored>,
    /// Nothing else waited when it looked.
    is_all: bool,
}

/// What one reader settles in a transaction: messages up to `last`, some of which wait behind a dead letter.
struct Parcel<'s> {
    index: usize,
    last: Mark,
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
                return if self.faults.hold_anything() {
                    RETRY
                } else if self.has_positions_to_keep() || self.lanes.as_ref().is_some_and(Lanes::is_more_for_later) {
                    QUIET
                } else {
                    TICK
                };
            }
        }
        Duration::ZERO
    }

    /// Which readers have something to look for: where the streams are numbered here that is known, else after a ring.
    fn mark_due(&mut self) {
        let rung = self.lanes.as_ref().map(|lanes| lanes.rung());
        for reader in &mut self.readers {
            match &rung {
                Some(rung) => reader.is_due |= rung.contains(&reader.place.source),
                None => reader.is_due = reader.position.seq < self.heads.get(reader.place.source).copied().unwrap_or(0),
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
        let loads = self.load_all(service).into_iter();
        let (passed, loads): (Vec<Load>, Vec<Load>) = loads.partition(|load| self.passes_over(load.index, &load.stored));
        self.patience.begin();
        let moved = match loads.as_slice() {
            [] if passed.is_empty() => return Delivery::Idle,
            [] => Delivery::Moved,
            [load] => self.deliver(load.index, &load.stored),
            many => match self.settle_all(many) {
                Ok(()) => Delivery::Moved,
                Err(fault) => {
                    split(service.name(), &fault);
                    // Which of them is at fault shows when each goes alone.
                    self.deliver_each(many)
                }
            },
        };
        if moved == Delivery::Moved {
            passed.iter().chain(&loads).for_each(|load| self.look_no_more(load));
        }
        moved
    }

    /// Where a load was all there was and is behind its reader: whatever came meanwhile was rung for.
    fn look_no_more(&mut self, load: &Load) {
        let reader = &mut self.readers[load.index];
        if load.is_all {
            reader.is_due = load.stored.last().is_some_and(|message| message.seq > reader.position.seq);
        }
    }

    /// Somebody else reads here, or did while we were away: what is true stands in the database.
    pub(super) fn read_anew(&mut self, fault: &Fault) {
        let name = self.services[0].name();
        tracing::warn!(reader = name, error = %fault, "reads its positions anew");
        if let Err(fault) = futures::executor::block_on(self.relearn()) {
            tracing::error!(reader = name, error = %fault, "cannot read its positions");
        }
    }

    /// What its readers can settle next.
    fn load_all(&mut self, service: &Arc<dyn Service>) -> Vec<Load> {
        let rests = |reader: &Reader| reader.locked.is_some_and(|since| since.elapsed() < RETRY_LOCKED);
        let due = |reader: &Reader| reader.is_due && !rests(reader) && reader.service.name() == service.name();
        let mut indices: Vec<usize> = (0..self.readers.len()).filter(|index| due(&self.readers[*index])).collect();
        indices.sort_by_key(|index| self.readers[*index].place.source);
        let mut loads = Vec::with_capacity(indices.len());
        for (index, fetched) in futures::executor::block_on(self.fetch(&indices, READ)) {
            match fetched {
                Ok(fetched) => {
                    let count = fetched.len();
                    let stored = self.readable(index, fetched);
                    match stored.is_empty() {
                        // What a test holds is looked at again before long.
                        true => self.readers[index].is_due = self.faults.hold_anything(),
                        false => {
                            let is_all = self.rings_again() && stored.len() == count && count < usize::try_from(READ).unwrap_or(0);
                            loads.push(Load { index, stored, is_all });
                        }
                    }
                }
                Err(fault) => {
                    let reader = &mut self.readers[index];
                    // Looked at again with the next tick: whoever rings meanwhile knows no more.
                    reader.is_due = false;
                    self.troubles.shows(reader.spot(), Why::Feed, &fault.to_string());
                }
            }
        }
        loads
    }

    fn deliver_each(&mut self, loads: &[Load]) -> Delivery {
        let mut sum = Delivery::Idle;
        for load in loads {
            match self.deliver(load.index, &load.stored) {
                // Positions may have been read anew, and what was loaded may be old.
                Delivery::Retry => return Delivery::Retry,
                Delivery::Moved => sum = Delivery::Moved,
                Delivery::Idle => {}
            }
        }
        sum
    }

    /// Whether whatever comes later is rung for. Kafka rings for the first of what it has only.
    fn rings_again(&self) -> bool {
        self.lanes.as_ref().is_some_and(|lanes| lanes.consumer.is_none())
    }

    /// What of this can be settled next.
    fn readable(&mut self, index: usize, stored: Vec<log::Stored>) -> Vec<log::Stored> {
        let is_more = !stored.is_empty() || self.lanes.is_none();
        let mut stored = up_to_gap(&self.readers[index], stored, is_more, &mut self.troubles);
        if self.readers[index].locked.is_some() {
            // The first shows whether the lock is still held.
            stored.truncate(1);
        }
        self.up_to_held(index, stored)
    }

    fn deliver(&mut self, index: usize, stored: &[log::Stored]) -> Delivery {
        let reader = &self.readers[index];
        if reader.position.seq + 1 != stored[0].seq && !(reader.is_log && stored[0].seq > reader.position.seq) {
            // Another try of this round moved it already, or showed that it is somewhere else.
            return Delivery::Retry;
        }
        if self.passes_over(index, stored) {
            return Delivery::Moved;
        }
        let reader = &self.readers[index];
        let (name, place, position) = (reader.service.name(), reader.place, reader.position.seq);
        match self.settle_alone(index, stored) {
            Ok(()) => Delivery::Moved,
            Err(fault @ (Fault::Fenced(_) | Fault::Db(crate::DbError::Unknown))) if self.lanes.is_some() => {
                self.read_anew(&fault);
                Delivery::Retry
            }
            Err(fault) if fault.is_outage() || matches!(fault, Fault::Fenced(_)) => {
                // Not the message's fault: it counts as no try, and waits for better times.
                tracing::error!(reader = name, ?place, position, error = %fault, "delivery is not possible now");
                Delivery::Idle
            }
            Err(fault) if fault.is_locked() && (stored.len() == 1 || self.patience.is_over()) => self.wait_for_lock(index, &fault),
            Err(fault) if stored.len() > 1 => {
                split(name, &fault);
                self.deliver(index, &stored[..stored.len() / 2])
            }
            Err(fault) => self.retry_or_bury(index, &stored[0], &fault),
        }
    }

    /// Not the message's fault: it counts as no try, and is looked at again before long. Others of its key must not overtake it, and the
    /// position can name only one place: those behind it wait, too.
    fn wait_for_lock(&mut self, index: usize, fault: &Fault) -> Delivery {
        let reader = &mut self.readers[index];
        reader.locked = Some(Stopwatch::start());
        self.troubles.shows(reader.spot(), Why::Lock, &fault.to_string());
        Delivery::Idle
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

    fn settle_all(&mut self, loads: &[Load]) -> Result<(), Fault> {
        let parcels: Vec<Parcel<'_>> = loads.iter().map(|load| self.parcel(load.index, &load.stored)).collect::<Result<_, _>>()?;
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
        let last = stored.last().map_or(reader.position, log::Stored::mark);
        let mut parcel = Parcel { index, last, messages: Vec::with_capacity(stored.len()), parked: Vec::new(), names: Vec::new() };
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
                    engine.readers[parcel.index].pending = Some(parcel.last);
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
                engine.readers[index].pending = Some(message.mark());
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
            Err(fault) if fault.is_locked() => self.wait_for_lock(index, &fault),
            Err(error) => {
                tracing::error!(reader = name, source, seq = message.seq, %error, "cannot put a dead letter aside");
                Delivery::Retry
            }
        }
    }
}

/// Costs time, and hides its reason unless it is said.
fn split(reader: &'static str, fault: &Fault) {
    tracing::debug!(reader, error = %fault, "what waits is delivered in smaller pieces");
    metrics::counter!("onrush_deliveries_split_total", "reader" => reader).increment(1);
}

/// Cuts the batch before the first number that is missing. A lost message must stop its reader, not be passed over: where nothing is
/// left to read although the stream goes on, that is trouble.
fn up_to_gap(reader: &Reader, mut stored: Vec<log::Stored>, is_more: bool, troubles: &mut Troubles) -> Vec<log::Stored> {
    if reader.is_log {
        // What Kafka lost it says so; a number it left out was nobody's.
        troubles.is_well(reader.spot(), !stored.is_empty());
        return stored;
    }
    let dense = stored.iter().zip(reader.position.seq + 1..).take_while(|(message, seq)| message.seq == *seq).count();
    if dense > 0 || !is_more {
        troubles.is_well(reader.spot(), dense > 0);
    } else {
        let next = reader.position.seq + 1;
        let there = stored.first().map_or_else(|| "nothing".to_owned(), |message| format!("number {}", message.seq));
        let reason = match reader.position.seq {
            0 => format!("{there} is the oldest kept, and it has read nothing yet; if it is a new reader, it can be told to begin there"),
            _ => format!("number {next} is missing; {there} comes next"),
        };
        troubles.shows(reader.spot(), Why::Gap, &reason);
    }
    stored.truncate(dense);
    stored
}
