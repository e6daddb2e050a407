//! The gate on a real Redis, with a database in memory that is as exact as the real one.

mod admission;
mod looks;
mod losses;

use super::*;
use futures::future::{BoxFuture, join_all};
use kit::{
    Fault,
    breaker::BreakerSettings,
    ports::SystemClock,
    redis::{RedisSettings, cmd},
};
use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};
use tokio::sync::{Mutex, Notify};
use uuid::Uuid;

const ID: CouponId = CouponId(Uuid::from_u128(1));
const OPENS: Timestamp = Timestamp(1_000_000);
const CLOSES: Timestamp = Timestamp(2_000_000);
const OPEN: Timestamp = Timestamp(1_500_000);

/// Short where a test waits for it, long where it must not come about by a busy machine.
fn times() -> GateTimes {
    let long = Duration::from_secs(600);
    GateTimes { barrier: Duration::from_millis(20), current: long, believed: long, ..GateTimes::default() }
}

fn member(number: u128) -> MemberId {
    MemberId(Uuid::from_u128(number))
}

fn connect(prefix: &str) -> Redis {
    let url = std::env::var("ONRUSH_TEST_REDIS").expect("ONRUSH_TEST_REDIS is not set: start the test services with ./scripts/services up");
    let breaker = BreakerSettings { window: usize::MAX, min_calls: usize::MAX, ..BreakerSettings::default() };
    let settings = RedisSettings { call_timeout: Duration::from_secs(10), prefix: prefix.to_owned(), breaker };
    Redis::connect(&url, settings, Arc::new(SystemClock)).unwrap()
}

/// One coupon's row and its owners. A lock is a transaction.
struct Rows {
    doors: Doors,
    shares: HashMap<MemberId, u32>,
}

struct Books {
    rows: Mutex<Rows>,
    snapshots: AtomicU32,
    looks: AtomicU32,
    down: AtomicBool,
    /// Holds a reader of the snapshot back until it is told to go on.
    slow: Option<(Notify, Notify)>,
}

impl Books {
    fn of(limit: i64) -> Arc<Books> {
        Self::with(Doors {
            version: 1,
            limit: Some(limit),
            issued: 0,
            opens_at: OPENS,
            closes_at: CLOSES,
            per_member: 1,
            queue: false,
            gone: false,
        })
    }

    fn with(doors: Doors) -> Arc<Books> {
        let rows = Mutex::new(Rows { doors, shares: HashMap::new() });
        Arc::new(Books { rows, snapshots: AtomicU32::new(0), looks: AtomicU32::new(0), down: AtomicBool::new(false), slow: None })
    }

    async fn slow(limit: i64) -> Arc<Books> {
        let rows = Mutex::new(Rows { doors: Books::of(limit).rows.lock().await.doors, shares: HashMap::new() });
        let slow = Some((Notify::new(), Notify::new()));
        Arc::new(Books { rows, snapshots: AtomicU32::new(0), looks: AtomicU32::new(0), down: AtomicBool::new(false), slow })
    }

    /// Also those that found out whether there is such a coupon, before it was built.
    fn looks(&self) -> u32 {
        self.looks.load(Ordering::SeqCst)
    }

    fn snapshots(&self) -> u32 {
        self.snapshots.load(Ordering::SeqCst)
    }
}

impl Truth for Books {
    fn doors(&self, coupon_id: CouponId) -> BoxFuture<'_, Result<Option<Doors>, Fault>> {
        Box::pin(async move {
            self.looks.fetch_add(1, Ordering::SeqCst);
            if self.down.load(Ordering::SeqCst) {
                return Err(Fault::Injected("the database is down".into()));
            }
            let doors = self.rows.lock().await.doors;
            Ok((coupon_id == ID).then_some(doors))
        })
    }

    fn snapshot(&self, _: CouponId) -> BoxFuture<'_, Result<Option<Snapshot>, Fault>> {
        Box::pin(async move {
            self.snapshots.fetch_add(1, Ordering::SeqCst);
            if self.down.load(Ordering::SeqCst) {
                return Err(Fault::Injected("the database is down".into()));
            }
            let snapshot = {
                let rows = self.rows.lock().await;
                Snapshot { doors: rows.doors, shares: Shares::Known(rows.shares.iter().map(|(id, count)| (*id, *count)).collect()) }
            };
            if let Some((read, go)) = &self.slow {
                read.notify_one();
                go.notified().await;
            }
            Ok(Some(snapshot))
        })
    }
}

/// An instance of the product: its gate, and the database all instances share.
#[derive(Clone)]
struct Instance {
    gate: SharedGate,
    books: Arc<Books>,
}

impl Instance {
    fn new(prefix: &str, books: &Arc<Books>, times: GateTimes) -> Instance {
        let truth: Arc<dyn Truth> = books.clone();
        Instance { gate: SharedGate::new(connect(prefix), truth, times), books: Arc::clone(books) }
    }

    async fn admit(&self, number: u128) -> Verdict {
        self.gate.admit(ID, member(number), OPEN).await
    }

    /// Asks until the gate is built.
    async fn ready(&self) {
        self.eventually("the gate is built", async |this| {
            drop(this.admit(u128::MAX).await);
            this.state().await.as_deref() == Some("ready") && this.places().await == 0
        })
        .await;
    }

    async fn eventually(&self, what: &str, holds: impl AsyncFn(&Instance) -> bool) {
        for _ in 0..3_000 {
            if holds(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("this never came about: {what}");
    }

    fn key(&self, kind: &str) -> String {
        self.gate.redis.key(kind, &ID.to_string())
    }

    async fn state(&self) -> Option<String> {
        self.gate.redis.call(cmd("HGET").arg(self.key("gate")).arg("state")).await.unwrap()
    }

    async fn version(&self) -> i64 {
        let version: Option<i64> = self.gate.redis.call(cmd("HGET").arg(self.key("gate")).arg("version")).await.unwrap();
        version.unwrap_or(0)
    }

    async fn places(&self) -> i64 {
        let all: i64 = self.gate.redis.call(cmd("ZCARD").arg(self.key("gate-places"))).await.unwrap();
        all - 1
    }

    async fn has_hole(&self) -> bool {
        self.gate.redis.call(cmd("HEXISTS").arg(self.key("gate")).arg("hole_since")).await.unwrap()
    }

    async fn on_offer(&self) -> Option<i64> {
        self.gate.on_offer(ID).await.unwrap()
    }

    /// What Redis loses, all of it or a part.
    async fn lose(&self, kinds: &[&str]) {
        let mut lost = cmd("DEL");
        for kind in kinds {
            lost.arg(self.key(kind));
        }
        self.gate.redis.call::<()>(&lost).await.unwrap();
    }

    async fn lose_all(&self) {
        self.lose(&["gate", "gate-shares", "gate-places", "gate-news"]).await;
    }

    /// The transaction of one claim, and its news after the commit. True: a unit was issued.
    async fn settle(&self, member_id: MemberId, place: Option<Arc<Place>>) -> bool {
        let mut rows = self.books.rows.lock().await;
        let taken = rows.shares.get(&member_id).copied().unwrap_or(0);
        if taken >= rows.doors.per_member || rows.doors.limit.is_some_and(|limit| rows.doors.issued >= limit) {
            return false;
        }
        *rows.shares.entry(member_id).or_default() += 1;
        rows.doors.issued += 1;
        rows.doors.version += 1;
        let doors = rows.doors;
        drop(rows);
        // Others commit and tell in between.
        tokio::task::yield_now().await;
        self.gate.learn([News { coupon_id: ID, doors, shares: vec![(member_id, 1)], settled: place.into_iter().collect() }]);
        true
    }

    /// A commit that changes the row otherwise.
    async fn change(&self, change: impl FnOnce(&mut Rows) -> Vec<(MemberId, i64)>) -> News {
        let mut rows = self.books.rows.lock().await;
        let shares = change(&mut rows);
        rows.doors.version += 1;
        News { coupon_id: ID, doors: rows.doors, shares, settled: Vec::new() }
    }

    /// A claim from the door to the commit.
    async fn claim(&self, number: u128) -> Claimed {
        loop {
            let place = match self.admit(number).await {
                Verdict::Admitted(place) => Some(place),
                Verdict::Ask(place) => place,
                Verdict::Refused(code) => return Claimed::Refused(code),
                Verdict::Full => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
            };
            // In the queue for its transaction.
            tokio::time::sleep(Duration::from_millis(u64::try_from(number % 40).unwrap())).await;
            if place.as_ref().is_some_and(|place| !place.is_current()) {
                continue;
            }
            return if self.settle(member(number), place).await { Claimed::Issued } else { Claimed::RefusedByDatabase };
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Claimed {
    Issued,
    Refused(Code),
    RefusedByDatabase,
}

fn prefix() -> String {
    format!("test-{}:", new_id())
}

async fn one(books: &Arc<Books>) -> Instance {
    let instance = Instance::new(&prefix(), books, times());
    instance.ready().await;
    instance
}

fn code(verdict: &Verdict) -> Option<Code> {
    if let Verdict::Refused(code) = verdict { Some(*code) } else { None }
}

fn place(verdict: Verdict) -> Arc<Place> {
    match verdict {
        Verdict::Admitted(place) => place,
        other => panic!("{other:?}"),
    }
}
