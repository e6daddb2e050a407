//! The orders a transaction works on: each is loaded once, changed in memory through all rounds of its saga, and written once.

use crate::{
    Orders, carts,
    model::Checkout,
    store::{self, OpenAnswer},
    view,
};
use contracts::{Code, OrderId, Refusal, Timestamp};
use kit::{Outcome, Work, batch::TraceId, engine::Fault, idempotency};
use std::collections::HashMap;

#[derive(Default)]
pub struct Touched {
    checkouts: HashMap<OrderId, Checkout>,
    /// In the order of first touch, so that rows are written in a repeatable order.
    order: Vec<OrderId>,
}

impl Touched {
    pub fn add(&mut self, checkout: Checkout) {
        self.order.push(checkout.order.id);
        self.checkouts.insert(checkout.order.id, checkout);
    }

    pub fn get(&self, id: OrderId) -> Option<&Checkout> {
        self.checkouts.get(&id)
    }

    pub fn get_mut(&mut self, id: OrderId) -> Option<&mut Checkout> {
        self.checkouts.get_mut(&id)
    }
}

/// Makes sure these orders are in memory, with their lines and coupons. Unknown ids stay missing.
pub async fn load(work: &mut Work, ids: impl Iterator<Item = OrderId>) -> Result<(), Fault> {
    let touched: &mut Touched = work.stash();
    let mut missing: Vec<OrderId> = ids.filter(|id| !touched.checkouts.contains_key(id)).collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    for order in store::load_for_update(&mut work.tx, &missing).await? {
        let lines = store::lines(&mut work.tx, order.id).await?;
        let coupons = store::coupons(&mut work.tx, order.id).await?;
        let checkout = Checkout {
            order,
            lines,
            coupons,
            events: Vec::new(),
            steps: Vec::new(),
            outgoing: Vec::new(),
            is_new: false,
            is_changed: false,
        };
        work.stash::<Touched>().add(checkout);
    }
    Ok(())
}

/// A change of one order that exists: what pay, cancel, advance and confirm have in common.
pub trait Change: Sync {
    fn order_id(&self) -> OrderId;

    /// The request it belongs to, for the messages that it causes.
    fn trace(&self) -> TraceId;

    /// Applies the change, or says why not. To those who may not touch the order it does not exist.
    fn apply(&self, checkout: &mut Checkout, now: Timestamp) -> Result<(), Refusal>;
}

/// Applies changes in the order they came; each is answered at the end of the transaction.
pub async fn change_each<C: Change>(work: &mut Work, commands: &[&C]) -> Result<Vec<Outcome>, Fault> {
    load(work, commands.iter().map(|command| command.order_id())).await?;
    let now = work.now;
    let mut outcomes = Vec::with_capacity(commands.len());
    for command in commands {
        let id = command.order_id();
        let applied = match work.stash::<Touched>().get_mut(id) {
            Some(checkout) => command.apply(checkout, now),
            None => Err(Code::NotFound.into()),
        };
        outcomes.push(match applied {
            Ok(()) => {
                work.trace(id, command.trace());
                emit_outgoing(work, id)?;
                Outcome::Later(id.0)
            }
            Err(refusal) => refusal.into(),
        });
    }
    Ok(outcomes)
}

/// Says what an order has to say since the last time.
pub fn emit_outgoing(work: &mut Work, id: OrderId) -> Result<(), Fault> {
    let outgoing = match work.stash::<Touched>().get_mut(id) {
        Some(checkout) => std::mem::take(&mut checkout.outgoing),
        None => return Ok(()),
    };
    for message in outgoing {
        work.emit(id, message)?;
    }
    Ok(())
}

/// Writes the touched orders, and completes the answers that waited for one of them to come to rest.
pub async fn flush(orders: &Orders, work: &mut Work) -> Result<(), Fault> {
    let touched: Box<Touched> = work.take_stash();
    let changed: Vec<&Checkout> =
        touched.order.iter().filter_map(|id| touched.checkouts.get(id)).filter(|checkout| checkout.is_changed).collect();
    carts::flush(work, &changed).await?;
    if !changed.is_empty() {
        store::save(&mut work.tx, &changed).await?;
        for checkout in changed.iter().filter(|checkout| !checkout.is_new && checkout.is_at_rest()) {
            settle_open_answers(orders, work, checkout).await?;
        }
    }
    work.put_stash(touched);
    Ok(())
}

async fn settle_open_answers(orders: &Orders, work: &mut Work, checkout: &Checkout) -> Result<(), Fault> {
    let id = checkout.order.id;
    let open = store::open_answers(&mut work.tx, id).await?;
    if open.is_empty() {
        return Ok(());
    }
    for open in &open {
        settle(work, checkout, open).await?;
    }
    let waiters = orders.waiters.clone();
    work.after_commit(move || waiters.wake(id));
    // The caller may wait in another process.
    work.notice(id.0.simple().to_string());
    Ok(())
}

/// Gives an open answer what there is to say about its order now; one that was given stays as it is.
pub async fn settle(work: &mut Work, checkout: &Checkout, open: &OpenAnswer) -> Result<(), Fault> {
    let answer = view::answer(work, checkout, &open.operation, Some(open.trace)).await?;
    idempotency::settle(&mut work.tx, "orders", &open.operation, open.scope, &open.key, &answer).await?;
    store::close_answer(&mut work.tx, open).await?;
    Ok(())
}
