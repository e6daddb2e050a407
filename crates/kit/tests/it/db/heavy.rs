//! Heavy reads: few at a time, on connections and threads of their own, each ended in time.

use super::{TestDb, count, insert, on_both};
use kit::{Db, DbError, db::params, ports::Stopwatch};
use std::time::Duration;
use uuid::Uuid;

on_both!(
    a_heavy_reader_reads_like_others,
    heavy_reads_leave_the_other_readers_free,
    an_endless_heavy_read_is_ended,
    a_heavy_read_whose_caller_left_is_ended,
);

/// Never ends by itself.
const ENDLESS: &str = "with recursive n(i) as (select 1 union all select 1 - i from n) select count(*) from n";
/// A statement ends after two seconds. The rest allows for a busy machine.
const BOUND: Duration = Duration::from_secs(8);

// H1
async fn a_heavy_reader_reads_like_others(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    let sql = "insert into kit_things (id, n, word, flag, bytes, at) values ($1,$2,$3,$4,$5,$6)";
    let id = Uuid::from_u128(7);
    tx.execute(sql, &params![id, 1_i64, "감귤", true, &vec![1_u8, 2], None::<i64>]).await.unwrap();
    insert(&mut tx, 8, 2).await.unwrap();
    let mut heavy = test_db.db.heavy_reader().await.unwrap();
    type Things = (Uuid, i64, Option<String>, Option<bool>, Option<Vec<u8>>, Option<i64>);
    let sql = "select id, n, word, flag, bytes, at from kit_things where id=$1";
    let found: Vec<Things> = heavy.query_many(sql, [params![Uuid::from_u128(8)], params![id]]).await.unwrap();
    let first = (Uuid::from_u128(8), 2, None, None, None, None);
    let second = (id, 1, Some("감귤".to_owned()), Some(true), Some(vec![1, 2]), None);
    assert_eq!(found, [first.clone(), second.clone()]);
    assert_eq!(heavy.query_opt::<Things>(sql, &params![id]).await.unwrap(), Some(second.clone()));
    assert_eq!(heavy.query_opt::<Things>(sql, &params![Uuid::nil()]).await.unwrap(), None);
    let in_order: Vec<Things> = heavy.query("select id, n, word, flag, bytes, at from kit_things order by n desc", &[]).await.unwrap();
    assert_eq!(in_order, [first, second]);
    assert!(heavy.query::<(i64,)>("select nothing from kit_things", &[]).await.is_err());
    assert!(heavy.query::<(i64, i64)>("select n from kit_things", &[]).await.is_err(), "a column too few");
    assert!(insert(&mut heavy, 9, 1).await.is_err());
    assert_eq!(count(&mut heavy).await, 2);
    // It sees each commit.
    insert(&mut tx, 10, 1).await.unwrap();
    assert_eq!(count(&mut heavy).await, 3);
}

// H1
async fn heavy_reads_leave_the_other_readers_free(test_db: TestDb) {
    let _tx = test_db.with_table().await;
    let held = (test_db.db.heavy_reader().await.unwrap(), test_db.db.heavy_reader().await.unwrap());
    let took = Stopwatch::start();
    assert!(matches!(test_db.db.heavy_reader().await, Err(DbError::Busy)));
    assert!(took.elapsed() < BOUND);
    assert_eq!(count(&mut test_db.db.reader().await.unwrap()).await, 0);
    drop(held);
    assert_eq!(count(&mut test_db.db.heavy_reader().await.unwrap()).await, 0);
}

async fn run_endless(db: &Db) -> Result<Vec<(i64,)>, DbError> {
    db.heavy_reader().await?.query(ENDLESS, &[]).await
}

// H1
async fn an_endless_heavy_read_is_ended(test_db: TestDb) {
    let _tx = test_db.with_table().await;
    let took = Stopwatch::start();
    // The runtime has one thread. Point reads on it must not wait for the heavy ones.
    let point_reads = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        for _ in 0..20 {
            assert_eq!(count(&mut test_db.db.reader().await.unwrap()).await, 0);
        }
        took.elapsed()
    };
    let (one, other, point_reads) = tokio::join!(run_endless(&test_db.db), run_endless(&test_db.db), point_reads);
    assert!(matches!(one, Err(DbError::Slow)) && matches!(other, Err(DbError::Slow)), "{one:?} {other:?}");
    assert!(took.elapsed() < BOUND && point_reads < took.elapsed() - Duration::from_millis(500), "{point_reads:?} of {:?}", took.elapsed());
    assert_eq!(count(&mut test_db.db.heavy_reader().await.unwrap()).await, 0);
}

// H1
async fn a_heavy_read_whose_caller_left_is_ended(test_db: TestDb) {
    let _tx = test_db.with_table().await;
    for _ in 0..2 {
        assert!(tokio::time::timeout(Duration::from_millis(50), run_endless(&test_db.db)).await.is_err());
    }
    let took = Stopwatch::start();
    for _ in 0..4 {
        // On PostgreSQL, a statement of the caller before may still run until its timeout.
        while let Err(error) = async { test_db.db.heavy_reader().await?.query_one::<(i64,)>("select 1", &[]).await }.await {
            assert!(matches!(error, DbError::Busy), "{error:?}");
        }
    }
    assert!(took.elapsed() < BOUND, "{:?}", took.elapsed());
}
