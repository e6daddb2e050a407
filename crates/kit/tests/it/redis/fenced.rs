//! Conformance of the lock's fence in PostgreSQL, where holders write concurrently and not one after the other (X1, F16).
//!
//! Contract: after a later holder has written, no earlier one writes under the same name, even if its transaction began before. The rows
//! therefore carry rising numbers.

use crate::redis::support::{instance, prefix, redis};
use futures::future::join_all;
use kit::{Db, Fault, Tx, db::params, engine::fence, redis::lock::Lock};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use testkit::TestDatabase;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

/// A database with the fences table of every service, and rows that only a lock holder may write.
async fn database() -> (TestDatabase, Db) {
    let database = TestDatabase::create().await;
    let db = Db::postgres(&database.url(), &["public"]).unwrap();
    let mut tx = db.open_writer().await.unwrap();
    tx.execute("create table kit_fences (name TEXT primary key, fence BIGINT not null)", &[]).await.unwrap();
    tx.execute("create table kit_writes (id BIGINT primary key, fence BIGINT not null)", &[]).await.unwrap();
    (database, db)
}

/// Checks the fence, then writes the next row.
async fn write(tx: &mut Tx, fence: i64) -> Result<(), Fault> {
    fence::check(tx, "kit", "report", fence).await?;
    tx.execute("insert into kit_writes (id, fence) select coalesce(max(id), 0) + 1, $1 from kit_writes", &params![fence]).await?;
    Ok(())
}

async fn written_rows(tx: &mut Tx) -> Vec<i64> {
    let rows: Vec<(i64,)> = tx.query("select fence from kit_writes order by id", &[]).await.unwrap();
    rows.into_iter().map(|(fence,)| fence).collect()
}

// X1, F16: the holder paused inside its transaction, and the next one got the lock meanwhile.
#[tokio::test]
async fn a_late_holder_in_a_transaction_is_fenced() {
    let (_database, db) = database().await;
    let (mut one, mut other) = (db.open_writer().await.unwrap(), db.open_writer().await.unwrap());
    let lock = Lock::new(&redis(), "report");
    let late = lock.acquire(LONG, SHORT).await.unwrap().expect("the lock is free");
    one.begin().await.unwrap();
    one.execute("insert into kit_writes (id, fence) values (100, $1)", &params![late.fence()]).await.unwrap();
    let next = lock.acquire(LONG, LONG).await.unwrap().expect("the first lease has expired");
    other.begin().await.unwrap();
    write(&mut other, next.fence()).await.unwrap();
    other.commit().await.unwrap();
    let fenced = write(&mut one, late.fence()).await;
    assert!(matches!(fenced, Err(Fault::Fenced(_))), "{fenced:?}");
    one.rollback().await.unwrap();
    assert_eq!(written_rows(&mut one).await, [next.fence()]);
    assert_eq!(fence::last(&mut one, "kit", "report").await.unwrap(), next.fence());
}

// X1: many concurrent holders, each on its own connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_holders_leave_rising_fences() {
    let (_database, db) = database().await;
    let prefix = prefix();
    let fenced = Arc::new(AtomicU32::new(0));
    join_all((0..6).map(|_| {
        let (lock, db, fenced) = (Lock::new(&instance(&prefix), "report"), db.clone(), Arc::clone(&fenced));
        async move {
            let mut tx = db.open_writer().await.unwrap();
            for _ in 0..15 {
                // The lease expires long before the holder is done.
                let guard = lock.acquire(LONG, Duration::from_millis(1)).await.unwrap().expect("the lock is acquired in time");
                tokio::time::sleep(Duration::from_millis(u64::try_from(guard.fence() % 12).unwrap())).await;
                tx.begin().await.unwrap();
                match write(&mut tx, guard.fence()).await {
                    Ok(()) => tx.commit().await.unwrap(),
                    Err(Fault::Fenced(_)) => {
                        tx.rollback().await.unwrap();
                        fenced.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(fault) => panic!("{fault}"),
                }
            }
        }
    }))
    .await;
    let rows = written_rows(&mut db.open_writer().await.unwrap()).await;
    assert_eq!(rows.len() + fenced.load(Ordering::SeqCst) as usize, 90);
    assert!(fenced.load(Ordering::SeqCst) > 0, "no writer was fenced, so the test shows nothing");
    assert!(rows.is_sorted_by(|a, b| a < b), "{rows:?}");
}
