//! Folding: dispatches the messages that a transaction emits to their readers before it commits.

use super::{
    dead_letters::DeadLetterStore, envelope::Envelope, fault::Fault, log::StoredMessage, position::Position, readers::Readers,
    setup::EngineSetup, work::Work,
};
use runtime::failpoints::{FaultAction, Faults};
use std::iter::repeat_n;

/// Most dispatch rounds in one transaction. A checkout takes about ten. Messages left after the last round wait in the outbox.
const MAX_ROUNDS: usize = 64;
/// Most messages dispatched in one transaction, which bounds its length.
const MAX_FOLDED: usize = 20_000;

/// Dispatches emitted messages to their readers in rounds, inside the transaction.
pub(super) async fn fold(setup: &EngineSetup, work: &mut Work, readers: &mut Readers) -> Result<(), Fault> {
    let mut folded = 0;
    for _ in 0..MAX_ROUNDS {
        if folded >= MAX_FOLDED {
            break;
        }
        let round = work.take_emitted();
        if round.is_empty() {
            break;
        }
        folded += round.len();
        let result = dispatch_round(setup, work, readers, &round).await;
        work.keep_dispatched(round);
        result?;
    }
    if folded > 0 {
        metrics::histogram!("onrush_batch_hops_folded").record(folded as f64);
    }
    Ok(())
}

/// Dispatches a round to every reader that has read everything before it: one call per service, messages in the order they were emitted.
async fn dispatch_round(setup: &EngineSetup, work: &mut Work, readers: &mut Readers, round: &[Envelope]) -> Result<(), Fault> {
    for service in setup.services.iter() {
        // Number of times this service gets each message of the round. Counting keeps the order of emission across all streams.
        let mut times = vec![0; round.len()];
        for index in 0..readers.count() {
            if readers.get(index).name() == service.name() {
                accept_round(&setup.faults, work, readers, index, round, &mut times).await?;
            }
        }
        let accepted: Vec<&Envelope> = round.iter().zip(times).flat_map(|(envelope, times)| repeat_n(envelope, times)).collect();
        if !accepted.is_empty() {
            work.dispatch(service.as_ref(), &accepted).await?;
        }
    }
    Ok(())
}

/// Counts the messages of `round` that this reader gets. Stages the position behind the whole round, or nothing when the reader is behind.
async fn accept_round(
    faults: &Faults,
    work: &mut Work,
    readers: &mut Readers,
    index: usize,
    round: &[Envelope],
    times: &mut [usize],
) -> Result<(), Fault> {
    let reader = readers.get(index);
    let (name, stream) = (reader.name(), reader.stream());
    let own = || round.iter().enumerate().filter(|(_, envelope)| envelope.source == stream.source);
    let (Some((_, first)), Some((_, last))) = (own().next(), own().next_back()) else { return Ok(()) };
    if reader.reached().seq != first.seq - 1 {
        return Ok(());
    }
    let wanted: Vec<(usize, &Envelope)> = own().filter(|(_, envelope)| reader.subscribes_to(envelope.message.kind())).collect();
    if wanted.iter().any(|(_, envelope)| faults.is_held(name, envelope.message.kind())) {
        return Ok(());
    }
    for (at, envelope) in wanted {
        if reader.is_parked(envelope.key) {
            let store = DeadLetterStore { reader: name, stream, now: work.now };
            store.park(&mut work.tx, &StoredMessage::of(envelope)?).await?;
            continue;
        }
        times[at] = match faults.next_action(name, envelope.message.kind()) {
            FaultAction::Pass => 1,
            FaultAction::Repeat => 2,
            FaultAction::Fail => return Err(Fault::Injected(format!("{name} fails {}", envelope.message.kind()))),
        };
    }
    readers.stage(index, Position { seq: last.seq, offset: None });
    Ok(())
}
