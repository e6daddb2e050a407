//! Statements with many rows.

use super::{TestDb, count, insert, on_both};
use kit::{DbError, db::params};
use uuid::Uuid;

on_both!(
    many_rows_keep_their_order,
    conflicting_rows_are_counted_each,
    more_rows_than_a_statement_takes_parameters,
    one_refused_row_refuses_the_whole_bulk,
    a_row_may_change_twice,
    repeated_rows_are_applied_in_order,
    values_of_all_types_go_together,
);

const INSERT: &str = "insert into kit_things (id, n) values ($1,$2)";

fn row(id: u128, n: i64) -> [kit::Param<'static>; 2] {
    params![Uuid::from_u128(id), n]
}

async fn many_rows_keep_their_order(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    let rows = (1..=5).map(|n| row(n, i64::try_from(n).unwrap()));
    assert_eq!(tx.execute_many(INSERT, rows).await.unwrap(), [1; 5]);
    let changed = [1_u128, 9, 3].map(|n| params![Uuid::from_u128(n)]);
    assert_eq!(tx.execute_many("update kit_things set n=n+100 where id=$1", changed).await.unwrap(), [1, 0, 1]);
    let wanted = [3_u128, 9, 1, 3].map(|n| params![Uuid::from_u128(n)]);
    let found: Vec<(i64,)> = tx.query_many("select n from kit_things where id=$1 for update", wanted).await.unwrap();
    assert_eq!(found, [(103,), (101,), (103,)]);
    let wanted = [2_i64, 0].map(|n| params![n]);
    let found: Vec<(i64,)> = tx.query_many("select n from kit_things where n>$1 and n<=5 order by n", wanted).await.unwrap();
    assert_eq!(found, [(4,), (5,), (2,), (4,), (5,)]);
    let wanted = (0..1_000_i64).map(|n| params![n % 5 + 1]);
    let found: Vec<(i64,)> =
        tx.query_many("select $1+0 from kit_things where id<>$1 limit 0", [] as [[kit::Param<'_>; 1]; 0]).await.unwrap();
    assert_eq!(found, []);
    let found: Vec<(i64,)> = tx.query_many("select n % 100 from kit_things where n % 100 = $1 + 0", wanted).await.unwrap();
    assert!(found.iter().zip(0..1_000_i64).all(|((found,), n)| *found == n % 5 + 1));
    assert_eq!(found.len(), 1_000);
    assert_eq!(tx.execute_many::<1>("not even looked at", []).await.unwrap(), [0_u64; 0]);
}

async fn conflicting_rows_are_counted_each(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    insert(&mut tx, 2, 2).await.unwrap();
    let sql = "insert into kit_things (id, n) values ($1,$2) on conflict (id) do nothing";
    assert_eq!(tx.execute_many(sql, [row(1, 1), row(2, 9), row(3, 3), row(1, 7)]).await.unwrap(), [1, 0, 1, 0]);
    let sql = "insert into kit_things (id, n) values ($1,$2) on conflict (id) do update set n=excluded.n where kit_things.n<excluded.n";
    assert_eq!(tx.execute_many(sql, [row(1, 0), row(2, 5), row(4, 4), row(4, 6)]).await.unwrap(), [0, 1, 1, 1]);
    let found: Vec<(i64,)> = tx.query("select n from kit_things order by id", &[]).await.unwrap();
    assert_eq!(found, [(1,), (5,), (3,), (6,)]);
}

async fn more_rows_than_a_statement_takes_parameters(test_db: TestDb) {
    const ROWS: usize = 10_007;
    let mut tx = test_db.with_table().await;
    tx.begin().await.unwrap();
    let sql = "insert into kit_things (id, n, word, flag, bytes, price, at) values ($1,$2,$3,$4,$5,$6,$7)";
    let rows = (0..ROWS).map(|n| {
        let word = ["even", "odd"][n % 2];
        let bytes: &[u8] = &[1, 2, 3][..n % 4];
        params![Uuid::from_u128(n as u128), n as i64, word, n % 3 == 0, bytes, Some(n as i64).filter(|n| *n > 10), 5_i64]
    });
    assert_eq!(tx.execute_many(sql, rows).await.unwrap(), vec![1; ROWS]);
    tx.commit().await.unwrap();
    let sql = "select count(*), max(n), count(price), cast(sum(n) as BIGINT), count(distinct bytes) from kit_things where word=$1";
    let found: (i64, i64, i64, i64, i64) = tx.query_one(sql, &params!["odd"]).await.unwrap();
    assert_eq!(found, (5_003, 10_005, 4_998, 25_030_009, 2));
    assert_eq!(count(&mut tx).await, ROWS as i64);
}

async fn one_refused_row_refuses_the_whole_bulk(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    tx.begin().await.unwrap();
    let rows = (0..300).map(|n| row(n % 299, 1));
    assert!(matches!(tx.execute_many(INSERT, rows).await, Err(DbError::Unique(_))));
    tx.rollback().await.unwrap();
    assert_eq!(count(&mut tx).await, 0);
    insert(&mut tx, 1, 1).await.unwrap();
    tx.begin().await.unwrap();
    let rows = [1, 2, -5, 4].map(|n| params![n]);
    assert!(matches!(tx.execute_many("update kit_things set n=$1", rows).await, Err(DbError::Constraint(_))));
    tx.rollback().await.unwrap();
    assert_eq!(tx.query_one::<(i64,)>("select n from kit_things", &[]).await.unwrap(), (1,));
}

async fn a_row_may_change_twice(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    insert(&mut tx, 1, 0).await.unwrap();
    let steps = (0..600_i64).map(|n| params![n]);
    let changed = tx.execute_many("update kit_things set n=n+1 where n=$1", steps).await.unwrap();
    assert_eq!(changed, [1; 600], "each row sees the change of the row before");
}

async fn repeated_rows_are_applied_in_order(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    for id in 1..=3 {
        insert(&mut tx, id, 0).await.unwrap();
    }
    let add = "update kit_things set n=n+$2 where id=$1";
    assert_eq!(tx.execute_many(add, [row(1, 5), row(2, 6), row(1, 7), row(9, 8)]).await.unwrap(), [1, 1, 1, 0]);
    let moved = "update kit_things set n=$2 where id=$1 and n=$3";
    let steps = [[2, 7, 6], [2, 8, 7], [3, 1, 9]].map(|[id, to, from]| params![Uuid::from_u128(id), to as i64, from as i64]);
    assert_eq!(tx.execute_many(moved, steps).await.unwrap(), [1, 1, 0], "the second row sees the first row's change");
    let found: Vec<(i64,)> = tx.query("select n from kit_things order by id", &[]).await.unwrap();
    assert_eq!(found, [(12,), (8,), (0,)]);
    let ids = [3_u128, 1, 3].map(|id| params![Uuid::from_u128(id)]);
    assert_eq!(tx.execute_many("delete from kit_things where id=$1", ids).await.unwrap(), [1, 1, 0]);
    assert_eq!(count(&mut tx).await, 1);
}

async fn values_of_all_types_go_together(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    let sql = "insert into kit_things (id, n, word, flag, bytes, price, at) values ($1,$2,$3,$4,$5,$6,$7)";
    type Given<'g> = (u128, Option<&'g str>, bool, Option<&'g [u8]>);
    let rows: [Given<'_>; 3] =
        [(1, Some("a 'quoted', {braced} \\ \"word\""), true, Some(&[0, 255, 92])), (2, None, false, None), (3, Some(""), true, Some(&[]))];
    let params = rows.map(|(id, word, flag, bytes)| params![Uuid::from_u128(id), 1_i64, word, flag, bytes, None::<i64>, 5_i64]);
    assert_eq!(tx.execute_many(sql, params).await.unwrap(), [1, 1, 1]);
    type Found = (Uuid, Option<String>, bool, Option<Vec<u8>>);
    let asked = rows.map(|(id, _, flag, _)| params![Uuid::from_u128(id), flag]);
    let found: Vec<Found> = tx.query_many("select id, word, flag, bytes from kit_things where id=$1 and flag=$2", asked).await.unwrap();
    let wanted = rows.map(|(id, word, flag, bytes)| (Uuid::from_u128(id), word.map(str::to_owned), flag, bytes.map(<[u8]>::to_vec)));
    assert_eq!(found, wanted);
}
