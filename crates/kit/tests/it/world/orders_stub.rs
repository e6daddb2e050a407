mod ask;
mod count;
mod lap;

pub use ask::{Ask, Laps};
pub use count::{BlockWriter, CommandFault, Count, Fill};
pub use lap::Lap;

use super::{hold, release};
use contracts::{Code, Kind, Message, OrderId, Refusal};
use kit::{
    Fault, Kit, Work,
    batch::Answer,
    db::{Migration, params},
    engine::Envelope,
    idempotency::{self, Completion},
};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use uuid::Uuid;

/// The stub of service `orders`: counts, and asks the other services.
pub struct OrdersStub {
    kit: Kit,
    /// Transactions attempted, and transactions committed.
    pub tried: Arc<AtomicU32>,
    pub committed: Arc<AtomicU32>,
    /// Calls of `Count::handle` and `Lap::handle`.
    pub handled: AtomicU32,
    /// Counts whose commit hooks ran.
    pub announced: Arc<AtomicU32>,
}

impl OrdersStub {
    pub fn new(kit: Kit) -> Self {
        Self { kit, tried: Arc::default(), committed: Arc::default(), handled: AtomicU32::new(0), announced: Arc::default() }
    }

    pub fn tried(&self) -> u32 {
        self.tried.load(Ordering::SeqCst)
    }
    pub fn committed(&self) -> u32 {
        self.committed.load(Ordering::SeqCst)
    }
    pub fn handled(&self) -> u32 {
        self.handled.load(Ordering::SeqCst)
    }
    pub fn announced(&self) -> u32 {
        self.announced.load(Ordering::SeqCst)
    }

    async fn handle_message(&self, work: &mut Work, envelope: &Envelope) -> Result<(), Fault> {
        let order = OrderId(envelope.key);
        match &envelope.message {
            Message::StockReserved(_) => {
                if Self::change_state(work, order, "ASKED", "RESERVED").await? {
                    work.emit(order, hold(order))?;
                }
            }
            Message::StockRefused(refused) => {
                if Self::change_state(work, order, "ASKED", "REFUSED").await? {
                    let refusal = Refusal::new(refused.code, refused.detail.as_str());
                    Self::settle_key(work, order, &Answer::refusal(&refusal)).await?;
                }
            }
            Message::CouponHeld(_) => {
                if Self::change_state(work, order, "RESERVED", "HELD").await? {
                    Self::settle_key(work, order, &held(order)?).await?;
                }
            }
            Message::StockReleased(_) => {
                let sql = "update orders_asks set laps=laps-1 where id=$1 and laps>0";
                if work.tx.execute(sql, &params![order]).await? == 1 {
                    work.emit(order, release(order))?;
                }
            }
            other => return Err(Fault::Bug(format!("unexpected message {}", other.kind()))),
        }
        Ok(())
    }

    async fn change_state(work: &mut Work, order: OrderId, from: &str, to: &str) -> Result<bool, Fault> {
        let sql = "update orders_asks set state=$3 where id=$1 and state=$2";
        Ok(work.tx.execute(sql, &params![order, from, to]).await? == 1)
    }

    async fn settle_key(work: &mut Work, order: OrderId, answer: &Answer) -> Result<(), Fault> {
        let sql = "select scope, key from orders_asks where id=$1 and key is not null";
        let waiting: Option<(Uuid, String)> = work.tx.query_opt(sql, &params![order]).await?;
        if let Some((scope, key)) = waiting {
            idempotency::complete(&mut work.tx, "orders", &[Completion { operation: "orders.ask", scope, key: &key, answer }]).await?;
        }
        Ok(())
    }
}

fn held(order: OrderId) -> Result<Answer, Fault> {
    Ok(Answer::json(201, &serde_json::json!({ "order_id": order, "state": "HELD" }))?.at(format!("/v1/asks/{order}")))
}

fn out_of_stock() -> Answer {
    Answer::refusal(&Code::OutOfStock.into())
}

const MIGRATIONS: &[Migration] = &[
    Migration::new(
        1,
        "init",
        "create table orders_counter (id BIGINT primary key, value BIGINT not null check (value >= 0)) without rowid;
         insert into orders_counter (id, value) values (1, 0);
         create table orders_asks (id UUID primary key, state TEXT not null, laps BIGINT not null, scope UUID, key TEXT) without rowid;",
    ),
    Migration::new(
        2,
        "lists",
        "create table orders_log (n INTEGER primary key, who BIGINT not null unique, batch BIGINT not null);
         create table orders_blobs (n INTEGER primary key, data BYTEA not null);
         create table orders_seen (n INTEGER primary key, source TEXT not null, seq BIGINT not null, kind TEXT not null,
             key UUID not null);",
    )
    .on_postgres(
        "create table orders_log (n BIGINT generated always as identity primary key, who BIGINT not null unique, batch BIGINT not null);
         create table orders_seen (n BIGINT generated always as identity primary key, source TEXT not null, seq BIGINT not null,
             kind TEXT not null, key UUID not null);",
    ),
];

kit::module! {
    impl Module for OrdersStub {
        name: "orders",
        migrations: MIGRATIONS,
        reads: &[Kind::StockReserved, Kind::StockRefused, Kind::StockReleased, Kind::CouponHeld],
        consume: OrdersStub::handle_messages,
        flush: OrdersStub::count_transaction,
    }
}

impl OrdersStub {
    async fn handle_messages(&self, work: &mut Work, messages: &[&Envelope]) -> Result<(), Fault> {
        for envelope in messages {
            let sql = "insert into orders_seen (source, seq, kind, key) values ($1,$2,$3,$4)";
            work.tx.execute(sql, &params![envelope.source, envelope.seq, envelope.message.kind(), envelope.key]).await?;
            self.handle_message(work, envelope).await?;
        }
        Ok(())
    }

    async fn count_transaction(&self, work: &mut Work) -> Result<(), Fault> {
        self.tried.fetch_add(1, Ordering::SeqCst);
        let committed = Arc::clone(&self.committed);
        work.after_commit(move || {
            committed.fetch_add(1, Ordering::SeqCst);
        });
        Ok(())
    }
}
