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
    messages::{Participant, RequestToStock, SagaAction, execute_tasks, saga_reads, saga_tasks},
};
use kit::{Fault, Work, engine::Envelope};
use std::sync::{Arc, LazyLock};

pub static READS: LazyLock<Vec<Kind>> = LazyLock::new(|| saga_reads("stock", &[Kind::SkusListed]));

impl From<NotLoaded> for Fault {
    fn from(NotLoaded(sku): NotLoaded) -> Self {
        Fault::Bug(format!("the stock of {sku} was needed but not loaded"))
    }
}

impl Participant for LoadedStock {
    type Request<'m> = RequestToStock<'m>;
    type Error = NotLoaded;

    fn execute(&mut self, request: RequestToStock<'_>, _: Timestamp) -> Result<Result<(), Refusal>, NotLoaded> {
        let result = match request {
            RequestToStock::StockReserve(request) => self.reserve(request)?,
            RequestToStock::StockTake(request) => self.take(request)?,
        };
        if let Err(refusal) = &result {
            metrics::counter!("onrush_stock_refused_total", "code" => refusal.code.slug()).increment(1);
        }
        Ok(result)
    }

    fn undo(&mut self, order_id: OrderId, now: Timestamp) -> Result<(), NotLoaded> {
        self.release(order_id, now)
    }

    fn commit(&mut self, order_id: OrderId, now: Timestamp) -> Result<(), NotLoaded> {
        report_missing_hold(order_id, self.commit(order_id, now)?);
        Ok(())
    }
}

pub async fn consume(_: &Stock, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    load(work, messages).await?;
    let now = work.now;
    for envelope in messages {
        let loaded = work.loaded::<LoadedStock>();
        if let Message::SkusListed(listed) = &envelope.message {
            loaded.list_skus(listed, now);
        } else if let Some(answer) = execute_tasks(loaded, &envelope.message, now)? {
            work.emit(envelope.key, answer)?;
        }
    }
    Ok(())
}

async fn load(work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
    let mut orders: Vec<OrderId> = Vec::with_capacity(messages.len());
    let mut skus: Vec<Sku> = Vec::with_capacity(messages.len());
    for envelope in messages {
        if let Message::SkusListed(listed) = &envelope.message {
            skus.extend(listed.skus.iter().map(|listed| listed.sku));
        }
        for task in saga_tasks::<RequestToStock<'_>>(&envelope.message) {
            orders.push(task.order_id);
            match task.action {
                SagaAction::Do(RequestToStock::StockReserve(request)) => {
                    skus.extend(request.reserve.iter().chain(&request.check_only).map(|line| line.sku));
                }
                SagaAction::Do(RequestToStock::StockTake(request)) => skus.extend(request.lines.iter().map(|line| line.sku)),
                SagaAction::Undo(_) | SagaAction::Commit => {}
            }
        }
    }
    let (tx, loaded) = work.rows::<LoadedStock>();
    skus.extend(store::load_orders(tx, loaded, orders).await?);
    store::load_items(tx, loaded, skus).await?;
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
