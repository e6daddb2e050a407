//! Effects of other services' messages: the saga steps of orders, and new SKUs of the catalogue.
//!
//! Handles messages in order of arrival, on rows that are loaded once per transaction. [`flush`] saves them once.

use crate::{
    Stock,
    model::{CommitOutcome, LoadedStock, NotLoaded, ReservationState},
    store,
};
use contracts::{
    Kind, Message, OrderId, Refusal, Sku, Timestamp,
    messages::{Direction, RoutingSlip, SlipStep, StepRefused},
};
use kit::{Fault, Work, engine::Envelope};
use std::sync::Arc;

pub const READS: &[Kind] = &[
    Kind::SkusListed,
    Kind::StockReserve,
    Kind::StockTake,
    Kind::StockRelease,
    Kind::StockCommit,
    Kind::OrdersSlip,
    Kind::CouponsSlip,
    Kind::WalletSlip,
    Kind::PaymentsSlip,
];

const SERVICE: &str = "stock";

impl From<NotLoaded> for Fault {
    fn from(NotLoaded(sku): NotLoaded) -> Self {
        Fault::Bug(format!("the stock of {sku} was needed but not loaded"))
    }
}

pub async fn consume(_: &Stock, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut loaded = work.take_stash::<LoadedStock>();
    load(work, &mut loaded, messages).await?;
    for envelope in messages {
        let answer = match &envelope.message {
            Message::StockReserve(request) => (request.order_id, loaded.reserve(request)?),
            Message::StockTake(request) => (request.order_id, loaded.take(request)?),
            Message::StockRelease(request) => (request.order_id, loaded.release(request.order_id, work.now)?),
            Message::StockCommit(request) => {
                report_missing_hold(request.order_id, loaded.commit(request.order_id, work.now)?);
                continue;
            }
            Message::SkusListed(listed) => {
                loaded.list_skus(listed, work.now);
                continue;
            }
            other => {
                if let Some(slip) = other.slip().filter(|slip| slip.next_step(SERVICE).is_some()) {
                    let slip = advance_slip(&mut loaded, slip.clone(), work.now)?;
                    work.emit(slip.order_id, Message::StockSlip(slip))?;
                }
                continue;
            }
        };
        if let Message::StockRefused(refused) | Message::StockTakeRefused(refused) = &answer.1 {
            count_refusal(refused);
        }
        work.emit(answer.0, answer.1)?;
    }
    work.put_stash(loaded);
    Ok(())
}

/// Carries out the steps that a slip has for stock, one or several in a row, because reserve and take may be neighbours.
fn advance_slip(loaded: &mut LoadedStock, mut slip: RoutingSlip, now: Timestamp) -> Result<RoutingSlip, NotLoaded> {
    while let Some((direction, step)) = slip.next_step(SERVICE) {
        let answer = match (direction, step) {
            (Direction::Back, _) => {
                loaded.release(slip.order_id, now)?;
                None
            }
            (Direction::Forward, SlipStep::StockReserve(request)) => Some(loaded.reserve(request)?),
            (Direction::Forward, SlipStep::StockTake(request)) => Some(loaded.take(request)?),
            (Direction::Forward, _) => break,
        };
        match answer {
            None => slip.record_undone(now),
            Some(Message::StockRefused(refused) | Message::StockTakeRefused(refused)) => {
                count_refusal(&refused);
                slip.record_result(Err(Refusal::new(refused.code, refused.detail)), now);
            }
            Some(_) => slip.record_result(Ok(()), now),
        }
    }
    Ok(slip)
}

fn count_refusal(refused: &StepRefused) {
    metrics::counter!("onrush_stock_refused_total", "code" => refused.code.slug()).increment(1);
}

async fn load(work: &mut Work, loaded: &mut LoadedStock, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut orders: Vec<OrderId> = Vec::with_capacity(messages.len());
    let mut skus: Vec<Sku> = Vec::with_capacity(messages.len());
    for envelope in messages {
        match &envelope.message {
            Message::StockReserve(request) => {
                orders.push(request.order_id);
                skus.extend(request.reserve.iter().chain(&request.check_only).map(|line| line.sku));
            }
            Message::StockTake(request) => {
                orders.push(request.order_id);
                skus.extend(request.lines.iter().map(|line| line.sku));
            }
            Message::StockRelease(request) | Message::StockCommit(request) => orders.push(request.order_id),
            Message::SkusListed(listed) => skus.extend(listed.skus.iter().map(|listed| listed.sku)),
            other => {
                let Some(slip) = other.slip().filter(|slip| slip.next_step(SERVICE).is_some()) else { continue };
                orders.push(slip.order_id);
                for stop in &slip.stops {
                    match stop {
                        SlipStep::StockReserve(request) => {
                            skus.extend(request.reserve.iter().chain(&request.check_only).map(|line| line.sku))
                        }
                        SlipStep::StockTake(request) => skus.extend(request.lines.iter().map(|line| line.sku)),
                        _ => {}
                    }
                }
            }
        }
    }
    skus.extend(store::load_orders(&mut work.tx, loaded, orders).await?);
    store::load_items(&mut work.tx, loaded, skus).await?;
    Ok(())
}

/// Reports a commit without a hold: the order was paid, but its units are not reserved. It is too late to refuse it.
/// After an undo this is harmless: a paid order was cancelled, and its slip back overtook the commit in another stream.
fn report_missing_hold(order_id: OrderId, outcome: CommitOutcome) {
    if let CommitOutcome::NothingHeld(state) = outcome {
        if matches!(state, Some(ReservationState::Released | ReservationState::Returned)) {
            tracing::info!(order.id = %order_id, ?state, "commit skipped: the order was undone before");
            return;
        }
        metrics::counter!("onrush_stock_commits_without_hold_total").increment(1);
        tracing::error!(order.id = %order_id, ?state, "commit without hold: stock holds nothing for a paid order");
    }
}

/// Saves the changes of this transaction, and updates the cache after the commit.
pub async fn flush(stock: &Stock, work: &mut Work) -> Result<(), Fault> {
    let (tx, loaded) = work.rows::<LoadedStock>();
    let changed: Vec<(Sku, i64)> = store::save(tx, loaded).await?;
    if !changed.is_empty() {
        let availability = Arc::clone(&stock.availability);
        work.after_commit(move || availability.insert_committed(&changed));
    }
    Ok(())
}
