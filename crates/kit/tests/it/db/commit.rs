//! What becomes of a commit whose connection breaks.

use super::{count, insert};
use kit::{
    Db, DbError, Tx,
    testing::{
        TestDatabase,
        proxy::{Cut, Proxy},
    },
};

/// A writer behind the proxy.
async fn behind() -> (TestDatabase, Proxy, Tx) {
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
async fn a_commit_whose_answer_was_lost_stands() {
    let (_database, proxy, mut tx) = behind().await;
    cut(&proxy, &mut tx, Cut::AfterCommit).await.unwrap();
    assert_eq!(count(&mut tx).await, 1);
    tx.begin().await.unwrap();
    insert(&mut tx, 2, 1).await.unwrap();
    tx.commit().await.expect("it goes on");
}

#[tokio::test]
async fn a_commit_that_never_came_through_did_not_happen() {
    let (_database, proxy, mut tx) = behind().await;
    let gone = cut(&proxy, &mut tx, Cut::BeforeCommit).await;
    assert!(matches!(gone, Err(DbError::Closed(_))), "{gone:?}");
    assert_eq!(count(&mut tx).await, 0);
    cut(&proxy, &mut tx, Cut::Nothing).await.expect("it goes on");
}

#[tokio::test]
async fn a_server_that_still_waits_for_the_commit_is_stopped_from_doing_it_later() {
    let (_database, proxy, mut tx) = behind().await;
    let gone = cut(&proxy, &mut tx, Cut::SilentlyBeforeCommit).await;
    assert!(matches!(gone, Err(DbError::Closed(_))), "{gone:?}");
    assert_eq!(count(&mut tx).await, 0);
}

#[tokio::test]
async fn a_commit_nobody_can_ask_about_is_unknown() {
    let (database, proxy, mut tx) = behind().await;
    let unknown = cut(&proxy, &mut tx, Cut::AfterCommitForGood).await;
    assert!(matches!(unknown, Err(DbError::Unknown)), "{unknown:?}");
    let away = tx.begin().await;
    assert!(matches!(away, Err(DbError::Closed(_))), "{away:?}");
    let mut tx = Db::postgres(&database.url(), &[]).unwrap().open_writer().await.unwrap();
    assert_eq!(count(&mut tx).await, 1, "and here it stands");
}

/// After a crash the server gives out numbers of transactions again of which nothing reached the disk, so that "committed" may be said of
/// another one. A new start of its statistics is how a crash shows.
#[tokio::test]
async fn a_commit_before_a_crash_is_unknown_although_its_number_is_committed() {
    let (database, proxy, mut tx) = behind().await;
    database.bystander().await.execute("select pg_stat_reset_shared('wal')", &[]).await.unwrap();
    let unknown = cut(&proxy, &mut tx, Cut::AfterCommit).await;
    assert!(matches!(unknown, Err(DbError::Unknown)), "{unknown:?}");
}

/// Of two transactions with one number the other must not be ended, nor ours be called gone.
#[tokio::test]
async fn a_commit_that_may_still_be_running_is_unknown_when_its_number_may_be_another_s() {
    let (database, proxy, mut tx) = behind().await;
    let bystander = database.bystander().await;
    bystander.execute("select pg_stat_reset_shared('wal')", &[]).await.unwrap();
    let unknown = cut(&proxy, &mut tx, Cut::SilentlyBeforeCommit).await;
    assert!(matches!(unknown, Err(DbError::Unknown)), "{unknown:?}");
    let sql = "select 1 from pg_stat_activity where datname=current_database() and state='idle in transaction'";
    assert_eq!(bystander.query(sql, &[]).await.unwrap().len(), 1, "it was left alone");
}

#[tokio::test]
async fn a_commit_that_is_refused_did_not_happen() {
    let (_database, _proxy, mut tx) = behind().await;
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
