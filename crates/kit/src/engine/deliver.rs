//! Readers catching up: each reads on from its position, in transactions of its own.

use super::{Engine, Envelope, Fault, letters, log, streams::Reader, writer::TICK};
use crate::testing::Verdict;
use std::time::Duration;

/// Messages a reader takes in one transaction of its own.
const READ: i64 = 500;
/// Turns of all readers before commands get theirs: readers far behind must not keep callers waiting.
const TURNS: u32 = 8;
/// Tries of a message that fails alone, before it is buried.
const TRIES: u32 = 3;
/// How long to wait before a failed delivery is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// What became of one delivery.
enum Delivery {
    /// Nothing can be done now: a gap, an outage, or a test holds it.
    Idle,
    Moved,
    /// Failed; to be tried again a little later.
    Retry,
}

/// What one transaction of a reader settles: messages up to `last`, some of which wait behind a dead letter.
struct Parcel<'s> {
    last: i64,
    messages: Vec<Envelope>,
    parked: Vec<&'s log::Stored>,
    names: Vec<String>,
}

impl Engine {
    /// Lets every reader catch up with its streams. How long the writer may wait for commands before it must come back.
    pub(super) fn deliver_all(&mut self) -> Duration {
        for _ in 0..TURNS {
            let (mut moved, mut retry) = (false, false);
            for index in 0..self.readers.len() {
                let reader = &self.readers[index];
                if reader.position >= self.heads.get(reader.source).copied().unwrap_or(0) {
                    continue;
                }
                match self.deliver(index, READ) {
                    Delivery::Moved => moved = true,
                    Delivery::Retry => retry = true,
                    Delivery::Idle => {}
                }
            }
            if retry {
                return RETRY;
            }
            if !moved {
                return TICK;
            }
        }
        Duration::ZERO
    }

    fn deliver(&mut self, index: usize, limit: i64) -> Delivery {
        let (source, position) = (self.readers[index].source, self.readers[index].position);
        let stored = match futures::executor::block_on(log::read(&mut self.work.tx, source, self.epochs[source], position, limit)) {
            Ok(stored) => stored,
            Err(error) => {
                tracing::error!(%error, source, "cannot read the stream");
                return Delivery::Retry;
            }
        };
        let stored = up_to_gap(&mut self.readers[index], stored);
        let stored = self.up_to_held(index, stored);
        if stored.is_empty() {
            return Delivery::Idle;
        }
        match self.settle_delivery(index, &stored) {
            Ok(()) => Delivery::Moved,
            Err(fault) if fault.is_outage() || matches!(fault, Fault::Fenced(_)) => {
                // Not the message's fault: it counts as no try, and waits for better times.
                tracing::error!(reader = self.readers[index].service.name(), source, position, error = %fault, "delivery is not possible now");
                Delivery::Idle
            }
            Err(_) if stored.len() > 1 => self.deliver(index, (stored.len() / 2).try_into().unwrap_or(1)),
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

    fn settle_delivery(&mut self, index: usize, stored: &[log::Stored]) -> Result<(), Fault> {
        let parcel = self.parcel(index, stored)?;
        let result = self.attempt_delivery(index, &parcel, self.settings.fold);
        match result {
            // A reader further down may be at fault: settle the message alone and let the log deal with what it led to.
            Err(fault) if stored.len() == 1 && self.settings.fold && !fault.is_outage() => self.attempt_delivery(index, &parcel, false),
            result => result,
        }
    }

    fn parcel<'s>(&self, index: usize, stored: &'s [log::Stored]) -> Result<Parcel<'s>, Fault> {
        let reader = &self.readers[index];
        let name = reader.service.name();
        let last = stored.last().map_or(reader.position, |message| message.seq);
        let mut parcel = Parcel { last, messages: Vec::with_capacity(stored.len()), parked: Vec::new(), names: Vec::new() };
        for message in stored.iter().filter(|message| reader.takes(&message.kind)) {
            if reader.parked.contains(&message.key) {
                parcel.parked.push(message);
                continue;
            }
            if cfg!(feature = "testing") {
                parcel.names.push(format!("{name}.{}", message.kind));
            }
            let envelope = message.decode(reader.source)?;
            match self.faults.verdict(name, &message.kind) {
                Verdict::Pass => parcel.messages.push(envelope),
                Verdict::Repeat => parcel.messages.extend([envelope.clone(), envelope]),
                Verdict::Fail => return Err(Fault::Injected(format!("{name} fails {}", message.kind))),
            }
        }
        Ok(parcel)
    }

    fn attempt_delivery(&mut self, index: usize, parcel: &Parcel<'_>, fold: bool) -> Result<(), Fault> {
        let (service, source) = (self.readers[index].service.clone(), self.readers[index].source);
        self.attempt(
            async |engine: &mut Engine| {
                let grave = letters::Grave { reader: service.name(), source, epoch: engine.epochs[source], now: engine.work.now };
                for message in &parcel.parked {
                    grave.park(&mut engine.work.tx, message).await?;
                }
                engine.readers[index].pending = parcel.last;
                let messages: Vec<&Envelope> = parcel.messages.iter().collect();
                if !messages.is_empty() {
                    engine.hand_over(service.as_ref(), &messages).await?;
                }
                if fold {
                    engine.fold().await?;
                }
                engine.flush().await
            },
            &parcel.names,
        )
    }

    /// A message that fails alone: tried a few times, then put aside together with its key, so that the stream flows on.
    fn retry_or_bury(&mut self, index: usize, message: &log::Stored, fault: &Fault) -> Delivery {
        let reader = &mut self.readers[index];
        let (name, source) = (reader.service.name(), reader.source);
        reader.tries += 1;
        if reader.tries < TRIES {
            tracing::warn!(reader = name, source, seq = message.seq, kind = message.kind, error = %fault, "delivery failed, trying again");
            return Delivery::Retry;
        }
        let error = fault.to_string();
        let buried = self.attempt(
            async |engine: &mut Engine| {
                let grave = letters::Grave { reader: name, source, epoch: engine.epochs[source], now: engine.work.now };
                grave.bury(&mut engine.work.tx, message, &error).await?;
                engine.readers[index].pending = message.seq;
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
/// left to read although the stream goes on, that is reported, once.
fn up_to_gap(reader: &mut Reader, mut stored: Vec<log::Stored>) -> Vec<log::Stored> {
    let dense = stored.iter().zip(reader.position + 1..).take_while(|(message, seq)| message.seq == *seq).count();
    stored.truncate(dense);
    if dense == 0 && reader.gap_after != Some(reader.position) {
        let (name, source, position) = (reader.service.name(), reader.source, reader.position);
        tracing::error!(reader = name, source, position, "gap in the stream: the reader stops here");
        metrics::counter!("onrush_stream_gaps_total", "reader" => name, "source" => source).increment(1);
        reader.gap_after = Some(position);
    }
    stored
}
