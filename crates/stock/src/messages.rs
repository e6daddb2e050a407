//! What stock does on others' messages: the saga's steps of orders, and the catalogue's new SKUs.
//!
//! Any number of messages is decided in the order they came, on rows that are loaded once; [`flush`] saves them once per transaction.

use crate::{
    availability::Availability,
    model::{Book, Committed, NotLoaded, State},
    store,
};
use contracts::{
    Message, OrderId, Refusal, Sku, Timestamp,
    messages::{RoutingSlip, StepRefused, Stop, Way},
};
use kit::{Fault, Work, engine::Envelope};
use std::sync::Arc;

pub const READS: &[&str] = &[
    "skus.listed",
    "stock.reserve",
    "stock.take",
    "stock.release",
    "stock.commit",
    "orders.slip",
    "coupons.slip",
    "wallet.slip",
    "payments.slip",
];

const ME: &str = "stock";

impl From<NotLoaded> for Fault {
    fn from(NotLoaded(sku): NotLoaded) -> Self {
        Fault::Bug(format!("stock of {sku} was not loaded before it was needed"))
    }
}

pub async fn consume(work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut book = work.take_stash::<Book>();
    load(work, &mut book, messages).await?;
    for envelope in messages {
        let answer = match &envelope.message {
            Message::StockReserve(ask) => (ask.order_id, book.reserve(ask)?),
            Message::StockTake(ask) => (ask.order_id, book.take(ask)?),
            Message::StockRelease(ask) => (ask.order_id, book.release(ask.order_id, work.now)?),
            Message::StockCommit(ask) => {
                report(ask.order_id, book.commit(ask.order_id, work.now)?);
                continue;
            }
            Message::SkusListed(listed) => {
                book.list(listed, work.now);
                continue;
            }
            other => {
                if let Some(slip) = other.slip().filter(|slip| slip.call(ME).is_some()) {
                    let slip = travel(&mut book, slip.clone(), work.now)?;
                    work.emit(slip.order_id, Message::StockSlip(slip))?;
                }
                continue;
            }
        };
        if let Message::StockRefused(refused) | Message::StockTakeRefused(refused) = &answer.1 {
            count(refused);
        }
        work.emit(answer.0, answer.1)?;
    }
    work.put_stash(book);
    Ok(())
}

/// Does or undoes what a slip calls for, once or more often in a row: what stock reserves and takes may be neighbours.
fn travel(book: &mut Book, mut slip: RoutingSlip, now: Timestamp) -> Result<RoutingSlip, NotLoaded> {
    while let Some((way, stop)) = slip.call(ME) {
        let answered = match (way, stop) {
            (Way::Back, _) => {
                book.release(slip.order_id, now)?;
                None
            }
            (Way::Forward, Stop::StockReserve(ask)) => Some(book.reserve(ask)?),
            (Way::Forward, Stop::StockTake(ask)) => Some(book.take(ask)?),
            (Way::Forward, _) => break,
        };
        match answered {
            None => slip.undone(now),
            Some(Message::StockRefused(refused) | Message::StockTakeRefused(refused)) => {
                count(&refused);
                slip.answer(Err(Refusal::new(refused.code, refused.detail)), now);
            }
            Some(_) => slip.answer(Ok(()), now),
        }
    }
    Ok(slip)
}

fn count(refused: &StepRefused) {
    metrics::counter!("onrush_stock_refused_total", "code" => refused.code.slug()).increment(1);
}

async fn load(work: &mut Work, book: &mut Book, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut orders: Vec<OrderId> = Vec::with_capacity(messages.len());
    let mut skus: Vec<Sku> = Vec::with_capacity(messages.len());
    for envelope in messages {
        match &envelope.message {
            Message::StockReserve(ask) => {
                orders.push(ask.order_id);
                skus.extend(ask.reserve.iter().chain(&ask.check_only).map(|line| line.sku));
            }
            Message::StockTake(ask) => {
                orders.push(ask.order_id);
                skus.extend(ask.lines.iter().map(|line| line.sku));
            }
            Message::StockRelease(ask) | Message::StockCommit(ask) => orders.push(ask.order_id),
            Message::SkusListed(listed) => skus.extend(listed.skus.iter().map(|listed| listed.sku)),
            other => {
                let Some(slip) = other.slip().filter(|slip| slip.call(ME).is_some()) else { continue };
                orders.push(slip.order_id);
                for stop in &slip.stops {
                    match stop {
                        Stop::StockReserve(ask) => skus.extend(ask.reserve.iter().chain(&ask.check_only).map(|line| line.sku)),
                        Stop::StockTake(ask) => skus.extend(ask.lines.iter().map(|line| line.sku)),
                        _ => {}
                    }
                }
            }
        }
    }
    skus.extend(store::load_orders(&mut work.tx, book, orders).await?);
    store::load_items(&mut work.tx, book, skus).await?;
    Ok(())
}

/// A commit without a hold must not happen: the order was paid for what is not set aside. It cannot be refused any more, so it is shouted.
/// After an undo it is nothing: a paid order was cancelled, and its slip back overtook the commit in another stream.
fn report(order_id: OrderId, committed: Committed) {
    if let Committed::NothingHeld(state) = committed {
        if matches!(state, Some(State::Released | State::Returned)) {
            tracing::info!(order.id = %order_id, ?state, "an order was undone before its sale was made final");
            return;
        }
        metrics::counter!("onrush_stock_commits_without_hold_total").increment(1);
        tracing::error!(order.id = %order_id, ?state, "an order was paid of which stock holds nothing");
    }
}

/// Saves what this transaction changed, and tells the memory once that is durable.
pub async fn flush(work: &mut Work, availability: &Arc<Availability>) -> Result<(), Fault> {
    let book = work.take_stash::<Book>();
    store::save(&mut work.tx, &book).await?;
    let changed: Vec<(Sku, i64)> = book.changes().items.iter().map(|(item, _)| (item.sku, item.available())).collect();
    if !changed.is_empty() {
        let availability = Arc::clone(availability);
        work.after_commit(move || availability.committed(&changed));
    }
    Ok(())
}
