//! Behaviour of PostgreSQL only.

use super::{TestDb, count, insert};
use kit::{Db, DbError, Tx, db::params};
use std::process::Command;
use testkit::{TempFolder, TestDatabase};
use uuid::Uuid;

async fn lock(tx: &mut Tx, id: u128) -> Result<Vec<(i64,)>, DbError> {
    tx.query("select n from kit_things where id=$1 for update", &params![Uuid::from_u128(id)]).await
}

/// Two writers, and two rows to conflict on.
async fn two_writers() -> (TestDb, Tx, Tx) {
    let test_db = TestDb::postgres().await;
    let mut first = test_db.with_table().await;
    let second = test_db.writer().await;
    for id in 1..=2 {
        insert(&mut first, id, 1).await.unwrap();
    }
    (test_db, first, second)
}

// F12
#[tokio::test]
async fn a_lock_timeout_is_reported_as_locked() {
    let (_place, mut first, mut second) = two_writers().await;
    first.begin().await.unwrap();
    assert_eq!(lock(&mut first, 1).await.unwrap().len(), 1);
    second.begin().await.unwrap();
    assert_eq!(lock(&mut second, 2).await.unwrap().len(), 1, "the other row is free");
    let waited = lock(&mut second, 1).await;
    assert!(matches!(&waited, Err(DbError::Locked(text)) if text.starts_with("55P03")), "{waited:?}");
    second.rollback().await.unwrap();
    first.commit().await.unwrap();
    second.begin().await.unwrap();
    assert_eq!(lock(&mut second, 1).await.unwrap().len(), 1);
    second.commit().await.unwrap();
}

// F12
#[tokio::test]
async fn one_of_two_deadlocked_transactions_succeeds() {
    let (_place, mut first, mut second) = two_writers().await;
    first.begin().await.unwrap();
    second.begin().await.unwrap();
    lock(&mut first, 1).await.unwrap();
    lock(&mut second, 2).await.unwrap();
    let crossed = async |tx: &mut Tx, id| {
        let locked = lock(tx, id).await;
        if locked.is_ok() {
            tx.commit().await.unwrap()
        } else {
            tx.rollback().await.unwrap()
        }
        locked
    };
    let (one, other) = futures::join!(crossed(&mut first, 2), crossed(&mut second, 1));
    let [Ok(_), Err(DbError::Locked(text))] = (if one.is_ok() { [one, other] } else { [other, one] }) else {
        panic!("one of the two succeeds");
    };
    assert!(text.starts_with("40P01"), "{text}");
}

// F12
#[tokio::test]
async fn serialization_failures_ask_for_a_retry() {
    let (test_db, mut first, mut second) = two_writers().await;
    let serializable = "alter database current set default_transaction_isolation = 'serializable'";
    assert!(first.batch(serializable).await.is_err(), "the isolation level cannot be changed");
    first.begin().await.unwrap();
    let sql = "select current_setting('transaction_isolation')";
    assert_eq!(first.query_one::<(String,)>(sql, &[]).await.unwrap(), ("read committed".into(),));
    first.rollback().await.unwrap();
    let fail = "do $$ begin raise exception 'in the way' using errcode = '40001'; end $$";
    let failed = second.execute(fail, &[]).await;
    assert!(matches!(&failed, Err(DbError::Retry(text)) if text == "40001: in the way"), "{failed:?}");
    assert_eq!(count(&mut test_db.writer().await).await, 2);
}

#[tokio::test]
async fn a_slow_statement_is_cancelled() {
    let test_db = TestDb::postgres().await;
    let mut tx = test_db.writer().await;
    let sql = "select current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'), \
               current_setting('application_name')";
    let found: (String, String, String) = tx.query_one(sql, &[]).await.unwrap();
    assert_eq!(found, ("10s".into(), "20s".into(), "onrush".into()));
    tx.batch("set statement_timeout = 20").await.unwrap();
    assert!(matches!(tx.batch("select pg_sleep(60)").await, Err(DbError::Slow)));
}

#[tokio::test]
async fn a_server_without_synchronous_commit_is_refused() {
    let database = TestDatabase::create().await;
    let db = Db::postgres(&database.url(), &[]).unwrap();
    db.check().await.unwrap();
    let sql = format!("alter database {} set synchronous_commit = off", database.name());
    database.open_client().await.batch_execute(&sql).await.unwrap();
    let refused = db.check().await;
    assert!(matches!(&refused, Err(DbError::Open(text)) if text.contains("synchronous_commit = on")), "{refused:?}");
}

#[tokio::test]
async fn a_database_without_utf8_is_refused() {
    let database = TestDatabase::create().await;
    let name = format!("{}_ascii", database.name());
    let client = database.open_client().await;
    client.batch_execute(&format!("create database {name} encoding 'SQL_ASCII' locale 'C' template template0")).await.unwrap();
    let refused = Db::postgres(&database.url().replace(database.name(), &name), &[]).unwrap().check().await;
    client.batch_execute(&format!("drop database {name} with (force)")).await.unwrap();
    assert!(matches!(&refused, Err(DbError::Open(text)) if text.contains("encoding 'UTF8'")), "{refused:?}");
}

/// A separate server from the same programs as in `scripts/services`. Stopped on drop.
struct UnsyncedServer {
    folder: TempFolder,
    url: String,
}

/// Loads the functions of `scripts/services`. `$1` is the server's folder.
const SCRIPT: &str = "set -euo pipefail; parts=$0; for part in common packages postgres; do . \"$parts/$part.sh\"; done;";

impl UnsyncedServer {
    fn start() -> UnsyncedServer {
        let folder = TempFolder::new();
        let start = "postgres_create \"$1\"; postgres_first \"$1\"; home=$(field \"$1/postgres.state\" postgres_home); \
                     echo 'fsync = off' >>\"$home/data/postgresql.conf\"; postgres_start \"$1/postgres.state\"; \
                     field \"$1/postgres.state\" postgres_address";
        let url = UnsyncedServer::script(&folder, start);
        UnsyncedServer { folder, url }
    }

    fn script(folder: &TempFolder, text: &str) -> String {
        let parts = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/services.d");
        let output = Command::new("bash").args(["-c", &format!("{SCRIPT} {text}"), parts]).arg(folder.path()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "PostgreSQL of Debian's packages is needed: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

impl Drop for UnsyncedServer {
    fn drop(&mut self) {
        UnsyncedServer::script(&self.folder, "postgres_stop \"$1/postgres.state\" immediate; postgres_remove \"$1/postgres.state\"");
    }
}

#[tokio::test]
async fn a_server_without_fsync_is_refused() {
    let server = UnsyncedServer::start();
    let refused = Db::postgres(&server.url, &[]).unwrap().check().await;
    assert!(matches!(&refused, Err(DbError::Open(text)) if text.contains("fsync = on")), "{refused:?}");
}

#[tokio::test]
async fn connection_errors_never_show_the_password() {
    let database = TestDatabase::create().await;
    let elsewhere = |name: &str| database.url().replace(database.name(), name);
    let refused = Db::postgres(&elsewhere("onrush_test_nothing"), &[]).unwrap().open_writer().await;
    assert!(matches!(&refused, Err(DbError::Open(text)) if text.contains("onrush_test_nothing")), "{refused:?}");
    // This port was free a moment ago, so no server listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = Db::postgres(&format!("postgres://onrush:geheim@127.0.0.1:{port}/mall"), &[]).unwrap();
    assert_eq!(format!("{away:?}"), format!("Db(Postgres(postgres://127.0.0.1:{port}/mall))"));
    for refused in [away.open_writer().await.map(drop), away.reader().await.map(drop), away.check().await] {
        assert!(matches!(&refused, Err(DbError::Closed(text)) if !text.contains("geheim")), "{refused:?}");
    }
    for (url, schemas) in [
        ("postgres://h:not-a-port/x", ["kit"]),
        ("postgres://h/x", ["kit -c fsync=off"]),
        ("postgres://h/x", [""]),
        ("postgres://h/x?sslmode=require", ["kit"]),
    ] {
        assert!(matches!(Db::postgres(url, &schemas), Err(DbError::Open(_))), "{url} {schemas:?}");
    }
}

#[tokio::test]
async fn a_sum_has_to_be_cast() {
    let test_db = TestDb::postgres().await;
    let mut tx = test_db.with_table().await;
    insert(&mut tx, 1, 5).await.unwrap();
    let refused = tx.query_one::<(i64,)>("select sum(n) from kit_things", &[]).await;
    assert!(matches!(&refused, Err(DbError::Column { index: 0, reason }) if reason.contains("cast the sum to BIGINT")), "{refused:?}");
    assert_eq!(tx.query_one::<(i64,)>("select cast(sum(n) as BIGINT) from kit_things", &[]).await.unwrap(), (5,));
}

#[tokio::test]
async fn values_that_do_not_fit_are_refused() {
    let test_db = TestDb::postgres().await;
    let mut tx = test_db.writer().await;
    tx.batch("create table kit_small (a SMALLINT, b INTEGER, c BOOLEAN, d UUID, e VARCHAR(3), f BYTEA)").await.unwrap();
    let sql = "insert into kit_small (a, b, c, d, e, f) values ($1,$2,$3,$4,$5,$6)";
    let id = Uuid::from_u128(5);
    tx.execute(sql, &params![-5_i64, 1_i64 << 30, true, id.as_bytes(), "abc", id]).await.unwrap();
    type Small = (i64, i64, bool, Uuid, String, Uuid);
    let found: Small = tx.query_one("select a, b, c, d, e, f from kit_small", &[]).await.unwrap();
    assert_eq!(found, (-5, 1 << 30, true, id, "abc".into(), id));
    for (column, value) in [
        ("a", kit::Param::Int(1 << 15)),
        ("b", kit::Param::Int(1 << 31)),
        ("c", kit::Param::Int(2)),
        ("d", kit::Param::Bytes(&[0; 15])),
        ("d", kit::Param::Text("x")),
        ("e", kit::Param::Int(1)),
        ("e", kit::Param::Id(id)),
        ("e", kit::Param::Text("long")),
        ("f", kit::Param::Text("x")),
    ] {
        let refused = tx.execute(&format!("update kit_small set {column}=$1"), &[value]).await;
        assert!(matches!(refused, Err(DbError::Postgres(_))), "{column} {value:?}: {refused:?}");
    }
    let found: Small = tx.query_one("select a, b, c, d, e, f from kit_small", &[]).await.unwrap();
    assert_eq!(found.0, -5);
}

#[tokio::test]
async fn tables_may_change_under_a_prepared_statement() {
    let test_db = TestDb::postgres().await;
    let mut tx = test_db.with_table().await;
    let mut other = test_db.writer().await;
    insert(&mut tx, 1, 5).await.unwrap();
    let sql = "select * from kit_things";
    assert_eq!(tx.query::<(Uuid, i64)>(sql, &[]).await.unwrap().len(), 1);
    other.batch("alter table kit_things add column more BIGINT").await.unwrap();
    let stale = tx.query::<(Uuid, i64)>(sql, &[]).await;
    assert!(matches!(stale, Err(DbError::Retry(_))), "{stale:?}");
    assert_eq!(tx.query::<(Uuid, i64)>(sql, &[]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn listeners_get_committed_notifications_until_disconnected() {
    let database = TestDatabase::create().await;
    let db = Db::postgres(&database.url(), &[]).unwrap();
    let mut listener = db.notifications("kit \"news\"").await.unwrap();
    let mut tx = db.open_writer().await.unwrap();
    let say = "select pg_notify($1, $2)";
    tx.begin().await.unwrap();
    tx.execute(say, &params!["kit \"news\"", "taken back"]).await.unwrap();
    tx.rollback().await.unwrap();
    tx.execute(say, &params!["other", "not for it"]).await.unwrap();
    tx.begin().await.unwrap();
    tx.execute(say, &params!["kit \"news\"", "one"]).await.unwrap();
    tx.execute(say, &params!["kit \"news\"", "둘"]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(listener.next().await.as_deref(), Some("one"));
    assert_eq!(listener.next().await.as_deref(), Some("둘"));
    let sql = "select pg_terminate_backend(pid) from pg_stat_activity where datname=current_database() and query like 'listen %'";
    assert_eq!(database.open_client().await.execute(sql, &[]).await.unwrap(), 1);
    assert_eq!(listener.next().await, None);
}

#[tokio::test]
async fn a_listener_that_lags_too_far_is_disconnected() {
    let database = TestDatabase::create().await;
    let db = Db::postgres(&database.url(), &[]).unwrap();
    let mut listener = db.notifications("news").await.unwrap();
    let mut tx = db.open_writer().await.unwrap();
    tx.batch("select pg_notify('news', n::text) from generate_series(1, 5000) as n").await.unwrap();
    let bystander = database.open_client().await;
    let sql = "select 1 from pg_stat_activity where datname=current_database() and query like 'listen %'";
    for _ in 0..600 {
        if bystander.query(sql, &[]).await.unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut heard = 0;
    while let Some(said) = listener.next().await {
        heard += 1;
        assert_eq!(said, heard.to_string());
    }
    assert_eq!(heard, 1_024, "the buffered notifications, then the end");
}
