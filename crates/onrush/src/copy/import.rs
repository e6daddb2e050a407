//! Imports all data of a solo mall into PostgreSQL, or nothing.

use super::{
    CopiedTable, CopyError, ImportSource, MallDatabase, StreamPositions, Table, TableDigest, copy_rows,
    copy_rows::matching_tables,
    databases::{DatabaseSnapshot, NO_TIMEOUTS, delete_streams},
    epoch::{begin_epoch, epoch},
    mall_databases, open_snapshot, prepare, rows, served_services,
    source::copy_provider_book,
    tables,
};
use crate::settings::Settings;
use contracts::Timestamp;
use kit::{Tx, testing::crash_point};
use std::collections::BTreeMap;

/// Key of the advisory lock that migrations take. A process that starts during an import waits for it.
const MIGRATION_LOCK: i64 = 0x6f6e_7275_7368;

/// Result of an import.
#[derive(Debug)]
pub struct ImportSummary {
    /// All tables, by name.
    pub tables: Vec<CopiedTable>,
    /// The ledger of the test provider was copied to the new mall.
    pub is_book_copied: bool,
}

/// Contents of a target database before the import.
enum TargetState {
    Empty,
    /// Exactly the rows to import: an earlier import was interrupted between the commits of two databases.
    AlreadyImported,
    /// Other rows. Contains the name of the first table with rows.
    Occupied(String),
}

struct ImportTarget<'s> {
    database: &'s MallDatabase,
    tx: Tx,
    state: TargetState,
}

/// Copies all data of `source` into the PostgreSQL databases of `settings`, which must be empty, and begins a new epoch of every stream.
/// Each database has one transaction. They are committed one right after the other, once all have been compared.
pub async fn import(source: &ImportSource, settings: &Settings, now: Timestamp) -> Result<ImportSummary, CopyError> {
    let Some(postgres) = &settings.postgres else {
        return Err(CopyError::Refused("an import goes to PostgreSQL: set --database-url".into()));
    };
    let databases = mall_databases(settings)?;
    refuse_served(&databases).await?;
    prepare(settings, now).await?;
    let from_db = source.mall_databases();
    let mut from = open_snapshot(&from_db[0].db).await?;
    let mut positions = StreamPositions::default();
    positions.add(&mut from, contracts::SERVICES).await?;
    if positions.undelivered() > 0 {
        return Err(CopyError::Refused(format!("{} messages are not delivered", positions.undelivered())));
    }

    let mut targets = Vec::with_capacity(databases.len());
    for database in &databases {
        targets.push(open_target(database, &mut from).await?);
    }
    refuse_occupied(&targets, &source.database.display().to_string())?;
    let mut copied = Vec::new();
    for target in &mut targets {
        match target.state {
            TargetState::Empty => copied.extend(copy_into(&mut from, target, postgres.partitions, now).await?),
            _ => copied.extend(digest_existing(&mut from, &target.database.services).await?),
        }
    }
    from.finish().await?;
    crash_point("import.before_commit");
    for target in &mut targets {
        target.tx.commit().await?;
        crash_point("import.after_commit");
    }
    copied.sort_by(|a, b| a.table.cmp(&b.table));
    let is_book_copied = copy_provider_book(&source.book, &settings.provider_book())?;
    Ok(ImportSummary { tables: copied, is_book_copied })
}

async fn refuse_served(databases: &[MallDatabase]) -> Result<(), CopyError> {
    for database in databases {
        let mut reader = database.db.reader().await?;
        let there: Vec<(String,)> = reader.query("select cast(nspname as TEXT) from pg_namespace", &[]).await?;
        let known: Vec<&'static str> =
            database.services.iter().filter(|service| there.iter().any(|(name,)| name == *service)).copied().collect();
        let mut ready = Vec::new();
        for service in known {
            if !tables(&mut reader, service).await?.is_empty() && has_leases(&mut reader, service).await? {
                ready.push(service);
            }
        }
        refuse_running(&mut reader, &ready).await?;
    }
    Ok(())
}

async fn has_leases(tx: &mut Tx, service: &str) -> Result<bool, CopyError> {
    let sql = format!("select to_regclass('{service}.{service}_leases') is not null");
    let (there,): (bool,) = tx.query_one(&sql, &[]).await?;
    Ok(there)
}

async fn refuse_running(tx: &mut Tx, services: &[&'static str]) -> Result<(), CopyError> {
    match served_services(tx, services).await?.as_slice() {
        [] => Ok(()),
        served => Err(CopyError::Refused(format!("a process serves {} from the target database: stop it first", served.join(", ")))),
    }
}

/// Opens a transaction on a target and locks its tables against other writers.
async fn open_target<'s>(database: &'s MallDatabase, from: &mut DatabaseSnapshot) -> Result<ImportTarget<'s>, CopyError> {
    let mut tx = database.db.open_writer().await?;
    tx.begin().await?;
    tx.batch(NO_TIMEOUTS).await?;
    let mut names = Vec::new();
    for service in &database.services {
        names.extend(tables(&mut tx, service).await?.into_iter().map(|table| table.name));
        names.push(format!("{service}_leases"));
        names.push(format!("{service}_pending"));
    }
    let locked = async {
        tx.execute(&format!("select pg_advisory_xact_lock({MIGRATION_LOCK})"), &[]).await?;
        tx.batch(&format!("lock table {} in share row exclusive mode", names.join(","))).await
    };
    locked.await.map_err(|error| match error {
        kit::DbError::Retry(_) | kit::DbError::Locked(_) | kit::DbError::Busy | kit::DbError::Slow => {
            CopyError::Refused("other processes use the tables of the target database: stop every process of that mall first".into())
        }
        other => other.into(),
    })?;
    refuse_running(&mut tx, &database.services).await?;
    let state = target_state(&mut tx, from, &database.services).await?;
    Ok(ImportTarget { database, tx, state })
}

async fn target_state(tx: &mut Tx, from: &mut DatabaseSnapshot, services: &[&'static str]) -> Result<TargetState, CopyError> {
    let Some(occupied) = first_occupied_table(tx, services).await? else { return Ok(TargetState::Empty) };
    for service in services {
        let up_to = epoch(from, service).await?;
        for (mine, theirs) in matching_tables(tables(from, service).await?, tables(tx, service).await?)? {
            let filter = is_stream_table(&theirs).then_some(up_to);
            if rows::digest(tx, &theirs, filter).await? != rows::digest(from, &mine, None).await? {
                return Ok(TargetState::Occupied(occupied));
            }
        }
    }
    Ok(TargetState::AlreadyImported)
}

/// The first table with rows, apart from the rows that open the streams of a new mall. `None`: all are empty.
async fn first_occupied_table(tx: &mut Tx, services: &[&'static str]) -> Result<Option<String>, CopyError> {
    for service in services {
        let mut names: Vec<String> =
            tables(tx, service).await?.into_iter().filter(|table| !is_stream_table(table)).map(|table| table.name).collect();
        names.push(format!("{service}_pending"));
        for name in names {
            let found: Option<(i64,)> = tx.query_opt(&format!("select cast(1 as BIGINT) from {name} limit 1"), &[]).await?;
            if found.is_some() {
                return Ok(Some(name));
            }
        }
    }
    Ok(None)
}

/// True for tables to which a new epoch adds rows.
fn is_stream_table(table: &Table) -> bool {
    table.is_named("stream") || table.is_named("heads")
}

fn refuse_occupied(targets: &[ImportTarget<'_>], from: &str) -> Result<(), CopyError> {
    if targets.iter().all(|target| matches!(target.state, TargetState::AlreadyImported)) {
        return Err(CopyError::Refused(format!("{from} is imported there already, row for row")));
    }
    let occupied = targets.iter().find_map(|target| match &target.state {
        TargetState::Occupied(table) => Some(table),
        _ => None,
    });
    match occupied {
        None => Ok(()),
        Some(table) => Err(CopyError::Refused(format!(
            "there is a mall in that database already (its table {table} is not empty), and two malls cannot be joined: use an empty database"
        ))),
    }
}

async fn copy_into(
    from: &mut DatabaseSnapshot,
    target: &mut ImportTarget<'_>,
    partitions: i64,
    now: Timestamp,
) -> Result<Vec<CopiedTable>, CopyError> {
    let ImportTarget { database, tx, .. } = target;
    delete_streams(tx, &database.services).await?;
    let copied = copy_rows(from, tx, &database.services).await?;
    for service in &database.services {
        begin_epoch(tx, service, partitions, now).await?;
    }
    Ok(copied)
}

/// Digests of tables that an earlier import copied.
async fn digest_existing(from: &mut DatabaseSnapshot, services: &[&'static str]) -> Result<Vec<CopiedTable>, CopyError> {
    let mut digests: BTreeMap<String, TableDigest> = BTreeMap::new();
    for service in services {
        for table in tables(from, service).await? {
            let digest = rows::digest(from, &table, None).await?;
            digests.insert(table.name, digest);
        }
    }
    Ok(digests.into_iter().map(|(table, digest)| CopiedTable { table, digest }).collect())
}
