//! What happens to orders by the clock: unpaid ones end, and a participant that stays silent is taken to have failed.

use crate::{
    Orders, store,
    touched::{self, Touched},
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

/// Orders settled by one pass; more wait for the next, which follows at once.
const PASS: u32 = 200;

pub fn jobs(orders: &Arc<Orders>) -> Vec<Job> {
    let orders = Arc::clone(orders);
    let due = move || {
        let orders = Arc::clone(&orders);
        async move { pass(&orders).await.map_err(|problem| problem.refusal) }
    };
    vec![Job::new("orders.due", Duration::from_secs(1), due)]
}

async fn pass(orders: &Arc<Orders>) -> Result<Pass, Problem> {
    let ids = {
        let mut reader = orders.kit.db.reader().await?;
        store::due(&mut reader, orders.kit.clock.now(), PASS).await?
    };
    if ids.is_empty() {
        return Ok(Pass::Done);
    }
    let full = ids.len() == PASS as usize;
    orders.kit.submit(orders, FallDue { ids }, None, Uuid::nil()).await?;
    Ok(if full { Pass::More } else { Pass::Done })
}

struct FallDue {
    ids: Vec<OrderId>,
}

impl Command for FallDue {
    type Service = Orders;
    const OPERATION: &'static str = "orders.fall_due";

    async fn handle<'a>(orders: &'a Orders, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let now = work.now;
        for command in commands {
            touched::load(orders, work, command.ids.iter().copied()).await?;
            for id in &command.ids {
                if let Some(checkout) = work.stash::<Touched>().get_mut(*id) {
                    checkout.fall_due(now);
                }
                touched::emit_outgoing(work, *id)?;
            }
        }
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}
