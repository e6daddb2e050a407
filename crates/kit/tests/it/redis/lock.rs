//! Conformance of the distributed lock (X1, F16): a library for services, which no service uses yet.
//!
//! Contract: at most one holder at a time while Redis keeps its data. The caller chooses the wait and the lease. Each holder gets a
//! higher fencing number than the one before. Only the holder extends or releases the lock. A holder that writes checks its number in
//! the writing transaction, which refuses a late holder.

use crate::redis::support::{Server, database, eventually, flush, instance, prefix, redis};
use futures::future::join_all;
use kit::{
    Fault, Tx,
    db::params,
    engine::fence,
    redis::{
        cmd,
        lock::{Lock, LockGuard},
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};
use testkit::TempFolder;
use tokio::sync::Mutex;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

async fn acquire(lock: &Lock, lease: Duration) -> LockGuard {
    lock.acquire(LONG, lease).await.unwrap().expect("the lock is acquired in time")
}

/// Writes one row in a transaction and checks the fence.
async fn write(tx: &mut Tx, id: i64, fence: i64) -> Result<(), Fault> {
    tx.begin().await?;
    let result = async {
        tx.execute("insert into kit_writes (id, fence) values ($1,$2)", &params![id, fence]).await?;
        fence::check(tx, "kit", "report", fence).await
    }
    .await;
    match result {
        Ok(()) => Ok(tx.commit().await?),
        Err(fault) => {
            tx.rollback().await?;
            Err(fault)
        }
    }
}

async fn written_rows(tx: &mut Tx) -> Vec<(i64, i64)> {
    tx.query("select id, fence from kit_writes order by id", &[]).await.unwrap()
}

#[tokio::test]
async fn each_holder_has_a_higher_fence() {
    let lock = Lock::new(&redis(), "report");
    let first = acquire(&lock, LONG).await;
    assert!(lock.acquire(Duration::ZERO, LONG).await.unwrap().is_none());
    assert!(lock.acquire(SHORT, LONG).await.unwrap().is_none());
    let number = first.fence();
    assert!(first.release().await.unwrap());
    let second = acquire(&lock, LONG).await;
    assert!(second.fence() > number);
    let other = Lock::new(&redis(), "another");
    assert!(other.acquire(Duration::ZERO, LONG).await.unwrap().is_some());
}

#[tokio::test]
async fn a_dropped_guard_releases_the_lock() {
    let lock = Lock::new(&redis(), "report");
    drop(acquire(&lock, LONG).await);
    // Well before the lease would expire.
    acquire(&lock, LONG).await;
}

#[tokio::test]
async fn an_abandoned_acquire_leaves_nothing() {
    let lock = Lock::new(&redis(), "report");
    let first = acquire(&lock, LONG).await;
    for _ in 0..20 {
        let given_up = tokio::time::timeout(Duration::from_millis(5), lock.acquire(LONG, LONG)).await;
        assert!(given_up.is_err(), "the lock is held");
    }
    assert!(first.release().await.unwrap(), "no abandoned waiter holds the lock");
    acquire(&lock, LONG).await;
}

#[tokio::test]
async fn a_lease_ends_and_only_its_holder_can_extend_or_release() {
    let lock = Lock::new(&redis(), "report");
    let first = acquire(&lock, SHORT).await;
    let second = acquire(&lock, LONG).await;
    assert!(second.fence() > first.fence());
    assert!(!first.extend(LONG).await.unwrap());
    assert!(!first.release().await.unwrap(), "another holder owns the lock");
    assert!(second.extend(LONG).await.unwrap());
    assert!(lock.acquire(Duration::ZERO, LONG).await.unwrap().is_none());
}

#[tokio::test]
async fn an_extended_lease_holds() {
    let redis = redis();
    let lock = Lock::new(&redis, "report");
    let guard = acquire(&lock, Duration::from_secs(5)).await;
    assert!(guard.extend(LONG).await.unwrap());
    let left: i64 = redis.call(cmd("PTTL").arg(redis.key("lock", "report"))).await.unwrap();
    assert!(left > 30_000, "{left}");
}

// X1
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn holders_of_many_instances_never_overlap() {
    let prefix = prefix();
    let (inside, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let numbers = Arc::new(Mutex::new(Vec::new()));
    join_all((0..8).map(|_| {
        let lock = Lock::new(&instance(&prefix), "report");
        let (inside, rounds, numbers) = (Arc::clone(&inside), Arc::clone(&rounds), Arc::clone(&numbers));
        async move {
            for _ in 0..10 {
                let guard = acquire(&lock, LONG).await;
                assert!(!inside.swap(true, Ordering::SeqCst), "two holders at once");
                tokio::task::yield_now().await;
                numbers.lock().await.push(guard.fence());
                rounds.fetch_add(1, Ordering::SeqCst);
                inside.store(false, Ordering::SeqCst);
                assert!(guard.release().await.unwrap());
            }
        }
    }))
    .await;
    assert_eq!(rounds.load(Ordering::SeqCst), 80);
    assert!(numbers.lock().await.is_sorted_by(|a, b| a < b));
}

// F16
#[tokio::test]
async fn a_late_lock_holder_is_fenced() {
    let folder = TempFolder::new();
    let mut tx = database(&folder).await;
    let lock = Lock::new(&redis(), "report");
    let late = acquire(&lock, SHORT).await;
    write(&mut tx, 1, late.fence()).await.unwrap();
    write(&mut tx, 2, late.fence()).await.expect("a holder may write more than once");
    let next = acquire(&lock, LONG).await;
    write(&mut tx, 3, next.fence()).await.unwrap();
    let fenced = write(&mut tx, 4, late.fence()).await;
    assert!(matches!(fenced, Err(Fault::Fenced(_))), "{fenced:?}");
    assert_eq!(written_rows(&mut tx).await, [(1, late.fence()), (2, late.fence()), (3, next.fence())]);
    assert_eq!(fence::last(&mut tx, "kit", "report").await.unwrap(), next.fence());
    assert_eq!(fence::last(&mut tx, "kit", "never written").await.unwrap(), 0);
}

// F15, F16
#[tokio::test]
async fn fences_rise_across_an_emptied_redis() {
    let folder = TempFolder::new();
    let mut tx = database(&folder).await;
    let mut server = Server::start().await;
    let redis = server.patient_client();
    let mut numbers = Vec::new();
    for round in 0..3 {
        let floor = fence::last(&mut tx, "kit", "report").await.unwrap();
        let lock = Lock::new(&redis, "report").above(floor);
        let holder = acquire(&lock, LONG).await;
        write(&mut tx, round, holder.fence()).await.unwrap();
        numbers.push(holder);
        // The holder still exists, and the next one acquires the lock anyway.
        if round == 0 {
            flush(&redis).await
        } else {
            server.restart().await
        }
        eventually("the lock is lost", || async { redis.call::<i64>(&cmd("DBSIZE")).await.is_ok_and(|keys| keys == 0) }).await;
    }
    assert!(numbers.is_sorted_by(|a, b| a.fence() < b.fence()));
    for late in &numbers[..2] {
        assert!(matches!(write(&mut tx, 9, late.fence()).await, Err(Fault::Fenced(_))));
    }
    assert_eq!(written_rows(&mut tx).await.len(), 3);
}

#[tokio::test]
async fn fences_exceed_the_database_even_with_a_slow_clock() {
    let far = 4_000_000_000_000_000;
    let lock = Lock::new(&redis(), "report").above(far);
    let first = acquire(&lock, LONG).await;
    assert_eq!(first.fence(), far + 1);
    assert!(first.release().await.unwrap());
    // The next lock does not know the floor, but Redis does.
    let second = acquire(&lock.clone().above(0), LONG).await;
    assert_eq!(second.fence(), far + 2);
}

// X1: several holders at once, all the time
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fences_never_fall_under_contention() {
    let folder = TempFolder::new();
    let tx = Arc::new(Mutex::new(database(&folder).await));
    let prefix = prefix();
    let (id, fenced) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    join_all((0..6).map(|_| {
        let lock = Lock::new(&instance(&prefix), "report");
        let (tx, id, fenced) = (Arc::clone(&tx), Arc::clone(&id), Arc::clone(&fenced));
        async move {
            for _ in 0..15 {
                // The lease expires long before the holder is done.
                let guard = acquire(&lock, Duration::from_millis(1)).await;
                tokio::time::sleep(Duration::from_millis(u64::try_from(guard.fence() % 12).unwrap())).await;
                let mut tx = tx.lock().await;
                match write(&mut tx, i64::from(id.fetch_add(1, Ordering::SeqCst)), guard.fence()).await {
                    Ok(()) => {}
                    Err(Fault::Fenced(_)) => drop(fenced.fetch_add(1, Ordering::SeqCst)),
                    Err(fault) => panic!("{fault}"),
                }
            }
        }
    }))
    .await;
    let rows = written_rows(&mut *tx.lock().await).await;
    assert_eq!(rows.len() + fenced.load(Ordering::SeqCst) as usize, 90);
    assert!(fenced.load(Ordering::SeqCst) > 0, "no writer was fenced, so the test shows nothing");
    assert!(rows.is_sorted_by(|a, b| a.1 < b.1), "{rows:?}");
}
