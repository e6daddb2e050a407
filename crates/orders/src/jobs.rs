//! Timed work: expires unpaid orders, undoes orders whose participant did not answer in time, repeats unanswered undos, and compacts
//! orders that ended unpaid long ago.

use crate::{
    Orders,
    loaded::{self, LoadedOrders},
    store,
};
use contracts::{OrderId, Timestamp};
use kit::{
    Answer, Command, DbError, Outcome, Tx, Work,
    engine::{Fault, passed_over::PassedOver},
    http::Problem,
    jobs::{Job, Pass},
    tasks,
};
use std::{future::Future, sync::Arc, time::Duration};
use uuid::Uuid;

/// Maximum orders handled by one pass. When a pass is full, the next one follows at once.
const MAX_PER_PASS: u32 = 200;
/// Time after which the lines, coupons and steps of an order that ended unpaid are dropped: a week, for questions of the buyer. The order,
/// its sums and its states stay.
const KEPT_UNPAID: Duration = Duration::from_secs(7 * 24 * 3600);
/// Interval of compaction. Its time is a week, so it needs no precision.
const COMPACT_EVERY: Duration = Duration::from_secs(10 * 60);

pub fn all(orders: &Arc<Orders>) -> Vec<Job> {
    vec![job::<HandleDueOrder>("orders.due", Duration::from_secs(1), orders), job::<CompactOrder>("orders.compact", COMPACT_EVERY, orders)]
}

/// Timed work on one order. Each order is a command of its own, so that a locked or broken one delays no other. The commands of a pass
/// share a transaction while none of them fails.
trait TimedWork: Command<Service = Orders> {
    fn on(id: OrderId) -> Self;

    /// Ids of the next orders, the oldest first, at most `limit`.
    fn find(tx: &mut Tx, now: Timestamp, limit: u32) -> impl Future<Output = Result<Vec<OrderId>, DbError>> + Send;
}

fn job<W: TimedWork>(name: &'static str, every: Duration, orders: &Arc<Orders>) -> Job {
    let (orders, passed_over) = (Arc::clone(orders), Arc::new(PassedOver::new(name)));
    Job::new(name, every, move || {
        let (orders, passed_over) = (Arc::clone(&orders), Arc::clone(&passed_over));
        async move { run_pass::<W>(&orders, name, &passed_over).await.map_err(|problem| problem.refusal) }
    })
}

async fn run_pass<W: TimedWork>(orders: &Arc<Orders>, name: &'static str, passed_over: &PassedOver<OrderId>) -> Result<Pass, Problem> {
    let mut ids = {
        let mut reader = orders.kit.db.reader().await?;
        W::find(&mut reader, orders.kit.clock.now(), MAX_PER_PASS + passed_over.count()).await?
    };
    passed_over.limit(&mut ids, MAX_PER_PASS);
    let submitted = ids.iter().map(|id| orders.kit.batch.submit(orders, W::on(*id), None, Uuid::nil()));
    let results = tasks::join_concurrently(submitted).await;
    let (mut failed, mut error) = (0, None);
    for (id, result) in ids.iter().zip(results) {
        passed_over.record(*id, &result);
        if let Err(fault) = result {
            (failed, error) = (failed + 1, Some(fault));
        }
    }
    match error {
        Some(error) if failed == ids.len() => return Err(error.into()),
        Some(error) => tracing::warn!(job = name, failed, of = ids.len(), %error, "orders passed over"),
        None => {}
    }
    Ok(if ids.len() == MAX_PER_PASS as usize { Pass::More } else { Pass::Done })
}

struct HandleDueOrder {
    id: OrderId,
}

impl TimedWork for HandleDueOrder {
    fn on(id: OrderId) -> Self {
        Self { id }
    }

    fn find(tx: &mut Tx, now: Timestamp, limit: u32) -> impl Future<Output = Result<Vec<OrderId>, DbError>> + Send {
        store::due_orders(tx, now, limit)
    }
}

impl Command for HandleDueOrder {
    type Service = Orders;
    const OPERATION: &'static str = "orders.fall_due";

    async fn handle<'a>(orders: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let now = work.now;
        loaded::load(orders, work, commands.iter().map(|command| command.id)).await?;
        for HandleDueOrder { id } in commands {
            if let Some(checkout) = work.loaded::<LoadedOrders>().get_mut(*id) {
                checkout.on_deadline(now);
            }
            loaded::emit_outgoing(work, *id)?;
        }
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}

struct CompactOrder {
    id: OrderId,
}

impl TimedWork for CompactOrder {
    fn on(id: OrderId) -> Self {
        Self { id }
    }

    fn find(tx: &mut Tx, now: Timestamp, limit: u32) -> impl Future<Output = Result<Vec<OrderId>, DbError>> + Send {
        store::ended_unpaid_orders(tx, now.before(KEPT_UNPAID), limit)
    }
}

impl Command for CompactOrder {
    type Service = Orders;
    const OPERATION: &'static str = "orders.compact";

    async fn handle<'a>(_: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let ids: Vec<OrderId> = commands.iter().map(|command| command.id).collect();
        store::compact(&mut work.tx, &ids, work.now).await?;
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}
