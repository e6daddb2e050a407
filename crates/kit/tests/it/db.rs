//! The database layer: common behaviour on both databases by the same tests, and features of one database.

mod bulk;
mod commit;
mod connections;
mod heavy;
mod migrations;
mod postgres;
mod sqlite;
mod values;

use kit::{
    Db, DbError, Tx,
    db::{Synchronous, params},
};
use testkit::{TempFolder, TestDatabase};
use uuid::Uuid;

/// An empty database, removed on drop.
pub struct TestDb {
    pub db: Db,
    _storage: Storage,
}

enum Storage {
    Sqlite { _folder: TempFolder },
    Postgres { _database: TestDatabase },
}

impl TestDb {
    pub async fn sqlite() -> Self {
        let folder = TempFolder::new();
        let db = Db::sqlite(folder.path().join("new").join("kit.db"), Synchronous::Full);
        Self { db, _storage: Storage::Sqlite { _folder: folder } }
    }

    pub async fn postgres() -> Self {
        let database = TestDatabase::create().await;
        let db = Db::postgres(&database.url(), &["kit", "other", "public"]).unwrap();
        Self { db, _storage: Storage::Postgres { _database: database } }
    }

    pub async fn writer(&self) -> Tx {
        self.db.open_writer().await.unwrap()
    }

    /// A writer, and the table of most tests.
    pub async fn with_table(&self) -> Tx {
        let mut tx = self.writer().await;
        tx.batch(TABLE).await.unwrap();
        tx
    }
}

const TABLE: &str = "create table kit_things (id UUID primary key, n BIGINT not null check (n >= 0), word TEXT, flag BOOLEAN, bytes BYTEA, \
                     price BIGINT, at BIGINT) without rowid";

pub async fn insert(tx: &mut Tx, id: u128, n: i64) -> Result<u64, DbError> {
    tx.execute("insert into kit_things (id, n) values ($1,$2)", &params![Uuid::from_u128(id), n]).await
}

pub async fn count(tx: &mut Tx) -> i64 {
    tx.query_one::<(i64,)>("select count(*) from kit_things", &[]).await.unwrap().0
}

/// Makes two tests of each function, one per database.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
            async fn on_sqlite() {
                super::$name($crate::db::TestDb::sqlite().await).await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
            async fn on_postgres() {
                super::$name($crate::db::TestDb::postgres().await).await;
            }
        }
    )*};
}
use on_both;
