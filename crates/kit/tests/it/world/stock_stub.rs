use super::STOCK;
use contracts::{
    Code, Kind, Message, OrderId, Sku,
    calls::GetAvailability,
    messages::{StepDone, StepRefused},
};
use kit::{
    DbError, Fault, Kit, Tx, Work,
    db::{Migration, params},
    engine::Envelope,
    links::CallHandlers,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
};

/// Planned failure of a handler for one key.
#[derive(Clone, Copy)]
pub enum Failure {
    Fault,
    Panic,
    /// Loses a conflict with another transaction, every time.
    Conflict,
    /// Runs into a lock timeout, every time.
    Locked,
    /// Takes longer than the server allows, every time.
    Slow,
    /// The server is out of memory.
    Outage,
}

/// Keys whose messages fail. Shared by the stubs and kept across restarts.
#[derive(Clone, Default)]
pub struct PlannedFailures(Arc<Mutex<Plan>>);

#[derive(Default)]
struct Plan {
    broken: HashMap<OrderId, Failure>,
    stalled: HashMap<OrderId, mpsc::Receiver<()>>,
}

impl PlannedFailures {
    pub fn set(&self, order: OrderId, how: Option<Failure>) {
        let broken = &mut self.0.lock().unwrap().broken;
        match how {
            Some(how) => broken.insert(order, how),
            None => broken.remove(&order),
        };
    }

    /// The first handler of this order blocks until the sender sends or is dropped.
    pub fn stall(&self, order: OrderId, until: mpsc::Receiver<()>) {
        self.0.lock().unwrap().stalled.insert(order, until);
    }

    /// Called before any write, so that no row is locked meanwhile.
    pub fn wait(&self, envelope: &Envelope) {
        let stall = self.0.lock().unwrap().stalled.remove(&OrderId(envelope.key));
        if let Some(stall) = stall {
            let _ = stall.recv();
        }
    }

    pub fn check(&self, envelope: &Envelope) -> Result<(), Fault> {
        let order = OrderId(envelope.key);
        let how = self.0.lock().unwrap().broken.get(&order).copied();
        match how {
            None => Ok(()),
            Some(Failure::Fault) => Err(Fault::Bug(format!("planned fault on {}", envelope.message.kind()))),
            Some(Failure::Conflict) => Err(DbError::Retry("40001: planned conflict".into()).into()),
            Some(Failure::Locked) => Err(DbError::Locked("55P03: planned lock timeout".into()).into()),
            Some(Failure::Slow) => Err(DbError::Slow.into()),
            Some(Failure::Outage) => Err(DbError::Server("53200: out of memory".into()).into()),
            Some(Failure::Panic) => panic!("planned panic on {}", envelope.message.kind()),
        }
    }
}

/// The stub of service `stock`: one hot row of units, reserved once per order.
pub struct StockStub {
    kit: Kit,
    failures: PlannedFailures,
    /// Reads of the hot row, calls of `consume`, and messages in those calls.
    pub loads: AtomicU32,
    pub calls: AtomicU32,
    pub offered: AtomicU32,
}

#[derive(Default)]
struct Units(Option<i64>);

impl StockStub {
    pub fn new(kit: Kit, failures: PlannedFailures) -> Self {
        Self { kit, failures, loads: AtomicU32::new(0), calls: AtomicU32::new(0), offered: AtomicU32::new(0) }
    }

    async fn reserve(&self, work: &mut Work, order: OrderId, quantity: i64) -> Result<(), Fault> {
        let done = StepDone { order_id: order };
        let held: Option<(i64,)> = work.tx.query_opt("select quantity from stock_reservations where order_id=$1", &params![order]).await?;
        if held.is_some() {
            return work.emit(order, Message::StockReserved(done));
        }
        let left = self.units(work).await?;
        if left < quantity {
            let refused = StepRefused { order_id: order, code: Code::OutOfStock, detail: format!("{left} left") };
            return work.emit(order, Message::StockRefused(refused));
        }
        work.loaded::<Units>().0 = Some(left - quantity);
        work.tx.execute("insert into stock_reservations (order_id, quantity) values ($1,$2)", &params![order, quantity]).await?;
        work.emit(order, Message::StockReserved(done))
    }

    async fn units(&self, work: &mut Work) -> Result<i64, Fault> {
        if let Some(units) = work.loaded::<Units>().0 {
            return Ok(units);
        }
        self.loads.fetch_add(1, Ordering::SeqCst);
        let (units,): (i64,) = work.tx.query_one("select units from stock_shelf for update", &[]).await?;
        work.loaded::<Units>().0 = Some(units);
        Ok(units)
    }

    async fn record(tx: &mut Tx, envelope: &Envelope) -> Result<(), Fault> {
        let Envelope { source, seq, key, ref message, at, trace } = *envelope;
        let sql = "insert into stock_seen (source, seq, key, kind, at, trace) values ($1,$2,$3,$4,$5,$6)";
        tx.execute(sql, &params![source, seq, key, message.kind(), at, trace]).await?;
        Ok(())
    }
}

const MIGRATIONS: &[Migration] = &[
    Migration::new(
        1,
        "init",
        "create table stock_shelf (id BIGINT primary key, units BIGINT not null check (units >= 0));
         create table stock_reservations (order_id UUID primary key, quantity BIGINT not null) without rowid;",
    ),
    Migration::new(2, "fill", "insert into stock_shelf (id, units) values (1, 100000);"),
    Migration::new(
        3,
        "seen",
        "create table stock_seen (n INTEGER primary key, source TEXT not null, seq BIGINT not null, key UUID not null, kind TEXT not null,
             at BIGINT not null, trace UUID);",
    )
    .on_postgres(
        "create table stock_seen (n BIGINT generated always as identity primary key, source TEXT not null, seq BIGINT not null,
             key UUID not null, kind TEXT not null, at BIGINT not null, trace UUID);",
    ),
];
const _: () = assert!(STOCK == 100_000);

kit::module! {
    impl Module for StockStub {
        name: "stock",
        migrations: MIGRATIONS,
        reads: &[Kind::StockReserve, Kind::StockRelease, Kind::StockCommit],
        consume: StockStub::handle_messages,
        flush: StockStub::save_units,
        calls: StockStub::register,
    }
}

impl StockStub {
    async fn handle_messages(&self, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.offered.fetch_add(u32::try_from(messages.len()).unwrap(), Ordering::SeqCst);
        for envelope in messages {
            self.failures.wait(envelope);
            // Written before the failure, so that the rollback has to remove it.
            Self::record(&mut work.tx, envelope).await?;
            self.failures.check(envelope)?;
            match &envelope.message {
                Message::StockReserve(ask) => {
                    let quantity = ask.reserve.iter().map(|line| i64::from(line.quantity)).sum();
                    self.reserve(work, ask.order_id, quantity).await?;
                }
                Message::StockRelease(step) => {
                    work.emit(step.order_id, Message::StockReleased(StepDone { order_id: step.order_id }))?;
                }
                Message::StockCommit(_) => {}
                other => return Err(Fault::Bug(format!("unexpected message {}", other.kind()))),
            }
        }
        Ok(())
    }

    async fn save_units(&self, work: &mut Work) -> Result<(), Fault> {
        if let Some(units) = work.loaded::<Units>().0 {
            work.tx.execute("update stock_shelf set units=$1", &params![units]).await?;
        }
        Ok(())
    }

    async fn availability(self: Arc<Self>, call: GetAvailability) -> Result<HashMap<Sku, i64>, Fault> {
        if call.skus.is_empty() {
            return Err(Fault::Bug("no SKUs in the call".into()));
        }
        let mut reader = self.kit.db.reader().await?;
        let (units,): (i64,) = reader.query_one("select units from stock_shelf", &[]).await?;
        Ok(call.skus.into_iter().map(|sku| (sku, units)).collect())
    }

    fn register(self: &Arc<Self>, handlers: &mut CallHandlers) {
        handlers.register_for(self, StockStub::availability);
    }
}
