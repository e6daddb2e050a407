//! Databases for tests on a PostgreSQL server. Without a server the tests fail, and say how to start one.

use crate::db::ScratchDatabase;
use tokio_postgres::{Client, NoTls};

/// The variable that holds the server's URL, of a superuser.
const SERVER_VARIABLE: &str = "ONRUSH_TEST_POSTGRES";
const NAME_PREFIX: &str = "onrush_test";

/// An empty database on the test server, removed with this value.
#[derive(Debug)]
pub struct TestDatabase(ScratchDatabase);

impl TestDatabase {
    pub async fn create() -> Self {
        Self(ScratchDatabase::create(&server(), NAME_PREFIX).await.expect("the test user may make databases"))
    }

    /// The URL of the database, for the server's superuser.
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// A copy of the database with its contents. The original must have no connections.
    pub async fn copy(&self) -> Self {
        Self(self.0.copy(NAME_PREFIX).await.expect("it has no connections"))
    }

    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The result of a query for one BIGINT.
    pub async fn number(&self, sql: &str) -> i64 {
        self.open_client().await.query_one(sql, &[]).await.expect("the query runs").get(0)
    }

    /// A connection outside the product, such as an operator's `psql`.
    pub async fn open_client(&self) -> Client {
        connect(&self.url()).await
    }
}

impl Drop for TestDatabase {
    /// On a thread of its own, because the caller may be inside a runtime. If it fails, an unused database remains on the server.
    fn drop(&mut self) {
        let database = self.0.clone();
        let dropped = std::thread::spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                let _ = runtime.block_on(database.remove());
            }
        });
        let _ = dropped.join();
    }
}

fn server() -> String {
    std::env::var(SERVER_VARIABLE).unwrap_or_else(|_| panic!("set {SERVER_VARIABLE}, or run ./scripts/services run -- cargo test …"))
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the test server answers");
    crate::tasks::spawn("test connection", async move {
        let _ = connection.await;
    });
    client
}
