use super::{DbError, Tx};
use refinery::{Migration as Step, Runner};

/// A numbered, named SQL text. One text for both databases: ` without rowid` is cut off where it is not known,
/// and the types (`UUID`, `BIGINT`, `TEXT`, `BOOLEAN`, `BYTEA`) keep integers, text and bytes as they are on SQLite.
pub type Migration = (u32, &'static str, &'static str);

/// Brings one service's tables up to date. Its history is in `<service>_migrations`.
pub fn migrate(tx: &mut Tx, service: &str, migrations: &[Migration]) -> Result<(), DbError> {
    if migrations.is_empty() {
        return Ok(());
    }
    let steps: Vec<Step> = migrations
        .iter()
        .map(|(number, name, sql)| Step::unapplied(&format!("V{number}__{name}"), sql))
        .collect::<Result<_, _>>()
        .map_err(|error| DbError::Migration(format!("{service}: {error}")))?;
    let mut runner = Runner::new(&steps);
    runner.set_migration_table_name(format!("{service}_migrations"));
    runner.run(tx.sqlite()).map_err(|error| DbError::Migration(format!("{service}: {error}")))?;
    Ok(())
}
