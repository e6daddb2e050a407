//! The databases of a mall, and their connections for copying.

use super::CopyError;
use crate::{mall, settings::Settings};
use contracts::{SERVICES, Timestamp};
use kit::{
    Db, DbError, Tx,
    db::Synchronous,
    process::{PostgresSettings, detached_kit},
};
use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    path::Path,
};

/// One database, and the services that store their data in it.
#[derive(Clone, Debug)]
pub struct MallDatabase {
    pub db: Db,
    pub services: Vec<&'static str>,
}

/// The databases of these settings: one SQLite file, or one or more PostgreSQL databases.
pub fn mall_databases(settings: &Settings) -> Result<Vec<MallDatabase>, DbError> {
    match &settings.postgres {
        None => Ok(vec![MallDatabase { db: Db::sqlite(settings.database(), settings.synchronous), services: SERVICES.to_vec() }]),
        Some(PostgresSettings { url, own, readers, .. }) => {
            let mut by_url: BTreeMap<&str, Vec<&'static str>> = BTreeMap::new();
            for service in SERVICES {
                by_url.entry(own.get(*service).unwrap_or(url)).or_default().push(service);
            }
            let database = |(url, services): (&str, Vec<&'static str>)| {
                Ok(MallDatabase { db: Db::postgres_with(url, &services, *readers)?, services })
            };
            by_url.into_iter().map(database).collect()
        }
    }
}

/// Brings the tables of a mall up to date, and opens the streams of a new one.
pub async fn prepare(settings: &Settings, now: Timestamp) -> Result<(), CopyError> {
    let partitions = settings.postgres.as_ref().map_or(1, |postgres| postgres.partitions);
    for database in mall_databases(settings)? {
        database.db.check().await?;
        let mut tx = database.db.open_writer().await?;
        prepare_in(&mut tx, settings, &database.services, partitions, now).await?;
    }
    Ok(())
}

async fn prepare_in(tx: &mut Tx, settings: &Settings, services: &[&str], partitions: i64, now: Timestamp) -> Result<(), CopyError> {
    for service in mall::services(&detached_kit(), settings) {
        if services.contains(&service.name()) {
            kit::engine::prepare(tx, service.as_ref(), partitions, now).await?;
        }
    }
    Ok(())
}

/// Creates a file with all tables but no rows, in an open transaction. It must be filled before a process serves it.
pub async fn create_file(path: &Path, settings: &Settings, now: Timestamp) -> Result<Tx, CopyError> {
    // Not durable, because an incomplete file is deleted after a crash.
    let mut tx = Db::sqlite(path, Synchronous::Normal).open_writer().await?;
    prepare_in(&mut tx, settings, SERVICES, 1, now).await?;
    tx.begin().await?;
    delete_streams(&mut tx, SERVICES).await?;
    Ok(tx)
}

/// Deletes the rows that opened the streams of a new mall.
pub async fn delete_streams(tx: &mut Tx, services: &[&str]) -> Result<(), CopyError> {
    for service in services {
        tx.execute(&format!("delete from {service}_stream"), &[]).await?;
        tx.execute(&format!("delete from {service}_heads"), &[]).await?;
    }
    Ok(())
}

/// Commits a filled file and removes its write-ahead log.
pub async fn commit_file(mut tx: Tx) -> Result<(), CopyError> {
    tx.commit().await?;
    if let Some(connection) = tx.sqlite() {
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "journal_mode", "delete")?;
    }
    Ok(())
}

/// A connection with a transaction that sees the database at one moment.
#[derive(Debug)]
pub struct DatabaseSnapshot(SnapshotConnection);

#[derive(Debug)]
enum SnapshotConnection {
    Own(Tx),
    Pooled(kit::db::PooledReader),
}

impl Deref for DatabaseSnapshot {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        match &self.0 {
            SnapshotConnection::Own(tx) => tx,
            SnapshotConnection::Pooled(reader) => reader,
        }
    }
}

impl DerefMut for DatabaseSnapshot {
    fn deref_mut(&mut self) -> &mut Tx {
        match &mut self.0 {
            SnapshotConnection::Own(tx) => tx,
            SnapshotConnection::Pooled(reader) => reader,
        }
    }
}

/// Disables the timeouts of PostgreSQL, because the other side of a copy may be slow between two statements.
pub const NO_TIMEOUTS: &str = "set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0";

/// Opens a snapshot of a database at this moment.
pub async fn open_snapshot(db: &Db) -> Result<DatabaseSnapshot, DbError> {
    if db.is_postgres() {
        let mut tx = db.open_writer().await?;
        tx.batch(&format!("begin isolation level repeatable read, read only; {NO_TIMEOUTS}")).await?;
        return Ok(DatabaseSnapshot(SnapshotConnection::Own(tx)));
    }
    let mut reader = db.reader().await?;
    // A snapshot that failed may have left its transaction open.
    reader.rollback().await?;
    reader.batch("begin").await?;
    Ok(DatabaseSnapshot(SnapshotConnection::Pooled(reader)))
}

impl DatabaseSnapshot {
    /// Ends the snapshot. `Err`: the connection was lost and replaced, so the rows are not of one moment.
    pub async fn finish(mut self) -> Result<(), CopyError> {
        if self.is_postgres() {
            let (level,): (String,) = self.query_one("select current_setting('transaction_isolation')", &[]).await?;
            if level != "repeatable read" {
                return Err(DbError::Closed("it was lost while the data were read".into()).into());
            }
        }
        Ok(self.batch("rollback").await?)
    }
}

/// The services that a process serves from this database now.
pub async fn served_services(tx: &mut Tx, services: &[&'static str]) -> Result<Vec<&'static str>, DbError> {
    let mut served = Vec::new();
    for service in services.iter().filter(|_| tx.is_postgres()).copied().collect::<Vec<_>>() {
        let sql = format!(
            "select count(*) from {service}_leases where name like 'instance:%' \
             and until>cast(extract(epoch from clock_timestamp())*1000000 as BIGINT)"
        );
        let (running,): (i64,) = tx.query_one(&sql, &[]).await?;
        if running > 0 {
            served.push(service);
        }
    }
    Ok(served)
}
