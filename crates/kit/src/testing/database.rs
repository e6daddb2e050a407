//! Databases for tests on a PostgreSQL server, which has to be there: without it a test fails, and says what to start.

use crate::db::ScratchDatabase;
use tokio_postgres::{Client, NoTls};

/// Where the tests find a server: the URL of a superuser.
const SERVER_VARIABLE: &str = "ONRUSH_TEST_POSTGRES";
const NAME_PREFIX: &str = "onrush_test";

/// An empty database on the test server, gone with the value.
#[derive(Debug)]
pub struct TestDatabase(ScratchDatabase);

impl TestDatabase {
    pub async fn create() -> Self {
        Self(ScratchDatabase::create(&server(), NAME_PREFIX).await.expect("the test user may make databases"))
    }

    /// The URL of the database, as the server's superuser.
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// Another database with the same in it. Nobody may be connected with this one.
    pub async fn copy(&self) -> Self {
        Self(self.0.copy(NAME_PREFIX).await.expect("nobody is connected with it"))
    }

    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// What a query answers that asks for one BIGINT.
    pub async fn number(&self, sql: &str) -> i64 {
        self.bystander().await.query_one(sql, &[]).await.expect("the query runs").get(0)
    }

    /// A connection of a bystander to it, such as an operator's `psql`.
    pub async fn bystander(&self) -> Client {
        connect(&self.url()).await
    }
}

impl Drop for TestDatabase {
    /// On a thread of its own: whoever drops it may be inside a runtime. Failing that, the server keeps a database nobody uses.
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
