use super::{
    super::{release, reserve},
    OrdersStub, held, out_of_stock,
};
use contracts::OrderId;
use kit::{
    Fault, Work,
    batch::{Answer, Command, Deferred, Outcome},
    db::params,
};
use uuid::Uuid;

/// Asks to reserve and hold units for an order. Answered with the result if it is known before the commit.
#[derive(Clone, Copy)]
pub struct Ask {
    pub order_id: OrderId,
    pub quantity: u32,
    pub trace: Option<Uuid>,
    /// Fails after its message was emitted.
    pub broken: bool,
}

impl Ask {
    pub fn one(order_id: OrderId) -> Ask {
        Ask { order_id, quantity: 1, trace: None, broken: false }
    }
}

impl Command for Ask {
    type Service = OrdersStub;
    const OPERATION: &'static str = "orders.ask";

    async fn handle<'a>(_: &'a OrdersStub, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut outcomes = Vec::new();
        for ask in commands {
            let sql = "insert into orders_asks (id, state, laps) values ($1,'ASKED',0)";
            work.tx.execute(sql, &params![ask.order_id]).await?;
            if let Some(trace) = ask.trace {
                work.trace(ask.order_id, trace);
            }
            work.emit(ask.order_id, reserve(ask.order_id, ask.quantity))?;
            if ask.broken {
                return Err(Fault::Bug("planned fault".into()));
            }
            outcomes.push(Outcome::Deferred(ask.order_id.into()));
        }
        Ok(outcomes)
    }

    async fn resolve<'a>(_: &'a OrdersStub, work: &'a mut Work, deferred: &'a [Deferred<'a, Self>]) -> Result<Vec<Option<Answer>>, Fault> {
        let mut answers = Vec::new();
        for Deferred { command, key, id } in deferred {
            let (state,): (String,) = work.tx.query_one("select state from orders_asks where id=$1", &params![*id]).await?;
            answers.push(match state.as_str() {
                "HELD" => Some(held(command.order_id)?),
                "REFUSED" => Some(out_of_stock()),
                _ => None,
            });
            if let (None, Some(key)) = (answers.last().unwrap(), key) {
                let sql = "update orders_asks set scope=$2, key=$3 where id=$1";
                work.tx.execute(sql, &params![*id, key.scope, &key.key]).await?;
            }
        }
        Ok(answers)
    }
}

/// Sends a message back and forth between orders and stock, `laps` times.
pub struct Laps {
    pub order_id: OrderId,
    pub laps: u32,
}

impl Command for Laps {
    type Service = OrdersStub;
    const OPERATION: &'static str = "orders.laps";

    async fn handle<'a>(_: &'a OrdersStub, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        for laps in commands {
            let sql = "insert into orders_asks (id, state, laps) values ($1,'LAPS',$2)";
            work.tx.execute(sql, &params![laps.order_id, laps.laps]).await?;
            work.emit(laps.order_id, release(laps.order_id))?;
        }
        Ok(commands.iter().map(|_| Answer::empty(202).into()).collect())
    }
}
