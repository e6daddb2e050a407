//! The database seam.

use contracts::{OrderId, Timestamp, Won};
use kit::{
    Db, DbError, Tx,
    db::{Migration, Synchronous, migrate, params},
    testing::TempFolder,
};
use uuid::Uuid;

fn db(folder: &TempFolder) -> Db {
    Db::new(folder.path().join("new").join("kit.db"), Synchronous::Full)
}

const TABLE: &str = "create table kit_things (id UUID primary key, n BIGINT not null check (n >= 0), word TEXT, flag BOOLEAN, bytes BYTEA, \
                     price BIGINT, at BIGINT) without rowid";

async fn with_table(folder: &TempFolder) -> (Db, Tx) {
    let db = db(folder);
    let mut tx = db.open_writer().unwrap();
    tx.execute(TABLE, &[]).await.unwrap();
    (db, tx)
}

async fn insert(tx: &mut Tx, id: u128, n: i64) -> Result<u64, DbError> {
    tx.execute("insert into kit_things (id, n) values ($1,$2)", &params![Uuid::from_u128(id), n]).await
}

#[tokio::test]
async fn values_come_back_as_they_went_in() {
    let folder = TempFolder::new();
    let (_, mut tx) = with_table(&folder).await;
    let (id, bytes) = (OrderId(Uuid::from_u128(7)), vec![0_u8, 1, 255]);
    let sql = "insert into kit_things (id, n, word, flag, bytes, price, at) values ($1,$2,$3,$4,$5,$6,$7)";
    let values = params![id, i64::MAX, "쿠폰 '; --", true, &bytes, Won(-5), Timestamp::MAX];
    assert_eq!(tx.execute(sql, &values).await.unwrap(), 1);
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
}

#[tokio::test]
async fn a_column_of_another_type_is_an_error_that_names_it() {
    let folder = TempFolder::new();
    let (_, mut tx) = with_table(&folder).await;
    insert(&mut tx, 1, -1 + (1 << 40)).await.unwrap();
    for error in [
        tx.query::<(i64, String)>("select n, n from kit_things", &[]).await.map(drop),
        tx.query::<(i64, u32)>("select n, n from kit_things", &[]).await.map(drop),
        tx.query::<(i64, Uuid)>("select n, x'00' from kit_things", &[]).await.map(drop),
        tx.query::<(i64, i64)>("select n, word from kit_things", &[]).await.map(drop),
    ] {
        assert!(matches!(error, Err(DbError::Column { index: 1, .. })), "{error:?}");
    }
}

#[tokio::test]
async fn many_rows_keep_their_order() {
    let folder = TempFolder::new();
    let (_, mut tx) = with_table(&folder).await;
    let rows = (1..=5_u128).map(|n| params![Uuid::from_u128(n), i64::try_from(n).unwrap()]);
    assert_eq!(tx.execute_many("insert into kit_things (id, n) values ($1,$2)", rows).await.unwrap(), [1; 5]);
    let changed = [1_u128, 9, 3].map(|n| params![Uuid::from_u128(n)]);
    assert_eq!(tx.execute_many("update kit_things set n=n+100 where id=$1", changed).await.unwrap(), [1, 0, 1]);
    let wanted = [3_u128, 9, 1, 3].map(|n| params![Uuid::from_u128(n)]);
    let found: Vec<(i64,)> = tx.query_many("select n from kit_things where id=$1", wanted).await.unwrap();
    assert_eq!(found, [(103,), (101,), (103,)]);
    assert_eq!(tx.execute_many::<1>("not even looked at", []).await.unwrap(), [0_u64; 0]);
}

#[tokio::test]
async fn the_last_guards_are_told_apart() {
    let folder = TempFolder::new();
    let (_, mut tx) = with_table(&folder).await;
    insert(&mut tx, 1, 1).await.unwrap();
    assert!(matches!(insert(&mut tx, 1, 1).await, Err(DbError::Unique(_))));
    assert!(matches!(insert(&mut tx, 2, -1).await, Err(DbError::Constraint(_))));
    assert!(matches!(tx.execute("insert into kit_nothing values (1)", &[]).await, Err(DbError::Sqlite(_))));
}

#[test]
fn failures_of_the_disk_are_told_apart_from_mistakes() {
    use rusqlite::{Error, ffi};
    let failed = |code| DbError::from(Error::SqliteFailure(ffi::Error::new(code), Some("text".into())));
    assert!(matches!(failed(ffi::SQLITE_FULL), DbError::DiskFull));
    for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_CANTOPEN, ffi::SQLITE_READONLY] {
        assert!(matches!(failed(code), DbError::Io(_)), "{code}");
    }
    for code in [ffi::SQLITE_BUSY, ffi::SQLITE_BUSY_SNAPSHOT, ffi::SQLITE_LOCKED] {
        assert!(matches!(failed(code), DbError::Busy), "{code}");
    }
    assert!(matches!(failed(ffi::SQLITE_CORRUPT), DbError::Sqlite(_)));
}

#[tokio::test]
async fn readers_see_commits_at_once_and_nothing_before() {
    let folder = TempFolder::new();
    let (db, mut tx) = with_table(&folder).await;
    let count = "select count(*) from kit_things";
    tx.begin().await.unwrap();
    insert(&mut tx, 1, 1).await.unwrap();
    assert_eq!(db.reader().await.unwrap().query_one::<(i64,)>(count, &[]).await.unwrap(), (0,));
    tx.commit().await.unwrap();
    assert_eq!(db.reader().await.unwrap().query_one::<(i64,)>(count, &[]).await.unwrap(), (1,));
    tx.begin().await.unwrap();
    insert(&mut tx, 2, 1).await.unwrap();
    tx.rollback().await.unwrap();
    tx.rollback().await.expect("a second one has nothing to do");
    assert_eq!(tx.query_one::<(i64,)>(count, &[]).await.unwrap(), (1,));
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let folder = TempFolder::new();
    let (db, _tx) = with_table(&folder).await;
    let mut reader = db.reader().await.unwrap();
    assert!(insert(&mut reader, 1, 1).await.is_err());
}

// F11
#[tokio::test]
async fn read_connections_are_bounded_and_come_back() {
    let folder = TempFolder::new();
    let (db, _tx) = with_table(&folder).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(db.reader().await.unwrap());
    }
    assert!(matches!(db.reader().await, Err(DbError::Busy)));
    held.pop();
    let mut again = db.reader().await.unwrap();
    assert_eq!(again.query_one::<(i64,)>("select 1", &[]).await.unwrap(), (1,));
}

#[test]
fn what_is_committed_is_on_the_disk_unless_the_operator_said_otherwise() {
    let folder = TempFolder::new();
    for (synchronous, number) in [(Synchronous::Full, 2), (Synchronous::Normal, 1)] {
        let mut tx = Db::new(folder.path().join("kit.db"), synchronous).open_writer().unwrap();
        let pragma = |tx: &mut Tx, name| tx.sqlite().pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0)).unwrap();
        assert_eq!(pragma(&mut tx, "synchronous"), rusqlite::types::Value::Integer(number));
        assert_eq!(pragma(&mut tx, "journal_mode"), rusqlite::types::Value::Text("wal".into()));
    }
    assert_eq!(Synchronous::default(), Synchronous::Full);
}

const FIRST: Migration = (1, "init", "create table kit_notes (id BIGINT primary key); insert into kit_notes (id) values (1);");
const SECOND: Migration = (2, "more", "insert into kit_notes (id) values (2);");

#[tokio::test]
async fn migrations_run_once_and_in_order() {
    let folder = TempFolder::new();
    let mut tx = db(&folder).open_writer().unwrap();
    migrate(&mut tx, "kit", &[FIRST]).unwrap();
    migrate(&mut tx, "kit", &[FIRST, SECOND]).unwrap();
    migrate(&mut tx, "kit", &[FIRST, SECOND]).unwrap();
    assert_eq!(tx.query::<(i64,)>("select id from kit_notes order by id", &[]).await.unwrap(), [(1,), (2,)]);
    assert_eq!(tx.query_one::<(i64,)>("select count(*) from kit_migrations", &[]).await.unwrap(), (2,));
    migrate(&mut tx, "other", &[(1, "init", "insert into kit_notes (id) values (3);")]).expect("each service has its own history");
}

#[test]
fn a_migration_that_was_changed_after_it_ran_is_refused() {
    let folder = TempFolder::new();
    let mut tx = db(&folder).open_writer().unwrap();
    migrate(&mut tx, "kit", &[FIRST]).unwrap();
    let changed = migrate(&mut tx, "kit", &[(1, "init", "create table kit_other (id BIGINT primary key);")]);
    assert!(matches!(&changed, Err(DbError::Migration(text)) if text.starts_with("kit:")), "{changed:?}");
}

#[test]
fn a_folder_that_cannot_be_made_is_said() {
    let folder = TempFolder::new();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let refused = Db::new(folder.path().join("file").join("kit.db"), Synchronous::Full).open_writer();
    assert!(matches!(&refused, Err(DbError::Open(text)) if text.contains("file")), "{refused:?}");
}
