//! Orders and carts of the current transaction: each is loaded once, changed in memory through all rounds of its saga, and written once.

pub mod carts;
pub mod holdings;

use crate::{
    Orders,
    model::{AppliedCoupon, Checkout, Order, OrderLine},
    store::{self, OpenAnswer},
    view::{self, OrderHistory},
};
use carts::LoadedCarts;
use contracts::{Code, OrderId, Refusal, Timestamp};
use holdings::LoadedHoldings;
use kit::{
    Answer, Outcome, Tx, Work,
    batch::TraceId,
    cache::Cache,
    engine::Fault,
    idempotency::{self, Completion},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

#[derive(Default)]
pub struct LoadedOrders {
    checkouts: HashMap<OrderId, Checkout>,
    /// In order of first use, so that rows are always written in the same order.
    insertion_order: Vec<OrderId>,
    pub carts: LoadedCarts,
    pub holdings: LoadedHoldings,
}

impl LoadedOrders {
    pub fn add(&mut self, checkout: Checkout) {
        self.insertion_order.push(checkout.order.id);
        self.checkouts.insert(checkout.order.id, checkout);
    }

    pub fn get(&self, id: OrderId) -> Option<&Checkout> {
        self.checkouts.get(&id)
    }

    /// The order with this id, which must be loaded. `Err`: it is not, which is a bug.
    pub fn require(&self, id: OrderId) -> Result<&Checkout, Fault> {
        self.get(id).ok_or_else(|| Fault::Bug(format!("order {id} is needed in this transaction but was not loaded")))
    }

    pub fn get_mut(&mut self, id: OrderId) -> Option<&mut Checkout> {
        self.checkouts.get_mut(&id)
    }
}

/// Lines and coupons of an order. They never change after the order is placed, so they are cached between the saga's hops.
#[derive(Clone, Default)]
pub struct OrderContents {
    lines: Vec<OrderLine>,
    coupons: Vec<AppliedCoupon>,
}

/// Maximum cached orders, about a kilobyte each.
const CACHE_CAPACITY: u64 = 10_000;
const CACHE_TTL: Duration = Duration::from_secs(60);

pub fn contents_cache() -> Cache<OrderId, Arc<OrderContents>> {
    Cache::new(CACHE_CAPACITY, CACHE_TTL)
}

/// Loads and locks the orders that are not in memory yet, with their lines and coupons. Unknown ids stay missing.
pub async fn load(orders: &Orders, work: &mut Work, ids: impl Iterator<Item = OrderId>) -> Result<(), Fault> {
    let (tx, loaded) = work.rows::<LoadedOrders>();
    let mut missing: Vec<OrderId> = ids.filter(|id| !loaded.checkouts.contains_key(id)).collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let found = store::load_for_update(tx, &missing).await?;
    let contents = load_contents(orders, tx, &found).await?;
    for (order, contents) in found.into_iter().zip(contents) {
        let OrderContents { lines, coupons } = OrderContents::clone(&contents);
        let (events, steps, outgoing) = (Vec::new(), Vec::new(), Vec::new());
        loaded.add(Checkout { order, lines, coupons, events, steps, outgoing, is_new: false, is_changed: false, has_lapsed: false });
    }
    Ok(())
}

async fn load_contents(orders: &Orders, tx: &mut Tx, found: &[Order]) -> Result<Vec<Arc<OrderContents>>, Fault> {
    let mut known: HashMap<OrderId, Arc<OrderContents>> = HashMap::new();
    for order in found {
        if let Some(contents) = orders.contents_cache.get(&order.id).await {
            known.insert(order.id, contents);
        }
    }
    let unknown: Vec<OrderId> = found.iter().map(|order| order.id).filter(|id| !known.contains_key(id)).collect();
    if !unknown.is_empty() {
        let mut lines = store::lines(tx, &unknown).await?;
        let mut coupons = store::coupons(tx, &unknown).await?;
        for id in unknown {
            let contents = OrderContents { lines: lines.remove(&id).unwrap_or_default(), coupons: coupons.remove(&id).unwrap_or_default() };
            let contents = Arc::new(contents);
            orders.contents_cache.insert(id, Arc::clone(&contents)).await;
            known.insert(id, contents);
        }
    }
    Ok(found.iter().map(|order| known.remove(&order.id).unwrap_or_default()).collect())
}

/// A change of one existing order: the common part of pay, cancel, advance and confirm.
pub trait OrderChange: Sync {
    fn order_id(&self) -> OrderId;

    /// Trace id of the request, for the messages that the change causes.
    fn trace(&self) -> TraceId;

    /// Applies the change. `Err`: a rule refuses it, or the caller may not change the order (`not-found`).
    fn apply(&self, checkout: &mut Checkout, now: Timestamp) -> Result<(), Refusal>;
}

/// Applies the changes in arrival order. Accepted ones are answered at the end of the transaction.
pub async fn apply_changes<C: OrderChange>(orders: &Orders, work: &mut Work, commands: &[&C]) -> Result<Vec<Outcome>, Fault> {
    load(orders, work, commands.iter().map(|command| command.order_id())).await?;
    let now = work.now;
    let mut outcomes = Vec::with_capacity(commands.len());
    for command in commands {
        let id = command.order_id();
        let applied = match work.loaded::<LoadedOrders>().get_mut(id) {
            Some(checkout) => command.apply(checkout, now),
            None => Err(Code::NotFound.into()),
        };
        outcomes.push(match applied {
            Ok(()) => {
                work.trace(id, command.trace());
                emit_outgoing(work, id)?;
                Outcome::Deferred(id.0)
            }
            Err(refusal) => refusal.into(),
        });
    }
    Ok(outcomes)
}

/// Emits the messages that the order has queued since the last call.
pub fn emit_outgoing(work: &mut Work, id: OrderId) -> Result<(), Fault> {
    let outgoing = match work.loaded::<LoadedOrders>().get_mut(id) {
        Some(checkout) => std::mem::take(&mut checkout.outgoing),
        None => return Ok(()),
    };
    for message in outgoing {
        work.emit(id, message)?;
    }
    Ok(())
}

/// Writes the changed orders, and completes the open answers of those that are now at rest.
pub async fn flush(orders: &Orders, work: &mut Work) -> Result<(), Fault> {
    let (limits, now) = (orders.settings.unpaid, work.now);
    let (tx, loaded) = work.rows::<LoadedOrders>();
    let lapsed = loaded.checkouts.values().filter(|checkout| checkout.has_lapsed).map(|checkout| checkout.order.member_id);
    loaded.holdings.record_lapses(tx, lapsed.collect(), &limits, now).await?;
    for id in save(tx, loaded).await? {
        let waiters = orders.waiters.clone();
        work.after_commit(move || waiters.wake(id));
        // The caller may wait in another process, so all processes are notified.
        work.notify(id.0.simple().to_string());
    }
    Ok(())
}

/// Returns the orders whose open answers are completed.
async fn save(tx: &mut Tx, loaded: &mut LoadedOrders) -> Result<BTreeSet<OrderId>, Fault> {
    let LoadedOrders { checkouts, insertion_order, carts, holdings } = loaded;
    let changed: Vec<&Checkout> =
        insertion_order.iter().filter_map(|id| checkouts.get(id)).filter(|checkout| checkout.is_changed).collect();
    holdings.save(tx).await?;
    carts.save(tx, &changed).await?;
    if changed.is_empty() {
        return Ok(BTreeSet::new());
    }
    store::save(tx, &changed).await?;
    let at_rest: Vec<&Checkout> = changed.into_iter().filter(|checkout| !checkout.is_new && checkout.is_at_rest()).collect();
    complete_waiting_answers(tx, &at_rest).await
}

async fn complete_waiting_answers(tx: &mut Tx, at_rest: &[&Checkout]) -> Result<BTreeSet<OrderId>, Fault> {
    let ids: Vec<OrderId> = at_rest.iter().map(|checkout| checkout.order.id).collect();
    let open = store::open_answers(tx, &ids).await?;
    let of = |open: &OpenAnswer| at_rest.iter().copied().find(|checkout| checkout.order.id == open.order_id);
    let settled: Vec<(&Checkout, &OpenAnswer)> = open.iter().filter_map(|open| Some((of(open)?, open))).collect();
    complete_answers(tx, &settled).await?;
    Ok(open.iter().map(|open| open.order_id).collect())
}

/// Completes open answers with the current state of their orders. Answers that were completed before stay unchanged.
pub async fn complete_answers(tx: &mut Tx, settled: &[(&Checkout, &OpenAnswer)]) -> Result<(), Fault> {
    let checkouts: Vec<&Checkout> = settled.iter().map(|(checkout, _)| *checkout).collect();
    let histories = OrderHistory::load_with_unsaved(tx, &checkouts).await?;
    let answers: Vec<Answer> = settled
        .iter()
        .zip(&histories)
        .map(|((checkout, open), history)| view::answer_for(checkout, history, &open.operation, Some(open.trace)))
        .collect::<Result<_, _>>()?;
    let completions: Vec<Completion<'_>> = settled
        .iter()
        .zip(&answers)
        .map(|((_, open), answer)| Completion { operation: &open.operation, scope: open.scope, key: &open.key, answer })
        .collect();
    idempotency::complete(tx, "orders", &completions).await?;
    let open: Vec<&OpenAnswer> = settled.iter().map(|(_, open)| *open).collect();
    store::close_answers(tx, &open).await?;
    Ok(())
}
