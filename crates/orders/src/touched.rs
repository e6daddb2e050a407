//! The orders a transaction works on: each is loaded once, changed in memory through all rounds of its saga, and written once.

use crate::{
    Orders, carts,
    model::{AppliedCoupon, Checkout, Line, Order},
    store::{self, OpenAnswer},
    view::{self, History},
};
use contracts::{Code, OrderId, Refusal, Timestamp};
use kit::{
    Answer, Outcome, Work,
    batch::TraceId,
    cache::Cache,
    engine::Fault,
    idempotency::{self, Settled},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

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

    /// An order of this transaction.
    pub fn known(&self, id: OrderId) -> Result<&Checkout, Fault> {
        self.get(id).ok_or_else(|| Fault::Bug(format!("order {id} was settled in this transaction and is not there")))
    }

    pub fn get_mut(&mut self, id: OrderId) -> Option<&mut Checkout> {
        self.checkouts.get_mut(&id)
    }
}

/// What an order is about. Written with the order and never changed, so it is kept in memory while the saga goes its many hops.
#[derive(Clone, Default)]
pub struct Contents {
    lines: Vec<Line>,
    coupons: Vec<AppliedCoupon>,
}

/// Orders whose contents are kept, about a kilobyte each.
const KEPT: u64 = 10_000;
const KEPT_FOR: Duration = Duration::from_secs(60);

pub fn contents() -> Cache<OrderId, Arc<Contents>> {
    Cache::new(KEPT, KEPT_FOR)
}

/// Makes sure these orders are in memory, with their lines and coupons. Unknown ids stay missing.
pub async fn load(orders: &Orders, work: &mut Work, ids: impl Iterator<Item = OrderId>) -> Result<(), Fault> {
    let touched: &mut Touched = work.stash();
    let mut missing: Vec<OrderId> = ids.filter(|id| !touched.checkouts.contains_key(id)).collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let found = store::load_for_update(&mut work.tx, &missing).await?;
    let contents = load_contents(orders, work, &found).await?;
    for (order, contents) in found.into_iter().zip(contents) {
        let Contents { lines, coupons } = Contents::clone(&contents);
        let (events, steps, outgoing) = (Vec::new(), Vec::new(), Vec::new());
        work.stash::<Touched>().add(Checkout { order, lines, coupons, events, steps, outgoing, is_new: false, is_changed: false });
    }
    Ok(())
}

async fn load_contents(orders: &Orders, work: &mut Work, found: &[Order]) -> Result<Vec<Arc<Contents>>, Fault> {
    let mut known: HashMap<OrderId, Arc<Contents>> = HashMap::new();
    for order in found {
        if let Some(contents) = orders.contents.get(&order.id).await {
            known.insert(order.id, contents);
        }
    }
    let unknown: Vec<OrderId> = found.iter().map(|order| order.id).filter(|id| !known.contains_key(id)).collect();
    if !unknown.is_empty() {
        let mut lines = store::lines(&mut work.tx, &unknown).await?;
        let mut coupons = store::coupons(&mut work.tx, &unknown).await?;
        for id in unknown {
            let contents = Contents { lines: lines.remove(&id).unwrap_or_default(), coupons: coupons.remove(&id).unwrap_or_default() };
            let contents = Arc::new(contents);
            orders.contents.insert(id, Arc::clone(&contents)).await;
            known.insert(id, contents);
        }
    }
    Ok(found.iter().map(|order| known.remove(&order.id).unwrap_or_default()).collect())
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
pub async fn change_each<C: Change>(orders: &Orders, work: &mut Work, commands: &[&C]) -> Result<Vec<Outcome>, Fault> {
    load(orders, work, commands.iter().map(|command| command.order_id())).await?;
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
        let at_rest: Vec<&Checkout> = changed.into_iter().filter(|checkout| !checkout.is_new && checkout.is_at_rest()).collect();
        settle_open_answers(orders, work, &at_rest).await?;
    }
    work.put_stash(touched);
    Ok(())
}

async fn settle_open_answers(orders: &Orders, work: &mut Work, at_rest: &[&Checkout]) -> Result<(), Fault> {
    let ids: Vec<OrderId> = at_rest.iter().map(|checkout| checkout.order.id).collect();
    let open = store::open_answers(&mut work.tx, &ids).await?;
    let of = |open: &OpenAnswer| at_rest.iter().copied().find(|checkout| checkout.order.id == open.order_id);
    let settled: Vec<(&Checkout, &OpenAnswer)> = open.iter().filter_map(|open| Some((of(open)?, open))).collect();
    settle(work, &settled).await?;
    let answered: BTreeSet<OrderId> = open.iter().map(|open| open.order_id).collect();
    for id in answered {
        let waiters = orders.waiters.clone();
        work.after_commit(move || waiters.wake(id));
        // The caller may wait in another process.
        work.notice(id.0.simple().to_string());
    }
    Ok(())
}

/// Gives open answers what there is to say about their orders now; those that were given stay as they are.
pub async fn settle(work: &mut Work, settled: &[(&Checkout, &OpenAnswer)]) -> Result<(), Fault> {
    let checkouts: Vec<&Checkout> = settled.iter().map(|(checkout, _)| *checkout).collect();
    let histories = History::of(&mut work.tx, &checkouts).await?;
    let answers: Vec<Answer> = settled
        .iter()
        .zip(&histories)
        .map(|((checkout, open), history)| view::answer(checkout, history, &open.operation, Some(open.trace)))
        .collect::<Result<_, _>>()?;
    let given: Vec<Settled<'_>> = settled
        .iter()
        .zip(&answers)
        .map(|((_, open), answer)| Settled { operation: &open.operation, scope: open.scope, key: &open.key, answer })
        .collect();
    idempotency::settle(&mut work.tx, "orders", &given).await?;
    let open: Vec<&OpenAnswer> = settled.iter().map(|(_, open)| *open).collect();
    store::close_answers(&mut work.tx, &open).await?;
    Ok(())
}
