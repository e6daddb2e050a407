//! A solo mall's data into PostgreSQL, all or nothing.

use super::{
    Copied, CopyError, Digest, Source, Standing, Store, Table,
    epoch::{begin_epoch, epoch},
    fill,
    fill::matched,
    is_served, prepare, rows, snapshot,
    source::carry_book,
    store::{PATIENT, Snapshot, forget_streams},
    stores, tables,
};
use crate::settings::Settings;
use contracts::Timestamp;
use kit::{Tx, testing::crash_point};
use std::collections::BTreeMap;

/// Waits of the lock that migrations take: who starts a process meanwhile waits there.
const MIGRATIONS: i64 = 0x6f6e_7275_7368;

/// What came of it.
#[derive(Debug)]
pub struct Imported {
    /// All tables, by name.
    pub tables: Vec<Copied>,
    /// The test provider's book was copied to where the new mall has it.
    pub book: bool,
}

/// What is in a target before.
enum State {
    Empty,
    /// Exactly what is to be imported: an import that was broken off between the commits of two databases.
    Done,
    /// Something else; the first table that says so.
    Taken(String),
}

struct Target<'s> {
    store: &'s Store,
    tx: Tx,
    state: State,
}

/// Copies everything of `source` into the PostgreSQL of `settings`, which must hold nothing of a mall yet, and begins a new epoch of every
/// stream there. One transaction for each database; they are committed one right after the other, when all have been compared.
pub async fn import(source: &Source, settings: &Settings, now: Timestamp) -> Result<Imported, CopyError> {
    let Some(postgres) = &settings.postgres else {
        return Err(CopyError::Refused("an import goes to PostgreSQL: set --database-url".into()));
    };
    let stores = stores(settings)?;
    refuse_served(&stores).await?;
    prepare(settings, now).await?;
    let from_db = source.stores();
    let mut from = snapshot(&from_db[0].db).await?;
    let mut standing = Standing::default();
    standing.look(&mut from, contracts::SERVICES).await?;
    if standing.behind() > 0 {
        return Err(CopyError::Refused(format!("{} messages are not delivered", standing.behind())));
    }

    let mut targets = Vec::with_capacity(stores.len());
    for store in &stores {
        targets.push(open(store, &mut from).await?);
    }
    refuse_taken(&targets, &source.database.display().to_string())?;
    let mut copied = Vec::new();
    for target in &mut targets {
        match target.state {
            State::Empty => copied.extend(fill_target(&mut from, target, postgres.partitions, now).await?),
            _ => copied.extend(counted(&mut from, &target.store.services).await?),
        }
    }
    from.finish().await?;
    crash_point("import.before_commit");
    for target in &mut targets {
        target.tx.commit().await?;
        crash_point("import.after_commit");
    }
    copied.sort_by(|a, b| a.table.cmp(&b.table));
    let book = carry_book(&source.book, &settings.provider_book())?;
    Ok(Imported { tables: copied, book })
}

async fn refuse_served(stores: &[Store]) -> Result<(), CopyError> {
    for store in stores {
        let mut reader = store.db.reader().await?;
        let there: Vec<(String,)> = reader.query("select cast(nspname as TEXT) from pg_namespace", &[]).await?;
        let known: Vec<&'static str> =
            store.services.iter().filter(|service| there.iter().any(|(name,)| name == *service)).copied().collect();
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
    match is_served(tx, services).await?.as_slice() {
        [] => Ok(()),
        served => Err(CopyError::Refused(format!(
            "a process serves {} from the database the data are to go to: stop it first",
            served.join(", ")
        ))),
    }
}

/// A transaction on a target, in which nobody else writes to its tables.
async fn open<'s>(store: &'s Store, from: &mut Snapshot) -> Result<Target<'s>, CopyError> {
    let mut tx = store.db.open_writer().await?;
    tx.begin().await?;
    tx.batch(PATIENT).await?;
    let mut names = Vec::new();
    for service in &store.services {
        names.extend(tables(&mut tx, service).await?.into_iter().map(|table| table.name));
        names.push(format!("{service}_leases"));
        names.push(format!("{service}_pending"));
    }
    let locked = async {
        tx.execute(&format!("select pg_advisory_xact_lock({MIGRATIONS})"), &[]).await?;
        tx.batch(&format!("lock table {} in share row exclusive mode", names.join(","))).await
    };
    locked.await.map_err(|error| match error {
        kit::DbError::Retry(_) | kit::DbError::Locked(_) | kit::DbError::Busy => {
            CopyError::Refused("others use the tables the data are to go to: stop every process of that mall first".into())
        }
        other => other.into(),
    })?;
    refuse_running(&mut tx, &store.services).await?;
    let state = state(&mut tx, from, &store.services).await?;
    Ok(Target { store, tx, state })
}

async fn state(tx: &mut Tx, from: &mut Snapshot, services: &[&'static str]) -> Result<State, CopyError> {
    let Some(taken) = first_taken(tx, services).await? else { return Ok(State::Empty) };
    for service in services {
        let up_to = epoch(from, service).await?;
        for (mine, theirs) in matched(tables(from, service).await?, tables(tx, service).await?)? {
            let filter = is_numbering(&theirs).then_some(up_to);
            if rows::digest(tx, &theirs, filter).await? != rows::digest(from, &mine, None).await? {
                return Ok(State::Taken(taken));
            }
        }
    }
    Ok(State::Done)
}

/// The first table with a row in it, but for what opening a new mall's streams writes.
async fn first_taken(tx: &mut Tx, services: &[&'static str]) -> Result<Option<String>, CopyError> {
    for service in services {
        let mut names: Vec<String> =
            tables(tx, service).await?.into_iter().filter(|table| !is_numbering(table)).map(|table| table.name).collect();
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

/// Tables to which a new epoch adds rows.
fn is_numbering(table: &Table) -> bool {
    table.is("stream") || table.is("heads")
}

fn refuse_taken(targets: &[Target<'_>], from: &str) -> Result<(), CopyError> {
    if targets.iter().all(|target| matches!(target.state, State::Done)) {
        return Err(CopyError::Refused(format!("{from} is imported there already, row for row")));
    }
    let taken = targets.iter().find_map(|target| match &target.state {
        State::Taken(table) => Some(table),
        _ => None,
    });
    match taken {
        None => Ok(()),
        Some(table) => Err(CopyError::Refused(format!(
            "there is a mall in that database already (its table {table} is not empty), and two malls cannot be joined: use an empty database"
        ))),
    }
}

async fn fill_target(from: &mut Snapshot, target: &mut Target<'_>, partitions: i64, now: Timestamp) -> Result<Vec<Copied>, CopyError> {
    let Target { store, tx, .. } = target;
    forget_streams(tx, &store.services).await?;
    let copied = fill(from, tx, &store.services).await?;
    for service in &store.services {
        begin_epoch(tx, service, partitions, now).await?;
    }
    Ok(copied)
}

/// What is there already, as if it had been copied now.
async fn counted(from: &mut Snapshot, services: &[&'static str]) -> Result<Vec<Copied>, CopyError> {
    let mut counted: BTreeMap<String, Digest> = BTreeMap::new();
    for service in services {
        for table in tables(from, service).await? {
            let digest = rows::digest(from, &table, None).await?;
            counted.insert(table.name, digest);
        }
    }
    Ok(counted.into_iter().map(|(table, digest)| Copied { table, digest }).collect())
}
