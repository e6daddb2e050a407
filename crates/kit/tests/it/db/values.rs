//! Values and statements.

use super::{TestDb, insert, on_both};
use contracts::{OrderId, Timestamp, Won};
use kit::{DbError, db::params};
use uuid::Uuid;

on_both!(
    values_come_back_as_they_went_in,
    a_wrong_column_type_is_an_error_that_names_the_column,
    parameters_go_by_number,
    a_parameter_may_be_tested_for_null,
    parameters_in_arithmetic_have_64_bits,
    constraint_errors_are_classified,
);

const ALL: &str = "insert into kit_things (id, n, word, flag, bytes, price, at) values ($1,$2,$3,$4,$5,$6,$7)";

async fn values_come_back_as_they_went_in(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    let (id, bytes) = (OrderId(Uuid::from_u128(7)), vec![0_u8, 1, 255]);
    let values = params![id, i64::MAX, "쿠폰 '; --", true, &bytes, Won(-5), Timestamp::MAX];
    assert_eq!(tx.execute(ALL, &values).await.unwrap(), 1);
    let all = "select id, n, word, flag, bytes, price, at from kit_things where id=$1 for update";
    type All = (OrderId, i64, String, bool, Vec<u8>, Won, Timestamp);
    let found: All = tx.query_one(all, &params![id]).await.unwrap();
    assert_eq!(found, (id, i64::MAX, "쿠폰 '; --".to_owned(), true, bytes, Won(-5), Timestamp::MAX));

    insert(&mut tx, 8, 0).await.unwrap();
    type Empty = (Option<String>, Option<bool>, Option<Vec<u8>>, Option<Timestamp>);
    let sql = "select word, flag, bytes, at from kit_things where id=$1";
    let found: Option<Empty> = tx.query_opt(sql, &params![Uuid::from_u128(8)]).await.unwrap();
    assert_eq!(found, Some((None, None, None, None)));
    assert_eq!(tx.query_opt::<(i64,)>("select n from kit_things where n=$1", &params![1_i64]).await.unwrap(), None);
    assert!(tx.query_one::<(i64,)>("select n from kit_things where n=$1", &params![1_i64]).await.is_err());
    let found: Vec<(Uuid,)> = tx.query("select id from kit_things where id > $1 order by id", &params![Uuid::nil()]).await.unwrap();
    assert_eq!(found, [(Uuid::from_u128(7),), (Uuid::from_u128(8),)], "ids are in the order of their bytes");
    let found: Vec<(bool, bool)> = tx.query("select flag, not flag from kit_things where flag=$1", &params![true]).await.unwrap();
    assert_eq!(found, [(true, false)]);
}

async fn a_wrong_column_type_is_an_error_that_names_the_column(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    let row = params![Uuid::from_u128(1), (1_i64 << 40) - 1, "word", false, &[0_u8; 1], 5_i64, 5_i64];
    tx.execute(ALL, &row).await.unwrap();
    for error in [
        tx.query::<(i64, String)>("select n, n from kit_things", &[]).await.map(drop),
        tx.query::<(i64, u32)>("select n, n from kit_things", &[]).await.map(drop),
        tx.query::<(i64, u16)>("select n, n from kit_things", &[]).await.map(drop),
        tx.query::<(i64, Uuid)>("select n, bytes from kit_things", &[]).await.map(drop),
        tx.query::<(i64, i64)>("select n, word from kit_things", &[]).await.map(drop),
        tx.query::<(i64, Vec<u8>)>("select n, word from kit_things", &[]).await.map(drop),
        tx.query::<(i64, i64)>("select n, null from kit_things", &[]).await.map(drop),
        tx.query::<(i64, i64)>("select n, 1.5 from kit_things", &[]).await.map(drop),
    ] {
        assert!(matches!(error, Err(DbError::Column { index: 1, .. })), "{error:?}");
    }
}

async fn parameters_go_by_number(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    insert(&mut tx, 7, 1).await.unwrap();
    let sql = "update kit_things set n=$2 where id=$1 and n<$2";
    assert_eq!(tx.execute(sql, &params![Uuid::from_u128(7), 5_i64]).await.unwrap(), 1);
    let sql = "select n, word from kit_things where n=$2 and id=$1 for update";
    let found: Vec<(i64, Option<String>)> = tx.query(sql, &params![Uuid::from_u128(7), 5_i64]).await.unwrap();
    assert_eq!(found, [(5, None)]);
}

async fn a_parameter_may_be_tested_for_null(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    for n in 1..=3_i64 {
        insert(&mut tx, u128::try_from(n).unwrap(), n).await.unwrap();
    }
    let sql = "select n from kit_things where ($1 is null or id < $1) \
               and ($2 is null or $2 = case when n < $3 then 'low' else 'high' end) order by n";
    for (before, word, expected) in
        [(None, None, vec![1, 2, 3]), (Some(3), None, vec![1, 2]), (Some(3), Some("high"), vec![2]), (None, Some("low"), vec![1])]
    {
        let found: Vec<(i64,)> = tx.query(sql, &params![before.map(Uuid::from_u128), word, 2_i64]).await.unwrap();
        assert_eq!(found.into_iter().map(|(n,)| n).collect::<Vec<_>>(), expected);
    }
    let sql = "select n from kit_things where $1 is not null and n=$1";
    assert_eq!(tx.query::<(i64,)>(sql, &params![Some(2_i64)]).await.unwrap(), [(2,)]);
    assert_eq!(tx.query::<(i64,)>(sql, &params![None::<i64>]).await.unwrap(), []);
    // The same within a transaction, which a failed prepare would end.
    tx.begin().await.unwrap();
    let sql = "update kit_things set n=n+10 where ($1 is null or id=$1)";
    assert_eq!(tx.execute(sql, &params![Some(Uuid::from_u128(2))]).await.unwrap(), 1);
    assert_eq!(tx.execute(sql, &params![None::<Uuid>]).await.unwrap(), 3);
    tx.commit().await.unwrap();
}

async fn parameters_in_arithmetic_have_64_bits(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    let large = 1_i64 << 40;
    tx.execute("insert into kit_things (id, n) values ($1,$2+1)", &params![Uuid::from_u128(1), large]).await.unwrap();
    let found: Vec<(i64,)> = tx.query("select n from kit_things where n=$1+1", &params![large]).await.unwrap();
    assert_eq!(found, [(large + 1,)]);
    let sql = "update kit_things set n=$2-1 where id=$1 and n=$2 + 1";
    assert_eq!(tx.execute(sql, &params![Uuid::from_u128(1), large]).await.unwrap(), 1);
    assert_eq!(tx.query_one::<(i64,)>("select n from kit_things", &[]).await.unwrap(), (large - 1,));
}

async fn constraint_errors_are_classified(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    insert(&mut tx, 1, 1).await.unwrap();
    assert!(matches!(insert(&mut tx, 1, 1).await, Err(DbError::Unique(_))));
    assert!(matches!(insert(&mut tx, 2, -1).await, Err(DbError::Constraint(_))));
    let missing = tx.execute("insert into kit_nothing values (1)", &[]).await;
    assert!(matches!(missing, Err(DbError::Sqlite(_) | DbError::Postgres(_))), "{missing:?}");
}
