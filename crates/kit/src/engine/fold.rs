//! Folding: dispatches the messages that a transaction emits to their readers before it commits.

use super::{Engine, Envelope, Fault, dead_letters, log, reader::Position};
use crate::failpoints::FaultAction;
use std::iter::repeat_n;

/// Most dispatch rounds in one transaction. A checkout takes about ten. Messages left after the last round wait in the outbox.
const MAX_ROUNDS: usize = 64;
/// Most messages dispatched in one transaction, which bounds its length.
const MAX_FOLDED: usize = 20_000;

impl Engine {
    /// Dispatches emitted messages to their readers in rounds, inside the transaction.
    pub(super) async fn fold(&mut self) -> Result<(), Fault> {
        let mut folded = 0;
        for _ in 0..MAX_ROUNDS {
            if self.work.emitted.is_empty() || folded >= MAX_FOLDED {
                break;
            }
            let round = std::mem::take(&mut self.work.emitted);
            folded += round.len();
            let result = self.dispatch_round(&round).await;
            self.work.dispatched.extend(round);
            result?;
        }
        if folded > 0 {
            metrics::histogram!("onrush_batch_hops_folded").record(folded as f64);
        }
        Ok(())
    }

    /// Dispatches a round to every reader that has read everything before it: one call per service, messages in the order they were
    /// emitted.
    async fn dispatch_round(&mut self, round: &[Envelope]) -> Result<(), Fault> {
        for service in self.services.clone() {
            // Number of times this service gets each message of the round. Counting keeps the order of emission across all streams.
            let mut times = vec![0; round.len()];
            for index in 0..self.readers.len() {
                if self.readers[index].service.name() == service.name() {
                    self.accept_round(index, round, &mut times).await?;
                }
            }
            let accepted: Vec<&Envelope> = round.iter().zip(times).flat_map(|(envelope, times)| repeat_n(envelope, times)).collect();
            if !accepted.is_empty() {
                self.dispatch(service.as_ref(), &accepted).await?;
            }
        }
        Ok(())
    }

    /// Counts the messages of `round` that this reader gets. Moves its pending position past the whole round, or not at all when the
    /// reader is behind.
    async fn accept_round(&mut self, index: usize, round: &[Envelope], times: &mut [usize]) -> Result<(), Fault> {
        let reader = &mut self.readers[index];
        let own = || round.iter().enumerate().filter(|(_, envelope)| envelope.source == reader.stream.source);
        let (Some((_, first)), Some((_, last))) = (own().next(), own().next_back()) else { return Ok(()) };
        if reader.pending.unwrap_or(reader.position).seq != first.seq - 1 {
            return Ok(());
        }
        let wanted: Vec<(usize, &Envelope)> = own().filter(|(_, envelope)| reader.kinds.contains(envelope.message.kind())).collect();
        let name = reader.service.name();
        if wanted.iter().any(|(_, envelope)| self.faults.is_held(name, envelope.message.kind())) {
            return Ok(());
        }
        reader.pending = Some(Position { seq: last.seq, offset: None });
        for (at, envelope) in wanted {
            if reader.parked_keys.contains(&envelope.key) {
                let store = dead_letters::DeadLetterStore { reader: name, stream: reader.stream, now: self.work.now };
                store.park(&mut self.work.tx, &log::StoredMessage::of(envelope)?).await?;
                continue;
            }
            times[at] = match self.faults.next_action(name, envelope.message.kind()) {
                FaultAction::Pass => 1,
                FaultAction::Repeat => 2,
                FaultAction::Fail => return Err(Fault::Injected(format!("{name} fails {}", envelope.message.kind()))),
            };
        }
        Ok(())
    }
}
