use super::OrdersStub;
use contracts::OrderId;
use kit::{
    Fault, Work,
    batch::{Answer, Command, Outcome},
    db::params,
};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// Locks the row of an order, adds a lap, and answers with the number of laps.
#[derive(Clone)]
pub struct Lap {
    pub order_id: OrderId,
    pub conflict: Option<PlannedConflict>,
}

/// Makes PostgreSQL fail the transaction with this SQLSTATE, `left` times.
#[derive(Clone)]
pub struct PlannedConflict {
    pub state: &'static str,
    pub left: Arc<AtomicU32>,
}

impl Lap {
    pub fn of(order_id: OrderId) -> Lap {
        Lap { order_id, conflict: None }
    }

    pub fn losing(self, state: &'static str, times: u32) -> Lap {
        Lap { conflict: Some(PlannedConflict { state, left: Arc::new(AtomicU32::new(times)) }), ..self }
    }
}

impl PlannedConflict {
    async fn raise(&self, work: &mut Work) -> Result<(), Fault> {
        let is_left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if is_left {
            let sql = format!("do $$ begin raise exception 'in the way' using errcode = '{}'; end $$", self.state);
            work.tx.execute(&sql, &[]).await?;
        }
        Ok(())
    }
}

impl Command for Lap {
    type Service = OrdersStub;
    const OPERATION: &'static str = "orders.lap";

    async fn handle<'a>(orders: &'a OrdersStub, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        orders.handled.fetch_add(1, Ordering::SeqCst);
        let mut outcomes = Vec::new();
        for lap in commands {
            let sql = "select laps from orders_asks where id=$1 for update";
            let (laps,): (i64,) = work.tx.query_one(sql, &params![lap.order_id]).await?;
            // Written before the failure, so that the rollback has to remove it.
            work.tx.execute("update orders_asks set laps=$2 where id=$1", &params![lap.order_id, laps + 1]).await?;
            if let Some(conflict) = &lap.conflict {
                conflict.raise(work).await?;
            }
            outcomes.push(Answer::json(200, &(laps + 1))?.into());
        }
        Ok(outcomes)
    }
}
