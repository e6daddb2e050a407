//! The gate on a real Redis, with an exact database in memory.

mod admission;
mod losses;
mod refreshes;

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

/// Short where a test waits for it, long where a busy machine must not cause it.
fn times() -> GateTimes {
    let long = Duration::from_secs(600);
    GateTimes { barrier: Duration::from_millis(20), permit_ttl: long, max_staleness: long, ..GateTimes::default() }
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

/// One coupon's row and its owners. Its lock is a transaction.
struct FakeRows {
    limits: ClaimLimits,
    member_counts: HashMap<MemberId, u32>,
}

struct FakeDatabase {
    rows: Mutex<FakeRows>,
    snapshots: AtomicU32,
    refreshes: AtomicU32,
    down: AtomicBool,
    /// Holds a reader of the snapshot until the test notifies it.
    slow: Option<(Notify, Notify)>,
}

impl FakeDatabase {
    fn of(limit: i64) -> Arc<FakeDatabase> {
        Self::with(ClaimLimits {
            version: 1,
            quantity: Some(limit),
            issued: 0,
            opens_at: OPENS,
            closes_at: CLOSES,
            per_member: 1,
            has_waitlist: false,
            is_deleted: false,
        })
    }

    fn with(limits: ClaimLimits) -> Arc<FakeDatabase> {
        let rows = Mutex::new(FakeRows { limits, member_counts: HashMap::new() });
        Arc::new(FakeDatabase {
            rows,
            snapshots: AtomicU32::new(0),
            refreshes: AtomicU32::new(0),
            down: AtomicBool::new(false),
            slow: None,
        })
    }

    async fn slow(limit: i64) -> Arc<FakeDatabase> {
        let rows = Mutex::new(FakeRows { limits: FakeDatabase::of(limit).rows.lock().await.limits, member_counts: HashMap::new() });
        let slow = Some((Notify::new(), Notify::new()));
        Arc::new(FakeDatabase { rows, snapshots: AtomicU32::new(0), refreshes: AtomicU32::new(0), down: AtomicBool::new(false), slow })
    }

    /// Number of reads of the limits, those before a rebuild included.
    fn refreshes(&self) -> u32 {
        self.refreshes.load(Ordering::SeqCst)
    }

    fn snapshots(&self) -> u32 {
        self.snapshots.load(Ordering::SeqCst)
    }
}

impl CouponSource for FakeDatabase {
    fn limits(&self, coupon_id: CouponId) -> BoxFuture<'_, Result<Option<ClaimLimits>, Fault>> {
        Box::pin(async move {
            self.refreshes.fetch_add(1, Ordering::SeqCst);
            if self.down.load(Ordering::SeqCst) {
                return Err(Fault::Injected("the database is down".into()));
            }
            let limits = self.rows.lock().await.limits;
            Ok((coupon_id == ID).then_some(limits))
        })
    }

    fn snapshot(&self, _: CouponId) -> BoxFuture<'_, Result<Option<GateSnapshot>, Fault>> {
        Box::pin(async move {
            self.snapshots.fetch_add(1, Ordering::SeqCst);
            if self.down.load(Ordering::SeqCst) {
                return Err(Fault::Injected("the database is down".into()));
            }
            let snapshot = {
                let rows = self.rows.lock().await;
                GateSnapshot {
                    limits: rows.limits,
                    member_counts: MemberCounts::Known(rows.member_counts.iter().map(|(id, count)| (*id, *count)).collect()),
                }
            };
            if let Some((read, go)) = &self.slow {
                read.notify_one();
                go.notified().await;
            }
            Ok(Some(snapshot))
        })
    }
}

/// One process: its gate, and the database that all processes share.
#[derive(Clone)]
struct Instance {
    gate: SharedGate,
    database: Arc<FakeDatabase>,
}

impl Instance {
    fn new(prefix: &str, database: &Arc<FakeDatabase>, times: GateTimes) -> Instance {
        let source: Arc<dyn CouponSource> = database.clone();
        Instance { gate: SharedGate::new(connect(prefix), source, times), database: Arc::clone(database) }
    }

    async fn admit(&self, number: u128) -> GateVerdict {
        self.gate.admit(ID, member(number), OPEN).await
    }

    /// Asks until the gate is built.
    async fn ready(&self) {
        self.eventually("the gate is built", async |this| {
            drop(this.admit(u128::MAX).await);
            this.state().await.as_deref() == Some("ready") && this.slots().await == 0
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

    async fn slots(&self) -> i64 {
        let all: i64 = self.gate.redis.call(cmd("ZCARD").arg(self.key("gate-places"))).await.unwrap();
        all - 1
    }

    async fn has_gap(&self) -> bool {
        self.gate.redis.call(cmd("HEXISTS").arg(self.key("gate")).arg("hole_since")).await.unwrap()
    }

    async fn available_units(&self) -> Option<i64> {
        self.gate.available_units(ID).await.unwrap()
    }

    /// Deletes keys, as if Redis had lost them.
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

    /// The transaction of one claim, and its update after the commit. True: a unit was issued.
    async fn settle(&self, member_id: MemberId, slot: Option<Arc<Slot>>) -> bool {
        let mut rows = self.database.rows.lock().await;
        let taken = rows.member_counts.get(&member_id).copied().unwrap_or(0);
        if taken >= rows.limits.per_member || rows.limits.quantity.is_some_and(|limit| rows.limits.issued >= limit) {
            return false;
        }
        *rows.member_counts.entry(member_id).or_default() += 1;
        rows.limits.issued += 1;
        rows.limits.version += 1;
        let limits = rows.limits;
        drop(rows);
        // Other processes commit and send in between.
        tokio::task::yield_now().await;
        self.gate.apply([GateUpdate { coupon_id: ID, limits, member_counts: vec![(member_id, 1)], settled: slot.into_iter().collect() }]);
        true
    }

    /// A commit that changes the row.
    async fn change(&self, change: impl FnOnce(&mut FakeRows) -> Vec<(MemberId, i64)>) -> GateUpdate {
        let mut rows = self.database.rows.lock().await;
        let member_counts = change(&mut rows);
        rows.limits.version += 1;
        GateUpdate { coupon_id: ID, limits: rows.limits, member_counts, settled: Vec::new() }
    }

    /// A claim from admission to commit.
    async fn claim(&self, number: u128) -> ClaimResult {
        loop {
            let slot = match self.admit(number).await {
                GateVerdict::Admitted(slot) => Some(slot),
                GateVerdict::Undecided(slot) => slot,
                GateVerdict::Refused(code) => return ClaimResult::Refused(code),
                GateVerdict::Full => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
            };
            // Waits in the queue for its transaction.
            tokio::time::sleep(Duration::from_millis(u64::try_from(number % 40).unwrap())).await;
            if slot.as_ref().is_some_and(|slot| !slot.is_current()) {
                continue;
            }
            return if self.settle(member(number), slot).await { ClaimResult::Issued } else { ClaimResult::RefusedByDatabase };
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum ClaimResult {
    Issued,
    Refused(Code),
    RefusedByDatabase,
}

fn prefix() -> String {
    format!("test-{}:", new_id())
}

async fn one(database: &Arc<FakeDatabase>) -> Instance {
    let instance = Instance::new(&prefix(), database, times());
    instance.ready().await;
    instance
}

fn code(verdict: &GateVerdict) -> Option<Code> {
    if let GateVerdict::Refused(code) = verdict { Some(*code) } else { None }
}

fn slot(verdict: GateVerdict) -> Arc<Slot> {
    match verdict {
        GateVerdict::Admitted(slot) => slot,
        other => panic!("{other:?}"),
    }
}
