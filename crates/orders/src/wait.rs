//! `Prefer: wait=<seconds>`: delays the answer until the order comes to rest.
//!
//! The transaction that brings the order to rest writes the answer. When the wait ends first, or the process is about to stop, the current
//! state becomes the answer. The answer is stored with the idempotency key, so that a repeat gets the same one.
//!
//! Another process may bring the order to rest. It notifies the others. A notification may get lost, so callers also poll.

use crate::{
    Orders,
    loaded::{self, LoadedOrders},
    model::Checkout,
    store::{self, OpenAnswer},
    view::{self, OrderHistory},
};
use axum::response::Response;
use contracts::{Code, OrderId};
use kit::{
    Answer, Command, Outcome, Reply, Work,
    batch::Deferred,
    engine::Fault,
    http::{self, Preferences, Problem, Trace},
    idempotency::{self, IdempotencyKey},
};
use parking_lot::{Mutex, MutexGuard};
use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};
use tokio::sync::{Notify, futures::OwnedNotified};
use uuid::Uuid;

/// Maximum wait of a client, below the time-outs of common proxies.
const MAX_WAIT: Duration = Duration::from_secs(25);
/// Interval at which a waiting caller polls for its answer when other processes write to the same database.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Maximum wait of a caller, and the trace id of its request.
#[derive(Clone, Copy, Debug)]
pub struct WaitPreference {
    pub at_most: Duration,
    pub trace: Uuid,
}

/// Callers of this process that wait for an order.
#[derive(Clone, Default)]
pub struct Waiters(Arc<Mutex<HashMap<OrderId, WaitSlot>>>);

#[derive(Default)]
struct WaitSlot {
    notify: Arc<Notify>,
    callers: usize,
}

/// Registration of one waiting caller. Dropping the last one of an order removes its slot.
struct WaitGuard {
    waiters: Waiters,
    id: OrderId,
    notify: Arc<Notify>,
    /// Completes at the next wake-up of the order.
    woken: Pin<Box<OwnedNotified>>,
}

impl Waiters {
    fn register(&self, id: OrderId) -> WaitGuard {
        let mut slots = self.lock();
        let slot = slots.entry(id).or_default();
        slot.callers += 1;
        let mut woken = Box::pin(Arc::clone(&slot.notify).notified_owned());
        woken.as_mut().enable();
        WaitGuard { waiters: self.clone(), id, notify: Arc::clone(&slot.notify), woken }
    }

    pub fn wake(&self, id: OrderId) {
        let woken = self.lock().remove(&id);
        if let Some(slot) = woken {
            slot.notify.notify_waiters();
        }
    }

    /// Wakes all callers, because notifications may have been lost.
    pub fn wake_all(&self) {
        let woken = std::mem::take(&mut *self.lock());
        for slot in woken.into_values() {
            slot.notify.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OrderId, WaitSlot>> {
        self.0.lock()
    }
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        let mut slots = self.waiters.lock();
        // A wake-up removes the slot. A slot with another `Notify` belongs to later callers.
        let Some(slot) = slots.get_mut(&self.id).filter(|slot| Arc::ptr_eq(&slot.notify, &self.notify)) else { return };
        slot.callers -= 1;
        if slot.callers == 0 {
            slots.remove(&self.id);
        }
    }
}

/// Wakes the callers that wait for an order, because another process brought it to rest. `None`: wakes all.
pub fn on_notification(orders: &Orders, text: Option<&str>) {
    match text.map(Uuid::try_parse) {
        Some(Ok(id)) => orders.waiters.wake(OrderId(id)),
        _ => orders.waiters.wake_all(),
    }
}

/// Reads `wait=<seconds>` from the `Prefer` headers. Zero when absent.
pub fn parse_prefer(headers: &axum::http::HeaderMap, trace: Trace) -> WaitPreference {
    WaitPreference { at_most: Preferences::of(headers).wait.min(MAX_WAIT), trace: trace.0 }
}

/// Submits a command about an order, and answers when the order comes to rest or the wait ends.
pub async fn submit_and_wait<C: Command<Service = Orders>>(
    orders: &Arc<Orders>,
    id: OrderId,
    command: C,
    key: IdempotencyKey,
    wait: WaitPreference,
) -> Result<Response, Problem> {
    // Registered before the order can come to rest, so that no wake-up is lost.
    let mut waiting = orders.waiters.register(id);
    let id = match orders.kit.batch.submit(orders, command, Some(key.clone()), wait.trace).await? {
        Reply::Answer(answer) => return Ok(http::answer(answer)),
        Reply::Pending(id) => OrderId(id),
    };
    let deadline = tokio::time::sleep(wait.at_most);
    let draining = orders.kit.draining.deadline();
    tokio::pin!(deadline, draining);
    let mut is_over = false;
    if waiting.id != id {
        // An earlier request with the same key created the order, so this caller waits for that order.
        waiting = orders.waiters.register(id);
        if let Some(answer) = stored_answer(orders, C::OPERATION, &key).await? {
            return Ok(http::answer(answer));
        }
    }
    while !is_over {
        tokio::select! {
            () = waiting.woken.as_mut() => {}
            () = tokio::time::sleep(POLL_INTERVAL), if orders.kit.is_shared() => {}
            () = &mut deadline => is_over = true,
            () = &mut draining => is_over = true,
        }
        waiting = orders.waiters.register(id);
        if let Some(answer) = stored_answer(orders, C::OPERATION, &key).await? {
            return Ok(http::answer(answer));
        }
    }
    let open = OpenAnswer { order_id: id, operation: C::OPERATION.to_owned(), scope: key.scope, key: key.key.clone(), trace: wait.trace };
    orders.kit.batch.submit(orders, EndWait { open }, None, wait.trace).await?;
    // Read back from the database, because another transaction may have stored the answer first.
    let settled = stored_answer(orders, C::OPERATION, &key).await?;
    settled.map(http::answer).ok_or_else(|| Code::Internal.into())
}

async fn stored_answer(orders: &Orders, operation: &str, key: &IdempotencyKey) -> Result<Option<Answer>, Problem> {
    let mut reader = orders.kit.db.reader().await?;
    Ok(idempotency::answer(&mut reader, "orders", operation, key.scope, &key.key).await?)
}

/// Completes the answer of a wait that ended with the current state, unless it was completed before. Other waits for the order continue.
struct EndWait {
    open: OpenAnswer,
}

impl Command for EndWait {
    type Service = Orders;
    const OPERATION: &'static str = "orders.settle_answer";

    async fn handle<'a>(orders: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        loaded::load(orders, work, commands.iter().map(|command| command.open.order_id)).await?;
        let (tx, loaded) = work.rows::<LoadedOrders>();
        let settled: Vec<(&Checkout, &OpenAnswer)> =
            commands.iter().map(|EndWait { open }| Ok((loaded.require(open.order_id)?, open))).collect::<Result<_, Fault>>()?;
        loaded::complete_answers(tx, &settled).await?;
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}

/// Implements [`Command::resolve`]: answers when the order is at rest or the caller does not wait. Otherwise stores an open answer.
pub async fn resolve<C: Command>(
    work: &mut Work,
    deferred: &[Deferred<'_, C>],
    wait: impl Fn(&C) -> Option<WaitPreference>,
) -> Result<Vec<Option<Answer>>, Fault> {
    let (tx, loaded) = work.rows::<LoadedOrders>();
    let (mut open, mut ready) = (Vec::new(), Vec::new());
    for (index, Deferred { command, key, id }) in deferred.iter().enumerate() {
        let checkout = loaded.require(OrderId(*id))?;
        match (wait(command).filter(|wait| !wait.at_most.is_zero()), key) {
            (Some(wait), Some(key)) if !checkout.is_at_rest() => {
                let operation = C::OPERATION.to_owned();
                open.push(OpenAnswer { order_id: checkout.order.id, operation, scope: key.scope, key: key.key.clone(), trace: wait.trace });
            }
            _ => ready.push((index, checkout)),
        }
    }
    store::add_open_answers(tx, &open).await?;
    let checkouts: Vec<&Checkout> = ready.iter().map(|(_, checkout)| *checkout).collect();
    let histories = OrderHistory::load_with_unsaved(tx, &checkouts).await?;
    let mut answers = vec![None; deferred.len()];
    for ((index, checkout), history) in ready.into_iter().zip(&histories) {
        answers[index] = Some(view::answer_for(checkout, history, C::OPERATION, None)?);
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(waiters: &Waiters) -> usize {
        waiters.lock().len()
    }

    #[tokio::test]
    async fn dropping_the_last_guard_removes_the_slot() {
        let (waiters, id) = (Waiters::default(), OrderId(Uuid::from_u128(1)));
        let (first, mut second) = (waiters.register(id), waiters.register(id));
        drop(first);
        assert_eq!(slots(&waiters), 1);
        waiters.wake(id);
        second.woken.as_mut().await;
        let next = waiters.register(id);
        drop(second);
        assert_eq!(slots(&waiters), 1, "the new slot belongs to the next caller");
        drop(next);
        assert_eq!(slots(&waiters), 0);
        waiters.wake(id);
    }

    #[test]
    fn the_wait_is_read_from_the_prefer_header() {
        let preferred = |texts: &[&'static str]| {
            let mut headers = axum::http::HeaderMap::new();
            for text in texts {
                headers.append("prefer", axum::http::HeaderValue::from_static(text));
            }
            super::parse_prefer(&headers, Trace(Uuid::nil())).at_most.as_secs()
        };
        assert_eq!(preferred(&["wait=10"]), 10);
        assert_eq!(preferred(&["respond-async, Wait = 7"]), 7);
        assert_eq!(preferred(&["handling=strict", "wait=3"]), 3);
        assert_eq!(preferred(&["wait=600"]), MAX_WAIT.as_secs());
        for none in [&["wait=soon"][..], &["wait"], &["wait=-1"], &["wait=99999999999999999999"], &[]] {
            assert_eq!(preferred(none), 0, "{none:?}");
        }
    }
}
