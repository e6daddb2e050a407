//! Four stub services that exchange messages, and the checks of their state.
//!
//! `orders` asks `stock` to reserve, then `coupons` to hold, and then knows its result. `wallet` only records.

mod checks;
mod coupons_stub;
mod orders_stub;
mod processes;
mod stock_stub;
mod wallet_stub;

pub use checks::{check_log, dump, lag};
pub use orders_stub::{Ask, CommandFault, Count, Fill, Lap, Laps};
pub use processes::{Instance, Mall, TRANSPORTS, Transport};
pub use stock_stub::Failure;

use contracts::{
    Message, OrderId, Sku, Timestamp,
    messages::{CouponHold, StepCommand, StockLine, StockReserve},
};
use coupons_stub::CouponsStub;
use futures::future::join_all;
use kit::{Command, Db, Kit, Module, Reply, Tx, batch::SubmitError, db::Synchronous, idempotency::IdempotencyKey, ports::new_id};
use orders_stub::{BlockWriter, OrdersStub};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, mpsc},
    task::Poll,
};
use stock_stub::{PlannedFailures, StockStub};
use testkit::{App, AppBuilder};
use tokio::sync::oneshot;
use uuid::Uuid;
use wallet_stub::WalletStub;

/// Units in stock at the start.
pub const STOCK: i64 = 100_000;

pub struct World {
    pub app: App,
    pub orders: Arc<OrdersStub>,
    pub stock: Arc<StockStub>,
    failures: PlannedFailures,
}

pub type Submitted = Result<Reply, SubmitError>;

impl World {
    /// On the database of the environment. SQLite folds a command and its hops into one transaction. On PostgreSQL each hop has its own.
    pub async fn start() -> World {
        Self::with(App::builder()).await
    }

    /// Always on SQLite, for behaviour of one file with one writer: above all one transaction for several services. PostgreSQL has one
    /// writer for each service.
    pub async fn on_sqlite() -> World {
        Self::with(App::builder().on_sqlite()).await
    }

    /// Each hop has its own transaction.
    pub async fn unfolded() -> World {
        Self::with(App::builder().fold(false)).await
    }

    /// In each delivery mode of this database.
    pub async fn in_each_mode() -> Vec<World> {
        let first = Self::start().await;
        if first.app.is_postgres() { vec![first] } else { vec![first, Self::unfolded().await] }
    }

    pub async fn with(builder: AppBuilder) -> World {
        let failures = PlannedFailures::default();
        let mut made = None;
        let app = builder.start(|kit| Self::build(kit, &failures, &mut made)).await;
        let (orders, stock) = made.expect("start calls build");
        World { app, orders, stock, failures }
    }

    pub async fn restart(self) -> World {
        let failures = self.failures;
        let mut made = None;
        let app = self.app.restart(|kit| Self::build(kit, &failures, &mut made)).await;
        let (orders, stock) = made.expect("restart calls build");
        World { app, orders, stock, failures }
    }

    // One test needs this order: coupons handles its messages, and emits, before stock.
    fn build(kit: &Kit, failures: &PlannedFailures, made: &mut Option<(Arc<OrdersStub>, Arc<StockStub>)>) -> Vec<Arc<dyn Module>> {
        let orders = Arc::new(OrdersStub::new(kit.clone()));
        let stock = Arc::new(StockStub::new(kit.clone(), failures.clone()));
        let coupons = Arc::new(CouponsStub::new(kit.clone(), failures.clone()));
        *made = Some((Arc::clone(&orders), Arc::clone(&stock)));
        vec![orders, coupons, stock, Arc::new(WalletStub::new(kit.clone()))]
    }

    pub async fn submit<C: Command<Service = OrdersStub>>(&self, command: C) -> Submitted {
        self.app.kit().batch.submit(&self.orders, command, None, Uuid::nil()).await
    }

    pub async fn submit_as<C: Command<Service = OrdersStub>>(&self, command: C, key: &IdempotencyKey, trace: Uuid) -> Submitted {
        self.app.kit().batch.submit(&self.orders, command, Some(key.clone()), trace).await
    }

    /// Asks for one unit of a new order and waits until no more work is possible. Returns the order.
    pub async fn ask(&self) -> OrderId {
        let order = new_order();
        self.submit(Ask::one(order)).await.expect("the command is committed");
        self.app.wait_until_quiescent().await;
        order
    }

    /// Writes a message of the orders service into its stream.
    pub async fn emit_for_orders(&self, message: Message) {
        let key = match &message {
            Message::StockReserve(ask) => ask.order_id,
            Message::StockRelease(step) | Message::StockCommit(step) => step.order_id,
            Message::CouponHold(hold) => hold.order_id,
            other => panic!("{} has no order here", other.kind()),
        };
        self.app.emit("orders", key, message).await;
    }

    /// Blocks the writer inside a transaction, so that later commands queue up and run together.
    pub async fn block_writer(&self) -> BlockedWriter {
        let (entered, is_in) = oneshot::channel();
        let gate = self.queue_writer_block(entered).await;
        is_in.await.expect("the writer blocks");
        gate
    }

    /// Queues a block. `entered` signals that the writer is blocked.
    pub async fn queue_writer_block(&self, entered: oneshot::Sender<()>) -> BlockedWriter {
        let (open, wait) = mpsc::channel();
        let (orders, kit) = (Arc::clone(&self.orders), self.app.kit().clone());
        let submit = async move { kit.batch.submit(&orders, BlockWriter::new(entered, wait), None, Uuid::nil()).await };
        let reply: Pin<Box<dyn Future<Output = Submitted>>> = queued([submit]).await.remove(0);
        BlockedWriter { open, reply }
    }

    /// Declares that a stall is expected that no planned fault causes. Otherwise `rest` would wait for it.
    pub fn expect_stall(&self) {
        self.app.faults.hold("nobody", "nothing");
    }

    /// Makes the handlers of stock and coupons fail for one key, until [`World::stop_failing`].
    pub fn fail_for(&self, order: OrderId, how: Failure) {
        self.failures.set(order, Some(how));
    }

    pub fn stop_failing(&self, order: OrderId) {
        self.failures.set(order, None);
    }

    /// A second writing connection, as of an operator's tool or a zombie.
    pub async fn second_writer(&self) -> Tx {
        let db = match self.app.postgres() {
            Some(postgres) => Db::postgres(&postgres.url, contracts::SERVICES).expect("it is the URL of this test"),
            None => Db::sqlite(self.app.folder().join("onrush.db"), Synchronous::Normal),
        };
        db.open_writer().await.expect("the database is there")
    }

    /// A transaction of an operator that stays open, with its locks.
    pub async fn open_transaction(&self, sql: &str) -> Tx {
        open_transaction(self.second_writer().await, sql).await
    }

    pub async fn execute(&self, sql: &str) -> u64 {
        self.second_writer().await.execute(sql, &[]).await.expect("the statement runs")
    }

    pub async fn position(&self, reader: &str, source: &str) -> i64 {
        self.app.sql_i64(&format!("select cast(coalesce(sum(seq), 0) as BIGINT) from {reader}_positions where source='{source}'")).await
    }

    pub async fn units_left(&self) -> i64 {
        self.app.sql_i64("select units from stock_shelf").await
    }

    /// Sequence numbers in the orders stream that stock handled, in order of handling.
    pub async fn seen_by_stock(&self) -> Vec<i64> {
        self.app.rows::<(i64,)>("select seq from stock_seen order by n").await.into_iter().map(|(seq,)| seq).collect()
    }
}

/// Runs SQL in a transaction and leaves the transaction open.
pub async fn open_transaction(mut tx: Tx, sql: &str) -> Tx {
    tx.begin().await.expect("the transaction begins");
    tx.batch(sql).await.expect("the row is free");
    tx
}

pub struct BlockedWriter {
    open: mpsc::Sender<()>,
    reply: Pin<Box<dyn Future<Output = Submitted>>>,
}

impl BlockedWriter {
    pub async fn resume(self) {
        let _ = self.open.send(());
        assert_eq!(answer(self.reply.await).status, 204);
    }
}

/// Polls each future once, in order. Their commands are then queued but not answered.
pub async fn queued<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<Pin<Box<F>>> {
    let mut queued = Vec::new();
    for future in futures {
        let mut future = Box::pin(future);
        let pending = poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await;
        assert!(pending, "answered before the writer executed it");
        queued.push(future);
    }
    queued
}

/// Submits all commands in one batch. Returns the results in order.
pub async fn submit_together<C: Command<Service = OrdersStub>>(world: &World, commands: impl IntoIterator<Item = C>) -> Vec<Submitted> {
    let blocked = world.block_writer().await;
    let waiting = queued(commands.into_iter().map(|command| world.submit(command))).await;
    blocked.resume().await;
    join_all(waiting).await
}

#[track_caller]
pub fn answer(submitted: Submitted) -> kit::Answer {
    match submitted {
        Ok(Reply::Answer(answer)) => answer,
        other => panic!("not an answer: {other:?}"),
    }
}

pub fn new_order() -> OrderId {
    OrderId(new_id())
}

pub fn reserve(order_id: OrderId, quantity: u32) -> Message {
    let line = StockLine { line_no: 1, sku: Sku(Uuid::nil()), quantity };
    Message::StockReserve(StockReserve { order_id, reserve: vec![line], check_only: Vec::new(), expires_at: Timestamp::MAX })
}

pub fn release(order_id: OrderId) -> Message {
    Message::StockRelease(StepCommand { order_id })
}

pub fn commit(order_id: OrderId) -> Message {
    Message::StockCommit(StepCommand { order_id })
}

pub fn hold(order_id: OrderId) -> Message {
    let member_id = contracts::MemberId(Uuid::nil());
    Message::CouponHold(CouponHold { order_id, member_id, coupons: Vec::new(), expires_at: Timestamp::MAX })
}
