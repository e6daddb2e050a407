//! Databases for tests on a PostgreSQL server. Without a server the tests fail, and say how to start one.

use super::template;
use kit::{
    db::{DbError, ScratchDatabase},
    module::Module,
};
use std::sync::{Arc, OnceLock};
use tokio_postgres::{Client, NoTls};

/// The variable that holds the server's URL, of a superuser.
const SERVER_VARIABLE: &str = "ONRUSH_TEST_POSTGRES";
const NAME_PREFIX: &str = "onrush_test";

/// A database on the test server, removed with this value.
#[derive(Debug)]
pub struct TestDatabase {
    database: ScratchDatabase,
    created: OnceLock<()>,
}

impl TestDatabase {
    /// An empty database.
    pub async fn create() -> Self {
        Self::existing(ScratchDatabase::create(&server(), NAME_PREFIX).await.expect("the test user may make databases"))
    }

    /// A database that [`TestDatabase::create_tables`] creates, once the services are known.
    pub(super) fn reserve() -> Self {
        Self { database: ScratchDatabase::reserve(&server(), NAME_PREFIX), created: OnceLock::new() }
    }

    fn existing(database: ScratchDatabase) -> Self {
        Self { database, created: OnceLock::from(()) }
    }

    /// Creates the database with the tables of these services, unless it exists. Migrating each database anew would take most of the
    /// time of a short test.
    pub(super) fn create_tables(&self, services: &[Arc<dyn Module>]) {
        self.created.get_or_init(|| {
            let copy_template = async {
                let server = server();
                let name = template::provide(&connect(&server).await, &server, services).await?;
                self.database.create_from(&name).await
            };
            std::thread::scope(|scope| {
                let created = scope.spawn(|| block_on(copy_template)).join().expect("the thread does not panic");
                created.expect("the test user may make databases");
            });
        });
    }

    /// The URL of the database, for the server's superuser.
    pub fn url(&self) -> String {
        self.database.url()
    }

    /// A copy of the database with its contents. The original must have no connections.
    pub async fn copy(&self) -> Self {
        Self::existing(self.database.copy(NAME_PREFIX).await.expect("it has no connections"))
    }

    pub fn name(&self) -> &str {
        self.database.name()
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
        std::thread::scope(|scope| {
            let removed = scope.spawn(|| block_on(self.database.remove()));
            let _ = removed.join();
        });
    }
}

/// Runs the future on a runtime of its own.
fn block_on(future: impl Future<Output = Result<(), DbError>>) -> Result<(), DbError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made").block_on(future)
}

fn server() -> String {
    std::env::var(SERVER_VARIABLE).unwrap_or_else(|_| panic!("set {SERVER_VARIABLE}, or run ./scripts/services run -- cargo test …"))
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the test server answers");
    kit::tasks::spawn("test connection", async move {
        let _ = connection.await;
    });
    client
}
