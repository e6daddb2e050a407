//! Outcomes of commits whose connection breaks.

use super::{count, insert};
use kit::{Db, DbError, Tx};
use testkit::{
    TestDatabase,
    proxy::{Cut, Proxy},
};

/// A writer connected through the proxy.
async fn writer_through_proxy() -> (TestDatabase, Proxy, Tx) {
    let database = TestDatabase::create().await;
    let url = database.url();
    let address = url.split_once('@').map_or(url.as_str(), |(_, address)| address);
    let server = address.split(['/', '?']).next().unwrap().to_owned();
    let proxy = Proxy::before(server.clone()).await;
    let url = url.replace(&server, &format!("127.0.0.1:{}", proxy.port()));
    let mut tx = Db::postgres(&url, &["public"]).unwrap().open_writer().await.unwrap();
    tx.batch(super::TABLE).await.unwrap();
    (database, proxy, tx)
}

async fn cut(proxy: &Proxy, tx: &mut Tx, cut: Cut) -> Result<(), DbError> {
    tx.begin().await?;
    insert(tx, 1, 1).await?;
    proxy.cut_next(cut);
    tx.commit().await
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_applied() {
    let (_database, proxy, mut tx) = writer_through_proxy().await;
    cut(&proxy, &mut tx, Cut::AfterCommit).await.unwrap();
    assert_eq!(count(&mut tx).await, 1);
    tx.begin().await.unwrap();
    insert(&mut tx, 2, 1).await.unwrap();
    tx.commit().await.expect("it goes on");
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_not_applied() {
    let (_database, proxy, mut tx) = writer_through_proxy().await;
    let gone = cut(&proxy, &mut tx, Cut::BeforeCommit).await;
    assert!(matches!(gone, Err(DbError::Closed(_))), "{gone:?}");
    assert_eq!(count(&mut tx).await, 0);
    cut(&proxy, &mut tx, Cut::Nothing).await.expect("it goes on");
}

#[tokio::test]
async fn an_undelivered_commit_is_prevented_from_happening_later() {
    let (_database, proxy, mut tx) = writer_through_proxy().await;
    let gone = cut(&proxy, &mut tx, Cut::SilentlyBeforeCommit).await;
    assert!(matches!(gone, Err(DbError::Closed(_))), "{gone:?}");
    assert_eq!(count(&mut tx).await, 0);
}

#[tokio::test]
async fn a_commit_is_unknown_if_the_server_stays_unreachable() {
    let (database, proxy, mut tx) = writer_through_proxy().await;
    let unknown = cut(&proxy, &mut tx, Cut::AfterCommitForGood).await;
    assert!(matches!(unknown, Err(DbError::Unknown)), "{unknown:?}");
    let away = tx.begin().await;
    assert!(matches!(away, Err(DbError::Closed(_))), "{away:?}");
    let mut tx = Db::postgres(&database.url(), &[]).unwrap().open_writer().await.unwrap();
    assert_eq!(count(&mut tx).await, 1, "the commit was applied");
}

/// After a crash PostgreSQL reuses transaction ids that never reached the disk. The status "committed" may then belong to another
/// transaction. New statistics reveal the crash.
#[tokio::test]
async fn a_commit_before_a_server_crash_is_unknown() {
    let (database, proxy, mut tx) = writer_through_proxy().await;
    database.open_client().await.execute("select pg_stat_reset_shared('wal')", &[]).await.unwrap();
    let unknown = cut(&proxy, &mut tx, Cut::AfterCommit).await;
    assert!(matches!(unknown, Err(DbError::Unknown)), "{unknown:?}");
}

/// If two transactions share an id, the other one must not be ended, and ours must not be reported as failed.
#[tokio::test]
async fn a_commit_with_a_reused_transaction_id_is_unknown() {
    let (database, proxy, mut tx) = writer_through_proxy().await;
    let bystander = database.open_client().await;
    bystander.execute("select pg_stat_reset_shared('wal')", &[]).await.unwrap();
    let unknown = cut(&proxy, &mut tx, Cut::SilentlyBeforeCommit).await;
    assert!(matches!(unknown, Err(DbError::Unknown)), "{unknown:?}");
    let sql = "select 1 from pg_stat_activity where datname=current_database() and state='idle in transaction'";
    assert_eq!(bystander.query(sql, &[]).await.unwrap().len(), 1, "the other transaction is still open");
}

#[tokio::test]
async fn a_refused_commit_is_not_applied() {
    let (_database, _proxy, mut tx) = writer_through_proxy().await;
    tx.batch("create table kit_parts (id BIGINT primary key, whole BIGINT references kit_parts (id) deferrable initially deferred)")
        .await
        .unwrap();
    tx.begin().await.unwrap();
    tx.execute("insert into kit_parts (id, whole) values (1, 2)", &[]).await.unwrap();
    let refused = tx.commit().await;
    assert!(matches!(refused, Err(DbError::Constraint(_))), "{refused:?}");
    tx.begin().await.unwrap();
    tx.execute("insert into kit_parts (id, whole) values (1, 1)", &[]).await.unwrap();
    tx.commit().await.unwrap();
}
