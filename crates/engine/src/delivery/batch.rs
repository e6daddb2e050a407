//! A delivery batch: the messages of one reader for one transaction, and the transaction that delivers them.

use super::super::{
    dead_letters::DeadLetterStore, envelope::Envelope, fault::Fault, fold::fold, log::StoredMessage, position::Position, readers::Readers,
    setup::EngineSetup, transaction::Transaction, work::Work,
};
use contracts::Timestamp;
use runtime::failpoints::{FaultAction, Faults};

/// The messages that one reader delivers in a transaction, up to `last`. The parked ones wait behind a dead letter.
pub(super) struct DeliveryBatch<'s> {
    index: usize,
    last: Position,
    messages: Vec<Envelope>,
    parked: Vec<&'s StoredMessage>,
    names: Vec<String>,
}

impl<'s> DeliveryBatch<'s> {
    /// Decodes the messages that the reader handles. `Err`: a message cannot be decoded, or a test lets its handler fail.
    pub fn build(faults: &Faults, readers: &Readers, index: usize, stored: &'s [StoredMessage]) -> Result<DeliveryBatch<'s>, Fault> {
        let reader = readers.get(index);
        let name = reader.name();
        let last = stored.last().map_or(reader.position(), StoredMessage::position);
        let mut batch = DeliveryBatch { index, last, messages: Vec::with_capacity(stored.len()), parked: Vec::new(), names: Vec::new() };
        for message in stored.iter().filter(|message| reader.handles(&message.kind)) {
            if reader.is_parked(message.key) {
                batch.parked.push(message);
                continue;
            }
            if cfg!(feature = "testing") {
                batch.names.push(format!("{name}.{}", message.kind));
            }
            let envelope = message.decode(reader.stream().source)?;
            match faults.next_action(name, &message.kind) {
                FaultAction::Pass => batch.messages.push(envelope),
                FaultAction::Repeat => batch.messages.extend([envelope.clone(), envelope]),
                FaultAction::Fail => return Err(Fault::Injected(format!("{name} fails {}", message.kind))),
            }
        }
        Ok(batch)
    }
}

/// Delivers the batches of one service in one transaction.
pub(super) fn attempt_delivery(
    setup: &EngineSetup,
    transaction: &mut Transaction,
    readers: &mut Readers,
    batches: &[DeliveryBatch<'_>],
    is_folded: bool,
) -> Result<(), Fault> {
    let Some(first) = batches.first() else { return Ok(()) };
    let service = readers.get(first.index).service().clone();
    let names: Vec<String> = batches.iter().flat_map(|batch| batch.names.iter().cloned()).collect();
    transaction.attempt(readers, &names, async |work: &mut Work, readers: &mut Readers| {
        for batch in batches {
            let store = dead_letter_store(readers, batch.index, work.now);
            for message in &batch.parked {
                store.park(&mut work.tx, message).await?;
            }
            readers.stage(batch.index, batch.last);
        }
        let messages: Vec<&Envelope> = batches.iter().flat_map(|batch| &batch.messages).collect();
        if !messages.is_empty() {
            work.dispatch(service.as_ref(), &messages).await?;
        }
        if is_folded {
            fold(setup, work, readers).await?;
        }
        setup.flush_services(work).await
    })
}

pub(super) fn dead_letter_store(readers: &Readers, index: usize, now: Timestamp) -> DeadLetterStore {
    let reader = readers.get(index);
    DeadLetterStore { reader: reader.name(), stream: reader.stream(), now }
}
