//! Migrations.

use super::{TestDb, on_both};
use kit::{
    Db, DbError, Tx,
    db::{Migration, migrate, migrate_text},
};
use testkit::TestDatabase;

on_both!(
    migrations_run_once_and_in_order,
    a_changed_migration_is_refused,
    a_failed_migration_leaves_nothing,
    generated_migrations_have_a_history_too,
);

const FIRST: Migration =
    Migration::new(1, "init", "create table kit_notes (id BIGINT primary key) without rowid; insert into kit_notes (id) values (1);");
const SECOND: Migration = Migration::new(2, "more", "insert into kit_notes (id) values (2);");

async fn notes(tx: &mut Tx) -> Vec<(i64,)> {
    tx.query("select id from kit_notes order by id", &[]).await.unwrap()
}

async fn migrations_run_once_and_in_order(test_db: TestDb) {
    let mut tx = test_db.writer().await;
    migrate(&mut tx, "kit", &[]).await.unwrap();
    migrate(&mut tx, "kit", &[FIRST]).await.unwrap();
    migrate(&mut tx, "kit", &[FIRST, SECOND]).await.unwrap();
    migrate(&mut tx, "kit", &[FIRST, SECOND]).await.unwrap();
    assert_eq!(notes(&mut tx).await, [(1,), (2,)]);
    assert_eq!(tx.query_one::<(i64,)>("select count(*) from kit_migrations", &[]).await.unwrap(), (2,));
    let other = Migration::new(1, "init", "create table other_notes (id BIGINT primary key)");
    migrate(&mut tx, "other", &[other]).await.expect("each service has its own history");
}

async fn a_changed_migration_is_refused(test_db: TestDb) {
    let mut tx = test_db.writer().await;
    migrate(&mut tx, "kit", &[FIRST]).await.unwrap();
    let changed = migrate(&mut tx, "kit", &[Migration::new(1, "init", "create table kit_other (id BIGINT primary key);")]).await;
    assert!(matches!(&changed, Err(DbError::Migration(text)) if text.starts_with("kit:")), "{changed:?}");
}

async fn a_failed_migration_leaves_nothing(test_db: TestDb) {
    let mut tx = test_db.writer().await;
    let broken = Migration::new(2, "more", "insert into kit_notes (id) values (2); insert into kit_notes (id) values (1);");
    let failed = migrate(&mut tx, "kit", &[FIRST, broken]).await;
    assert!(matches!(&failed, Err(DbError::Migration(text)) if text.starts_with("kit:")), "{failed:?}");
    assert_eq!(notes(&mut tx).await, [(1,)]);
    migrate(&mut tx, "kit", &[FIRST, SECOND]).await.expect("the corrected migration runs");
    assert_eq!(notes(&mut tx).await, [(1,), (2,)]);
}

async fn generated_migrations_have_a_history_too(test_db: TestDb) {
    let mut tx = test_db.writer().await;
    migrate(&mut tx, "kit", &[FIRST]).await.unwrap();
    let step = |name: &str| format!("create table kit_{name} (id BIGINT primary key) WITHOUT ROWID");
    let steps = vec![(1, "one", step("one")), (2, "two", step("two"))];
    migrate_text(&mut tx, "kit_own", "kit", &steps[..1]).await.unwrap();
    migrate_text(&mut tx, "kit_own", "kit", &steps).await.unwrap();
    migrate_text(&mut tx, "kit_own", "kit", &steps).await.unwrap();
    assert_eq!(tx.query_one::<(i64,)>("select count(*) from kit_own_migrations", &[]).await.unwrap(), (2,));
    assert_eq!(tx.query::<(i64,)>("select id from kit_two", &[]).await.unwrap(), []);
}

#[tokio::test]
async fn each_owner_has_a_schema_and_may_have_its_own_sql() {
    let test_db = TestDb::postgres().await;
    let mut tx = test_db.writer().await;
    let step = Migration::new(1, "init", "not meant for it").on_postgres("create table kit_notes (id BIGINT generated always as identity)");
    migrate(&mut tx, "kit", &[step]).await.unwrap();
    let sql = "select table_schema from information_schema.tables where table_name in ('kit_notes', 'kit_migrations')";
    assert_eq!(tx.query::<(String,)>(sql, &[]).await.unwrap(), [("kit".to_owned(),), ("kit".to_owned(),)]);
    let sql = "select current_setting('search_path'), current_setting('lock_timeout'), current_setting('statement_timeout')";
    let found: (String, String, String) = tx.query_one(sql, &[]).await.unwrap();
    assert_eq!(found, ("kit,other,public".into(), "5s".into(), "10s".into()), "settings are restored");
    let locks = "select count(*) from pg_locks join pg_database on pg_database.oid = database where locktype='advisory' and datname=current_database()";
    assert_eq!(tx.query_one::<(i64,)>(locks, &[]).await.unwrap(), (0,));
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_at_once_wait_for_each_other() {
    let database = TestDatabase::create().await;
    let starts = (0..4).map(|_| {
        let url = database.url();
        async move {
            let mut tx = Db::postgres(&url, &["kit", "other"]).unwrap().open_writer().await.unwrap();
            migrate(&mut tx, "kit", &[FIRST, SECOND]).await?;
            migrate(&mut tx, "other", &[Migration::new(1, "init", "create table other_notes (id BIGINT primary key)")]).await
        }
    });
    let done: Vec<_> = starts.map(spawn_task).collect();
    for start in done {
        start.await.unwrap().unwrap();
    }
    let mut tx = Db::postgres(&database.url(), &["kit"]).unwrap().open_writer().await.unwrap();
    assert_eq!(notes(&mut tx).await, [(1,), (2,)]);
}

/// Runs concurrently, on any thread of the runtime.
fn spawn_task<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::runtime::Handle::current().spawn(future)
}
