//! Migrations on PostgreSQL: one at a time in the whole database, each in a transaction, in the schema of its owner.

use super::{PgSession, error};
use crate::DbError;
use deadpool_postgres::ClientWrapper;
use refinery::Runner;
use runtime::telemetry::error_chain;

/// The advisory lock that makes processes that start together wait for each other.
const LOCK_ID: i64 = 0x6f6e_7275_7368;
const RESTORE: &str = "select pg_advisory_unlock_all(); reset search_path; reset lock_timeout; reset statement_timeout";

impl PgSession {
    /// Applies the missing migrations. Waits without a timeout for other processes that migrate.
    pub async fn migrate(&mut self, runner: &Runner, schema: &str) -> Result<(), DbError> {
        let client = self.exclusive_client().await?;
        let migrated = migrate_locked(client, runner, schema).await;
        // This also releases the lock. A lost connection holds no lock.
        let restored = client.batch_execute(RESTORE).await.map_err(|error| error::of(&error));
        migrated.and(restored)
    }
}

async fn migrate_locked(client: &mut ClientWrapper, runner: &Runner, schema: &str) -> Result<(), DbError> {
    let lock = format!("set statement_timeout = 0; set lock_timeout = 0; select pg_advisory_lock({LOCK_ID})");
    client.batch_execute(&lock).await.map_err(|error| error::of(&error))?;
    // Not in one call with the lock: within one transaction the server would not see changes made during the wait.
    let schema_sql = format!("create schema if not exists \"{schema}\"; set search_path = \"{schema}\"");
    client.batch_execute(&schema_sql).await.map_err(|error| error::of(&error))?;
    runner.run_async(&mut **client).await.map(drop).map_err(|error| DbError::Migration(error_chain(&error)))
}
