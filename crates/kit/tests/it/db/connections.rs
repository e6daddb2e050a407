//! Transactions, readers, and lost connections.

use super::{TestDb, count, insert, on_both};
use kit::{Db, DbError, Tx, db::params};
use testkit::TestDatabase;

on_both!(
    readers_see_only_commits,
    a_reader_cannot_write,
    read_connections_are_bounded_and_come_back,
    begin_commit_and_rollback_exclude_each_other,
    calls_work_without_a_runtime,
);

async fn readers_see_only_commits(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    tx.begin().await.unwrap();
    insert(&mut tx, 1, 1).await.unwrap();
    assert_eq!(count(&mut test_db.db.reader().await.unwrap()).await, 0);
    tx.commit().await.unwrap();
    assert_eq!(count(&mut test_db.db.reader().await.unwrap()).await, 1);
    tx.begin().await.unwrap();
    insert(&mut tx, 2, 1).await.unwrap();
    tx.rollback().await.unwrap();
    tx.rollback().await.expect("a second rollback does nothing");
    assert_eq!(count(&mut tx).await, 1);
}

async fn a_reader_cannot_write(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    let mut reader = test_db.db.reader().await.unwrap();
    assert!(insert(&mut reader, 1, 1).await.is_err());
    assert_eq!(count(&mut reader).await, 0);
    assert_eq!(count(&mut tx).await, 0);
}

// F11
async fn read_connections_are_bounded_and_come_back(test_db: TestDb) {
    let _tx = test_db.with_table().await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(test_db.db.reader().await.unwrap());
    }
    assert!(matches!(test_db.db.reader().await, Err(DbError::Busy)));
    held.pop();
    let mut again = test_db.db.reader().await.unwrap();
    assert_eq!(count(&mut again).await, 0);
}

async fn begin_commit_and_rollback_exclude_each_other(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    assert!(tx.commit().await.is_err(), "there is nothing to commit");
    tx.begin().await.unwrap();
    insert(&mut tx, 1, 1).await.unwrap();
    assert!(tx.begin().await.is_err(), "a transaction is open");
    tx.commit().await.unwrap();
    tx.reconnect_if_lost().await.expect("nothing was lost");
    assert_eq!(count(&mut tx).await, 1);
    // Dropped in the middle, the transaction leaves nothing.
    tx.begin().await.unwrap();
    insert(&mut tx, 2, 1).await.unwrap();
    drop(tx);
    let mut tx = test_db.writer().await;
    insert(&mut tx, 2, 1).await.expect("the id is free again");
}

/// The engine's threads have no runtime.
async fn calls_work_without_a_runtime(test_db: TestDb) {
    let mut tx = test_db.with_table().await;
    let db = test_db.db.clone();
    let thread = std::thread::spawn(move || {
        futures::executor::block_on(async {
            tx.begin().await?;
            insert(&mut tx, 1, 1).await?;
            tx.execute_many("insert into kit_things (id, n) values ($1,$2)", (2..9).map(|id| params![uuid::Uuid::from_u128(id), 1_i64]))
                .await?;
            tx.commit().await?;
            insert(&mut db.open_writer().await?, 9, 1).await?;
            Ok::<_, DbError>(tx)
        })
    });
    let mut tx = tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap().unwrap();
    assert_eq!(count(&mut tx).await, 9);
    let db = test_db.db.clone();
    let thread = std::thread::spawn(move || futures::executor::block_on(async { count(&mut db.reader().await.unwrap()).await }));
    assert_eq!(tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap(), 9);
}

async fn on_postgres() -> (TestDatabase, Db, Tx) {
    let database = TestDatabase::create().await;
    let db = Db::postgres(&database.url(), &["public"]).unwrap();
    let mut tx = db.open_writer().await.unwrap();
    tx.batch(super::TABLE).await.unwrap();
    (database, db, tx)
}

/// As an operator's command or a restart of the server does.
async fn end_all(database: &TestDatabase) {
    let sql =
        "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname=current_database() and application_name='onrush'";
    database.open_client().await.execute(sql, &[]).await.unwrap();
}

#[tokio::test]
async fn a_writer_survives_a_lost_connection() {
    let (database, _db, mut tx) = on_postgres().await;
    end_all(&database).await;
    tx.begin().await.unwrap();
    insert(&mut tx, 1, 1).await.unwrap();
    tx.commit().await.unwrap();
    end_all(&database).await;
    tx.reconnect_if_lost().await.unwrap();
    insert(&mut tx, 2, 1).await.unwrap();
    assert_eq!(count(&mut tx).await, 2);
}

#[tokio::test]
async fn a_transaction_does_not_outlive_its_connection() {
    let (database, _db, mut tx) = on_postgres().await;
    tx.begin().await.unwrap();
    insert(&mut tx, 1, 1).await.unwrap();
    end_all(&database).await;
    let lost = insert(&mut tx, 2, 1).await;
    assert!(matches!(lost, Err(DbError::Closed(_))), "{lost:?}");
    let lost = insert(&mut tx, 3, 1).await;
    assert!(matches!(lost, Err(DbError::Closed(_))), "the transaction does not continue on a new connection: {lost:?}");
    tx.rollback().await.unwrap();
    assert_eq!(count(&mut tx).await, 0);
}

#[tokio::test]
async fn disconnected_readers_are_replaced() {
    let (database, db, mut tx) = on_postgres().await;
    insert(&mut tx, 1, 1).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(db.reader().await.unwrap());
    }
    held.truncate(1);
    end_all(&database).await;
    assert_eq!(count(&mut held[0]).await, 1, "an unused reader reconnects by itself");
    for _ in 0..8 {
        held.push(db.reader().await.unwrap());
        assert_eq!(count(held.last_mut().unwrap()).await, 1);
        if held.len() == 8 {
            held.truncate(1);
        }
    }
    end_all(&database).await;
    let lost = held[0].query::<(i64,)>("select n from kit_things", &[]).await;
    assert!(lost.is_ok() || matches!(lost, Err(DbError::Closed(_))), "{lost:?}");
    drop(held);
    assert_eq!(count(&mut db.reader().await.unwrap()).await, 1);
}

#[tokio::test]
async fn after_a_failed_statement_only_rollback_works() {
    let (_database, _db, mut tx) = on_postgres().await;
    insert(&mut tx, 1, 1).await.unwrap();
    tx.begin().await.unwrap();
    insert(&mut tx, 2, 1).await.unwrap();
    assert!(matches!(insert(&mut tx, 1, 1).await, Err(DbError::Unique(_))));
    assert!(matches!(insert(&mut tx, 3, 1).await, Err(DbError::Postgres(text)) if text.starts_with("25P02")));
    let refused = tx.commit().await;
    assert!(matches!(&refused, Err(DbError::Postgres(text)) if text.contains("rolled back")), "{refused:?}");
    assert_eq!(count(&mut tx).await, 1);
    tx.begin().await.unwrap();
    insert(&mut tx, 2, 1).await.unwrap();
    tx.commit().await.unwrap();
    // Outside a transaction, the connection is usable after a failure.
    assert!(matches!(insert(&mut tx, 1, 1).await, Err(DbError::Unique(_))));
    assert_eq!(count(&mut tx).await, 2);
}

#[tokio::test]
async fn an_abandoned_statement_fails_the_transaction() {
    let (_database, _db, mut tx) = on_postgres().await;
    tx.begin().await.unwrap();
    {
        let dropped = insert(&mut tx, 1, 1);
        futures::pin_mut!(dropped);
        assert!(futures::poll!(dropped).is_pending());
    }
    assert!(tx.commit().await.is_err());
    assert_eq!(count(&mut tx).await, 0);
}
