//! A temporary database on a shared server, for load runs and tests that must not touch other databases.

use super::{error, open_connection};
use crate::DbError;
use runtime::ports::new_id;
use std::{str::FromStr, time::Duration};
use tokio_postgres::Config;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A database with a unique name. It exists until it is removed.
#[derive(Clone, Debug)]
pub struct ScratchDatabase {
    server: String,
    name: String,
}

impl ScratchDatabase {
    /// An empty database. `server` is the URL of any database on the server, for a user who may create databases. The name begins with
    /// `purpose`.
    pub async fn create(server: &str, purpose: &str) -> Result<Self, DbError> {
        let scratch = Self::reserve(server, purpose);
        scratch.create_from("template0").await?;
        Ok(scratch)
    }

    /// A copy of the database with its contents. The original must have no connections.
    pub async fn copy(&self, purpose: &str) -> Result<Self, DbError> {
        let copy = Self::reserve(&self.server, purpose);
        copy.create_from(&self.name).await?;
        Ok(copy)
    }

    /// A unique name, without a database yet.
    pub fn reserve(server: &str, purpose: &str) -> Self {
        Self::named(server, &format!("{purpose}_{}", new_id().simple()))
    }

    /// The database of this name, which need not exist.
    pub fn named(server: &str, name: &str) -> Self {
        Self { server: server.to_owned(), name: name.to_owned() }
    }

    /// Creates the database with the contents of another one, which must have no connections.
    pub async fn create_from(&self, template: &str) -> Result<(), DbError> {
        self.run_on_server(&format!("create database {} template {template} encoding 'UTF8'", self.name)).await
    }

    /// Renames the database, which must have no connections.
    pub async fn rename(self, name: &str) -> Result<Self, DbError> {
        self.run_on_server(&format!("alter database {} rename to {name}", self.name)).await?;
        Ok(Self::named(&self.server, name))
    }

    /// Removes the database, and closes its connections.
    pub async fn remove(&self) -> Result<(), DbError> {
        self.run_on_server(&format!("drop database if exists {} with (force)", self.name)).await
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL of the database, for the user who created it.
    pub fn url(&self) -> String {
        with_database(&self.server, &self.name)
    }

    async fn run_on_server(&self, sql: &str) -> Result<(), DbError> {
        let config = Config::from_str(&self.server).map_err(|error| DbError::Open(error.to_string()))?;
        let client = open_connection(config, CONNECT_TIMEOUT).await?;
        client.batch_execute(sql).await.map_err(|error| error::of(&error))
    }
}

/// The URL of another database on the same server.
fn with_database(url: &str, name: &str) -> String {
    let (address, options) = url.split_once('?').map_or((url, None), |(address, options)| (address, Some(options)));
    let from = address.find("://").map_or(0, |at| at + 3);
    let end = address[from..].find('/').map_or(address.len(), |at| from + at);
    let options = options.map(|options| format!("?{options}")).unwrap_or_default();
    format!("{}/{name}{options}", &address[..end])
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn only_the_database_of_the_url_changes() {
        assert_eq!(with_database("postgres://u:p@h:1/postgres?a=b", "x"), "postgres://u:p@h:1/x?a=b");
        assert_eq!(with_database("postgres://h", "x"), "postgres://h/x");
    }
}
