//! Migrates tables: applies numbered SQL texts, each once, and stores the history beside the tables.

use super::{DbError, Tx, portable::without_rowid};
use refinery::{Migration as RefineryMigration, Runner};
use std::borrow::Cow;

/// A numbered, named SQL text, the same for both databases where possible. On PostgreSQL ` without rowid` is removed. The types (`UUID`,
/// `BIGINT`, `TEXT`, `BOOLEAN`, `BYTEA`) leave integers, text and bytes as they are on SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// Only for PostgreSQL, for features that SQLite lacks, such as the fill factor of pages.
    pub const fn only_postgres(number: u32, name: &'static str, sql: &'static str) -> Self {
        Self { number, name, sql: "-- Nothing to do here.", postgres: Some(sql) }
    }

    /// Sets a separate text for PostgreSQL, where no common text works, as for triggers.
    pub const fn on_postgres(mut self, sql: &'static str) -> Self {
        self.postgres = Some(sql);
        self
    }
}

/// The migrations of a service, from the SQL files in the folder `migrations` of its crate. They are numbered in this order.
///
/// - `"name"` is the file `V1__name.sql`, for both databases.
/// - `postgres "name"` is the file `V1__name.postgres.sql`. SQLite skips this number.
/// - `separate "name"` is both files, one for each database.
///
/// An applied migration must not change: not its number, its name or its text.
#[macro_export]
macro_rules! migrations {
    ($($names:tt)*) => {{
        const MIGRATIONS: &[$crate::Migration] =
            &$crate::numbered_migrations!([1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20] [] $($names)*);
        MIGRATIONS
    }};
}

/// Takes the next number for the next name, until no name is left.
#[doc(hidden)]
#[macro_export]
macro_rules! numbered_migrations {
    ($numbers:tt [$($done:expr,)*]) => { [$($done,)*] };
    ([$number:literal $($numbers:literal)*] [$($done:expr,)*] $name:literal $(, $($names:tt)*)?) => {
        $crate::numbered_migrations!([$($numbers)*] [
            $($done,)*
            $crate::Migration::new($number, $name, $crate::migration_text!($number, $name, ".sql")),
        ] $($($names)*)?)
    };
    ([$number:literal $($numbers:literal)*] [$($done:expr,)*] postgres $name:literal $(, $($names:tt)*)?) => {
        $crate::numbered_migrations!([$($numbers)*] [
            $($done,)*
            $crate::Migration::only_postgres($number, $name, $crate::migration_text!($number, $name, ".postgres.sql")),
        ] $($($names)*)?)
    };
    ([$number:literal $($numbers:literal)*] [$($done:expr,)*] separate $name:literal $(, $($names:tt)*)?) => {
        $crate::numbered_migrations!([$($numbers)*] [
            $($done,)*
            $crate::Migration::new($number, $name, $crate::migration_text!($number, $name, ".sql"))
                .on_postgres($crate::migration_text!($number, $name, ".postgres.sql")),
        ] $($($names)*)?)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! migration_text {
    ($number:literal, $name:literal, $ending:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/V", $number, "__", $name, $ending))
    };
}

/// Migrates one service's tables. The history is in `<service>_migrations`. On PostgreSQL everything is in the schema `<service>`.
pub async fn migrate(tx: &mut Tx, service: &str, migrations: &[Migration]) -> Result<(), DbError> {
    let postgres = tx.is_postgres();
    let text = |migration: &Migration| if postgres { migration.postgres.unwrap_or(migration.sql) } else { migration.sql };
    let steps: Vec<(u32, &str, Cow<'_, str>)> =
        migrations.iter().map(|migration| (migration.number, migration.name, Cow::Borrowed(text(migration)))).collect();
    apply(tx, service, service, &steps).await
}

/// Applies texts made at run time, such as tables that every service has. The history is in `<owner>_migrations`. An applied text must
/// not change: the migration compares it with the given one.
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
