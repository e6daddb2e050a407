//! Timed work: expires unpaid orders, undoes orders whose participant did not answer in time, and repeats unanswered undos.

use crate::{
    Orders,
    loaded::{self, LoadedOrders},
    store,
};
use contracts::OrderId;
use kit::{
    Answer, Command, Outcome, Work,
    engine::Fault,
    http::Problem,
    jobs::{Job, Pass},
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// Maximum orders handled by one pass. When a pass is full, the next one follows at once.
const MAX_PER_PASS: u32 = 200;

pub fn all(orders: &Arc<Orders>) -> Vec<Job> {
    let orders = Arc::clone(orders);
    let due = move || {
        let orders = Arc::clone(&orders);
        async move { run_pass(&orders).await.map_err(|problem| problem.refusal) }
    };
    vec![Job::new("orders.due", Duration::from_secs(1), due)]
}

async fn run_pass(orders: &Arc<Orders>) -> Result<Pass, Problem> {
    let ids = {
        let mut reader = orders.kit.db.reader().await?;
        store::due_orders(&mut reader, orders.kit.clock.now(), MAX_PER_PASS).await?
    };
    if ids.is_empty() {
        return Ok(Pass::Done);
    }
    let is_full = ids.len() == MAX_PER_PASS as usize;
    orders.kit.batch.submit(orders, HandleDueOrders { ids }, None, Uuid::nil()).await?;
    Ok(if is_full { Pass::More } else { Pass::Done })
}

struct HandleDueOrders {
    ids: Vec<OrderId>,
}

impl Command for HandleDueOrders {
    type Service = Orders;
    const OPERATION: &'static str = "orders.fall_due";

    async fn handle<'a>(orders: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let now = work.now;
        for command in commands {
            loaded::load(orders, work, command.ids.iter().copied()).await?;
            for id in &command.ids {
                if let Some(checkout) = work.loaded::<LoadedOrders>().get_mut(*id) {
                    checkout.on_deadline(now);
                }
                loaded::emit_outgoing(work, *id)?;
            }
        }
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}
