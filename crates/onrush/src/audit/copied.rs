//! The copy of a PostgreSQL mall that the audit reads: a SQLite file in the temporary folder, removed after the audit.

use crate::{
    copy::{CopyError, MallDatabase, StreamPositions, commit_file, copy_rows, create_file, mall_databases, open_snapshot},
    settings::Settings,
};
use contracts::Timestamp;
use kit::{DbError, Tx, db::params, ports::new_id};
use std::path::{Path, PathBuf};

/// Table with the names of the triggers that were active in the original database.
pub const ORIGIN_TRIGGERS: &str = "origin_triggers";

pub struct AuditCopy {
    folder: PrivateFolder,
    /// Reason why the services were copied at different moments. `None`: they were copied at one moment.
    pub moved: Option<String>,
}

impl AuditCopy {
    pub fn database(&self) -> PathBuf {
        self.folder.0.join("audit.db")
    }
}

/// A folder that only this user may read. Removed when this value is dropped.
struct PrivateFolder(PathBuf);

impl PrivateFolder {
    fn new() -> Result<PrivateFolder, CopyError> {
        let path = std::env::temp_dir().join(format!("onrush-audit-{}", new_id()));
        let failed = |path: &Path, error: std::io::Error| CopyError::File { path: path.display().to_string(), reason: error.to_string() };
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt;
            builder.mode(0o700);
        }
        builder.create(&path).map_err(|error| failed(&path, error))?;
        Ok(PrivateFolder(path))
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Copies all services. Those of one database are copied at one moment. Several databases are copied one after another, and their
/// positions are read again afterwards: if no message moved meanwhile, the copies are equal to copies of one moment.
pub async fn copy(settings: &Settings, now: Timestamp) -> Result<AuditCopy, CopyError> {
    let mut copy = AuditCopy { folder: PrivateFolder::new()?, moved: None };
    let databases = mall_databases(settings)?;
    let mut file = create_file(&copy.database(), settings, now).await?;
    file.batch(&format!("create table {ORIGIN_TRIGGERS} (name TEXT primary key)")).await?;
    let mut positions = StreamPositions::default();
    for database in &databases {
        copy_database(database, &mut file, &mut positions).await?;
    }
    commit_file(file).await?;
    if databases.len() > 1 && StreamPositions::of(&databases).await? != positions {
        copy.moved = Some("messages moved while the databases were read one after another".into());
    }
    Ok(copy)
}

async fn copy_database(database: &MallDatabase, file: &mut Tx, positions: &mut StreamPositions) -> Result<(), CopyError> {
    let mut from = open_snapshot(&database.db).await?;
    check_schemas(&mut from, &database.services).await?;
    copy_rows(&mut from, file, &database.services).await?;
    positions.add(&mut from, &database.services).await?;
    for service in &database.services {
        copy_pending(&mut from, file, service).await?;
        copy_triggers(&mut from, file, service).await?;
    }
    from.finish().await
}

async fn check_schemas(from: &mut Tx, services: &[&str]) -> Result<(), CopyError> {
    for service in services {
        let found: Option<(i64,)> =
            from.query_opt("select cast(1 as BIGINT) from pg_namespace where nspname=$1", &params![*service]).await?;
        if found.is_none() {
            return Err(CopyError::Refused(format!("there is no mall in that database: it has no schema {service}")));
        }
    }
    Ok(())
}

/// Copies the ids of messages that were committed but have no number yet. The audit only counts them.
async fn copy_pending(from: &mut Tx, file: &mut Tx, service: &str) -> Result<(), DbError> {
    file.batch(&format!("create table {service}_pending (id BIGINT primary key)")).await?;
    let ids: Vec<(i64,)> = from.query(&format!("select id from {service}_pending"), &[]).await?;
    let sql = format!("insert into {service}_pending (id) values ($1)");
    file.execute_many(&sql, ids.iter().map(|(id,)| params![*id])).await?;
    Ok(())
}

async fn copy_triggers(from: &mut Tx, file: &mut Tx, service: &str) -> Result<(), DbError> {
    let sql = "select cast(t.tgname as TEXT) from pg_trigger t join pg_class c on c.oid=t.tgrelid join pg_namespace n on n.oid=c.relnamespace \
               where n.nspname=$1 and not t.tgisinternal and t.tgenabled<>'D'";
    let names: Vec<(String,)> = from.query(sql, &params![service]).await?;
    let sql = format!("insert into {ORIGIN_TRIGGERS} (name) values ($1) on conflict (name) do nothing");
    file.execute_many(&sql, names.iter().map(|(name,)| params![name])).await?;
    Ok(())
}
