//! Brings tables up to date: numbered SQL texts, each applied once, with their history beside the tables.

use super::{DbError, Tx, portable::without_rowid};
use refinery::{Migration as RefineryMigration, Runner};
use std::borrow::Cow;

/// A numbered, named SQL text. One text for both databases where possible: ` without rowid` is cut off on PostgreSQL,
/// and the types (`UUID`, `BIGINT`, `TEXT`, `BOOLEAN`, `BYTEA`) keep integers, text and bytes as they are on SQLite.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    number: u32,
    name: &'static str,
    sql: &'static str,
    postgres: Option<&'static str>,
}

impl Migration {
    /// The same text for both databases.
    pub const fn new(number: u32, name: &'static str, sql: &'static str) -> Self {
        Self { number, name, sql, postgres: None }
    }

    /// For what SQLite knows nothing of, such as how full pages are to be.
    pub const fn only_postgres(number: u32, name: &'static str, sql: &'static str) -> Self {
        Self { number, name, sql: "-- Nothing to do here.", postgres: Some(sql) }
    }

    /// With a text of its own for PostgreSQL, where the two have no common words, such as for triggers.
    pub const fn on_postgres(mut self, sql: &'static str) -> Self {
        self.postgres = Some(sql);
        self
    }
}

/// Brings one service's tables up to date. Its history is in `<service>_migrations`; on PostgreSQL all is in the schema `<service>`.
pub async fn migrate(tx: &mut Tx, service: &str, migrations: &[Migration]) -> Result<(), DbError> {
    let postgres = tx.is_postgres();
    let text = |migration: &Migration| if postgres { migration.postgres.unwrap_or(migration.sql) } else { migration.sql };
    let steps: Vec<(u32, &str, Cow<'_, str>)> =
        migrations.iter().map(|migration| (migration.number, migration.name, Cow::Borrowed(text(migration)))).collect();
    apply(tx, service, service, &steps).await
}

/// The same for texts made at run time, such as tables that every service has. Their history is in `<owner>_migrations`.
/// A text that was applied must not change: what was applied is compared with what is given.
pub async fn migrate_text(tx: &mut Tx, owner: &str, schema: &str, steps: &[(u32, &str, String)]) -> Result<(), DbError> {
    let steps: Vec<(u32, &str, Cow<'_, str>)> =
        steps.iter().map(|(number, name, sql)| (*number, *name, Cow::Borrowed(sql.as_str()))).collect();
    apply(tx, owner, schema, &steps).await
}

async fn apply(tx: &mut Tx, owner: &str, schema: &str, steps: &[(u32, &str, Cow<'_, str>)]) -> Result<(), DbError> {
    if steps.is_empty() {
        return Ok(());
    }
    let failed = |text: String| DbError::Migration(format!("{owner}: {text}"));
    let postgres = tx.is_postgres();
    let mut pending = Vec::with_capacity(steps.len());
    for (number, name, sql) in steps {
        let sql = if postgres { without_rowid(sql) } else { Cow::Borrowed(sql.as_ref()) };
        pending.push(RefineryMigration::unapplied(&format!("V{number}__{name}"), &sql).map_err(|error| failed(error.to_string()))?);
    }
    let mut runner = Runner::new(&pending);
    runner.set_migration_table_name(format!("{owner}_migrations"));
    match tx.session() {
        Some(session) => session.migrate(&runner, schema).await.map_err(|error| match error {
            DbError::Migration(text) => failed(text),
            other => other,
        }),
        None => match tx.sqlite() {
            Some(connection) => runner.run(connection).map(drop).map_err(|error| failed(error.to_string())),
            None => Ok(()),
        },
    }
}
