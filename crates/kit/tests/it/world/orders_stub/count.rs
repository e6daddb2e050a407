use super::OrdersStub;
use contracts::{Code, Message, OrderId, messages::StepDone};
use kit::{
    DbError, Fault, Work,
    batch::{Answer, Command, Outcome},
    db::params,
};
use std::sync::{Arc, Mutex, atomic::Ordering, mpsc};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Planned fault of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandFault {
    None,
    Fault,
    Panic,
    /// Violates a constraint of the database.
    Constraint,
    /// Emits a message of another service.
    Foreign,
    /// Its handler returns too few outcomes.
    ShortAnswer,
    /// The database rejects writes.
    Outage,
    /// A commit hook panics.
    Hook,
    /// The writer itself panics, outside of its transaction.
    Writer,
}

/// Adds to the counter and answers with the new value. Refused if the value would become negative.
#[derive(Clone, Copy)]
pub struct Count {
    pub who: i64,
    pub by: i64,
    pub fault: CommandFault,
    pub is_exclusive: bool,
}

impl Count {
    pub fn by(by: i64) -> Count {
        Count { who: 0, by, fault: CommandFault::None, is_exclusive: false }
    }
    pub fn of(who: i64) -> Count {
        Count { who, ..Count::by(1) }
    }
    pub fn with(self, fault: CommandFault) -> Count {
        Count { fault, ..self }
    }
}

impl Command for Count {
    type Service = OrdersStub;
    const OPERATION: &'static str = "orders.count";

    fn is_exclusive(&self) -> bool {
        assert!(self.fault != CommandFault::Writer, "planned panic of the writer");
        self.is_exclusive
    }

    async fn handle<'a>(orders: &'a OrdersStub, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        orders.handled.fetch_add(1, Ordering::SeqCst);
        let (mut value,): (i64,) = work.tx.query_one("select value from orders_counter for update", &[]).await?;
        let (batch,): (i64,) = work.tx.query_one("select coalesce(max(batch), 0) + 1 from orders_log", &[]).await?;
        let mut outcomes = Vec::new();
        for count in commands {
            if value + count.by < 0 {
                outcomes.push(Code::InsufficientFunds.into());
                continue;
            }
            value += count.by;
            if count.who > 0 {
                work.tx.execute("insert into orders_log (who, batch) values ($1,$2)", &params![count.who, batch]).await?;
            }
            let announced = Arc::clone(&orders.announced);
            work.after_commit(move || {
                announced.fetch_add(1, Ordering::SeqCst);
            });
            match count.fault {
                CommandFault::None | CommandFault::Writer => {}
                CommandFault::Fault => return Err(Fault::Bug("planned fault".into())),
                CommandFault::Panic => panic!("planned panic"),
                CommandFault::Constraint => {
                    work.tx.execute("update orders_counter set value=-1", &[]).await?;
                }
                CommandFault::Foreign => work.emit(Uuid::nil(), Message::StockTaken(StepDone { order_id: OrderId(Uuid::nil()) }))?,
                CommandFault::ShortAnswer => continue,
                CommandFault::Outage => return Err(DbError::Busy.into()),
                CommandFault::Hook => work.after_commit(|| panic!("planned panic in a hook")),
            }
            let answer = Answer::json(200, &serde_json::json!({ "value": value, "who": count.who }))?;
            outcomes.push(answer.at(format!("/v1/counts/{value}")).into());
        }
        work.tx.execute("update orders_counter set value=$1", &params![value]).await?;
        Ok(outcomes)
    }
}

/// Writes a megabyte into a database limited to this number of pages.
pub struct Fill {
    pub pages: i64,
}

impl Command for Fill {
    type Service = OrdersStub;
    const OPERATION: &'static str = "orders.fill";

    async fn handle<'a>(_: &'a OrdersStub, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        for fill in commands {
            let sqlite = work.tx.sqlite().ok_or_else(|| Fault::Bug("only SQLite has a page limit".into()))?;
            sqlite.pragma_update(None, "max_page_count", fill.pages).map_err(DbError::from)?;
            work.tx.execute("insert into orders_blobs (data) values ($1)", &params![&vec![7_u8; 1 << 20]]).await?;
        }
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}

/// Blocks the writer inside its transaction until resumed.
pub struct BlockWriter {
    entered: Mutex<Option<oneshot::Sender<()>>>,
    open: Mutex<mpsc::Receiver<()>>,
}

impl BlockWriter {
    pub fn new(entered: oneshot::Sender<()>, open: mpsc::Receiver<()>) -> BlockWriter {
        BlockWriter { entered: Mutex::new(Some(entered)), open: Mutex::new(open) }
    }
}

impl Command for BlockWriter {
    type Service = OrdersStub;
    const OPERATION: &'static str = "orders.gate";

    async fn handle<'a>(_: &'a OrdersStub, _: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        for gate in commands {
            if let Some(entered) = gate.entered.lock().unwrap().take() {
                let _ = entered.send(());
            }
            // A test that ends drops its sender, which also resumes the writer.
            let _ = gate.open.lock().unwrap().recv();
        }
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}
