//! Databases for tests on a PostgreSQL server, which has to be there: without it a test fails, and says what to start.

use crate::ports::new_id;
use tokio_postgres::{Client, NoTls};

/// Where the tests find a server: the URL of a superuser.
const SERVER: &str = "ONRUSH_TEST_POSTGRES";

/// An empty database on the test server, gone with the value.
#[derive(Debug)]
pub struct TestDatabase {
    server: String,
    name: String,
}

impl TestDatabase {
    pub async fn create() -> Self {
        let server = server();
        let name = format!("onrush_test_{}", new_id().simple());
        let client = connect(&server).await;
        client
            .batch_execute(&format!("create database {name} template template0 encoding 'UTF8'"))
            .await
            .expect("the test user may make databases");
        Self { server, name }
    }

    /// The URL of the database, as the server's superuser.
    pub fn url(&self) -> String {
        at(&self.server, &self.name)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection of a bystander to it, such as an operator's `psql`.
    pub async fn bystander(&self) -> Client {
        connect(&self.url()).await
    }
}

impl Drop for TestDatabase {
    /// On a thread of its own: whoever drops it may be inside a runtime. Failing that, the server keeps a database nobody uses.
    fn drop(&mut self) {
        let (server, sql) = (self.server.clone(), format!("drop database if exists {} with (force)", self.name));
        let dropped = std::thread::spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                runtime.block_on(async { connect(&server).await.batch_execute(&sql).await.ok() });
            }
        });
        let _ = dropped.join();
    }
}

fn server() -> String {
    std::env::var(SERVER).unwrap_or_else(|_| panic!("set {SERVER}, or run ./scripts/services run -- cargo test …"))
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the test server answers");
    crate::tasks::spawn("test connection", async move {
        let _ = connection.await;
    });
    client
}

/// The same server's URL for another database.
fn at(url: &str, name: &str) -> String {
    let (address, options) = url.split_once('?').map_or((url, None), |(address, options)| (address, Some(options)));
    let from = address.find("://").map_or(0, |at| at + 3);
    let end = address[from..].find('/').map_or(address.len(), |at| from + at);
    let options = options.map(|options| format!("?{options}")).unwrap_or_default();
    format!("{}/{name}{options}", &address[..end])
}

#[cfg(test)]
mod tests {
    use super::at;

    #[test]
    fn only_the_database_of_the_url_changes() {
        assert_eq!(at("postgres://u:p@h:1/postgres?a=b", "x"), "postgres://u:p@h:1/x?a=b");
        assert_eq!(at("postgres://h", "x"), "postgres://h/x");
    }
}
