//! `Prefer: wait`: callers that want their order's answer when it rests, not before.
//!
//! The answer itself is written by the transaction that brings the order to rest. When the wait is over first, or the process is about to
//! stop, the state as it then is becomes the answer. Either way it is stored with the key, so that a repeat gets the same.
//!
//! Another process may be the one that brings the order to rest. It tells the others; as that word may get lost, callers look from time to
//! time.

use crate::{
    Orders,
    model::Checkout,
    store::{self, OpenAnswer},
    touched::{self, Touched},
    view::{self, History},
};
use axum::response::Response;
use contracts::{Code, OrderId};
use kit::{
    Answer, Command, Outcome, Reply, Work,
    batch::Later,
    engine::Fault,
    http::{self, Problem, Trace},
    idempotency::{self, IdempotencyKey},
};
use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, futures::OwnedNotified};
use uuid::Uuid;

/// The longest wait a client may ask for; below the time-outs of common proxies.
const MAX_WAIT: Duration = Duration::from_secs(25);
/// How often a caller looks whose order other processes may work on.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a caller wants to wait, and the request that its answer belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    pub at_most: Duration,
    pub trace: Uuid,
}

/// Who waits for which order, in this process.
#[derive(Clone, Default)]
pub struct Waiters(Arc<Mutex<HashMap<OrderId, Room>>>);

#[derive(Default)]
struct Room {
    notify: Arc<Notify>,
    callers: usize,
}

/// One that waits. The last one to go takes the room along.
struct Waiting {
    waiters: Waiters,
    id: OrderId,
    notify: Arc<Notify>,
    /// Ready after the next wake.
    woken: Pin<Box<OwnedNotified>>,
}

impl Waiters {
    fn join(&self, id: OrderId) -> Waiting {
        let mut rooms = self.lock();
        let room = rooms.entry(id).or_default();
        room.callers += 1;
        let mut woken = Box::pin(Arc::clone(&room.notify).notified_owned());
        woken.as_mut().enable();
        Waiting { waiters: self.clone(), id, notify: Arc::clone(&room.notify), woken }
    }

    pub fn wake(&self, id: OrderId) {
        let woken = self.lock().remove(&id);
        if let Some(room) = woken {
            room.notify.notify_waiters();
        }
    }

    /// Something may have come to rest: everybody looks.
    pub fn wake_all(&self) {
        let woken = std::mem::take(&mut *self.lock());
        for room in woken.into_values() {
            room.notify.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OrderId, Room>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut rooms = self.waiters.lock();
        // After a wake the room is gone, and one that is there now is someone else's.
        let Some(room) = rooms.get_mut(&self.id).filter(|room| Arc::ptr_eq(&room.notify, &self.notify)) else { return };
        room.callers -= 1;
        if room.callers == 0 {
            rooms.remove(&self.id);
        }
    }
}

/// The `wait=<seconds>` of a `Prefer` header; zero when there is none.
pub fn preferred(headers: &axum::http::HeaderMap, trace: Trace) -> Wait {
    let texts = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let seconds = texts
        .flat_map(|text| text.split(','))
        .filter_map(|part| part.split_once('='))
        .find_map(|(name, value)| if name.trim().eq_ignore_ascii_case("wait") { value.trim().parse().ok() } else { None })
        .unwrap_or(0);
    Wait { at_most: Duration::from_secs(seconds).min(MAX_WAIT), trace: trace.0 }
}

/// Submits a command about an order's checkout and answers when the order rests, or when the wait is over.
pub async fn run<C: Command<Service = Orders>>(
    orders: &Arc<Orders>,
    id: OrderId,
    command: C,
    key: IdempotencyKey,
    wait: Wait,
) -> Result<Response, Problem> {
    // Joined before the order can come to rest, so that no wake is lost.
    let mut waiting = orders.waiters.join(id);
    let id = match orders.kit.submit(orders, command, Some(key.clone()), wait.trace).await? {
        Reply::Answer(answer) => return Ok(http::answer(answer)),
        Reply::Pending(id) => OrderId(id),
    };
    let deadline = tokio::time::sleep(wait.at_most);
    let leaving = orders.kit.leaving.last_wait();
    tokio::pin!(deadline, leaving);
    let mut is_over = false;
    if waiting.id != id {
        // The key was another request's a moment ago, and so is the order.
        waiting = orders.waiters.join(id);
        if let Some(answer) = stored_answer(orders, C::OPERATION, &key).await? {
            return Ok(http::answer(answer));
        }
    }
    while !is_over {
        tokio::select! {
            () = waiting.woken.as_mut() => {}
            () = tokio::time::sleep(LOOK_EVERY), if orders.kit.is_shared() => {}
            () = &mut deadline => is_over = true,
            () = &mut leaving => is_over = true,
        }
        waiting = orders.waiters.join(id);
        if let Some(answer) = stored_answer(orders, C::OPERATION, &key).await? {
            return Ok(http::answer(answer));
        }
    }
    let open = OpenAnswer { order_id: id, operation: C::OPERATION.to_owned(), scope: key.scope, key: key.key.clone(), trace: wait.trace };
    orders.kit.submit(orders, Settle { open }, None, wait.trace).await?;
    // Read back, and not taken from the command: what a repeat gets is what is stored.
    let settled = stored_answer(orders, C::OPERATION, &key).await?;
    settled.map(http::answer).ok_or_else(|| Code::Internal.into())
}

/// The answer this key had before, for operations that look around before they submit. The writer checks again.
pub async fn replay(orders: &Orders, operation: &str, key: &IdempotencyKey) -> Result<Option<Response>, Problem> {
    let mut reader = orders.kit.db.reader().await?;
    match idempotency::claim(&mut reader, "orders", operation, key).await? {
        idempotency::Claim::Fresh => Ok(None),
        idempotency::Claim::Answered(answer) => Ok(Some(http::answer(answer))),
        idempotency::Claim::OtherRequest => Err(Code::IdempotencyKeyMismatch.into()),
        idempotency::Claim::Running => Err(Problem::from(Code::IdempotencyInProgress).retry_after(1)),
    }
}

async fn stored_answer(orders: &Orders, operation: &str, key: &IdempotencyKey) -> Result<Option<Answer>, Problem> {
    let mut reader = orders.kit.db.reader().await?;
    Ok(idempotency::answer(&mut reader, "orders", operation, key.scope, &key.key).await?)
}

/// The wait is over: what can be said now becomes the answer, unless there is one already. Others that wait for the order wait on.
struct Settle {
    open: OpenAnswer,
}

impl Command for Settle {
    type Service = Orders;
    const OPERATION: &'static str = "orders.settle_answer";

    async fn handle<'a>(orders: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        touched::load(orders, work, commands.iter().map(|command| command.open.order_id)).await?;
        let touched: Box<Touched> = work.take_stash();
        let settled: Vec<(&Checkout, &OpenAnswer)> =
            commands.iter().map(|Settle { open }| Ok((touched.known(open.order_id)?, open))).collect::<Result<_, Fault>>()?;
        touched::settle(work, &settled).await?;
        work.put_stash(touched);
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}

/// For [`Command::resolve`]: the answer if the order rests or nobody wants to `wait`; else it is noted as open.
pub async fn resolve<C: Command>(
    work: &mut Work,
    later: &[Later<'_, C>],
    wait: impl Fn(&C) -> Option<Wait>,
) -> Result<Vec<Option<Answer>>, Fault> {
    let touched: Box<Touched> = work.take_stash();
    let (mut open, mut ready) = (Vec::new(), Vec::new());
    for (index, Later { command, key, id }) in later.iter().enumerate() {
        let checkout = touched.known(OrderId(*id))?;
        match (wait(command).filter(|wait| !wait.at_most.is_zero()), key) {
            (Some(wait), Some(key)) if !checkout.is_at_rest() => {
                let operation = C::OPERATION.to_owned();
                open.push(OpenAnswer { order_id: checkout.order.id, operation, scope: key.scope, key: key.key.clone(), trace: wait.trace });
            }
            _ => ready.push((index, checkout)),
        }
    }
    store::add_open_answers(&mut work.tx, &open).await?;
    let checkouts: Vec<&Checkout> = ready.iter().map(|(_, checkout)| *checkout).collect();
    let histories = History::of(&mut work.tx, &checkouts).await?;
    let mut answers = vec![None; later.len()];
    for ((index, checkout), history) in ready.into_iter().zip(&histories) {
        answers[index] = Some(view::answer(checkout, history, C::OPERATION, None)?);
    }
    work.put_stash(touched);
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(waiters: &Waiters) -> usize {
        waiters.lock().len()
    }

    #[tokio::test]
    async fn the_last_one_takes_the_room_along() {
        let (waiters, id) = (Waiters::default(), OrderId(Uuid::from_u128(1)));
        let (first, mut second) = (waiters.join(id), waiters.join(id));
        drop(first);
        assert_eq!(rooms(&waiters), 1);
        waiters.wake(id);
        second.woken.as_mut().await;
        let next = waiters.join(id);
        drop(second);
        assert_eq!(rooms(&waiters), 1, "the room is the next one's");
        drop(next);
        assert_eq!(rooms(&waiters), 0);
        waiters.wake(id);
    }

    #[test]
    fn the_wait_is_read_from_the_preference() {
        let preferred = |texts: &[&'static str]| {
            let mut headers = axum::http::HeaderMap::new();
            for text in texts {
                headers.append("prefer", axum::http::HeaderValue::from_static(text));
            }
            super::preferred(&headers, Trace(Uuid::nil())).at_most.as_secs()
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
