//! What stock does on others' messages: the saga's steps of orders, and the catalogue's new SKUs.
//!
//! Any number of messages is decided in the order they came, on rows that are loaded once; [`flush`] saves them once per transaction.

use crate::{
    availability::Availability,
    model::{Book, Committed, NotLoaded},
    store,
};
use contracts::{Message, OrderId, Sku};
use kit::{Fault, Work, engine::Envelope};
use std::sync::Arc;

pub const READS: &[&str] = &["skus.listed", "stock.reserve", "stock.take", "stock.release", "stock.commit"];

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
            _ => continue,
        };
        if let Message::StockRefused(refused) | Message::StockTakeRefused(refused) = &answer.1 {
            metrics::counter!("onrush_stock_refused_total", "code" => refused.code.slug()).increment(1);
        }
        work.emit(answer.0, answer.1)?;
    }
    work.put_stash(book);
    Ok(())
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
            _ => {}
        }
    }
    skus.extend(store::load_orders(&mut work.tx, book, orders).await?);
    store::load_items(&mut work.tx, book, skus).await?;
    Ok(())
}

/// A commit without a hold must not happen: the order was paid for what is not set aside. It cannot be refused any more, so it is shouted.
fn report(order_id: OrderId, committed: Committed) {
    if let Committed::NothingHeld(state) = committed {
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
