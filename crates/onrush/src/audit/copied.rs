//! The copy that an audit of PostgreSQL looks at: a file of its own in the folder for temporary files, gone with the audit.

use crate::{
    copy::{CopyError, Standing, Store, blank, commit_file, fill, snapshot, stores},
    settings::Settings,
};
use contracts::Timestamp;
use kit::{DbError, Tx, db::params, ports::new_id};
use std::path::{Path, PathBuf};

/// Names the triggers that were in force where the data come from.
pub const ORIGIN_TRIGGERS: &str = "origin_triggers";

pub struct Copy {
    folder: Folder,
    /// Why services are seen at different moments, if they are.
    pub moved: Option<String>,
}

impl Copy {
    pub fn database(&self) -> PathBuf {
        self.folder.0.join("audit.db")
    }
}

/// A folder that nobody else may look into; it goes with the value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder, CopyError> {
        let path = std::env::temp_dir().join(format!("onrush-audit-{}", new_id()));
        let failed = |path: &Path, error: std::io::Error| CopyError::File { path: path.display().to_string(), reason: error.to_string() };
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt;
            builder.mode(0o700);
        }
        builder.create(&path).map_err(|error| failed(&path, error))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Copies all services. Within one database they are seen at one moment; several databases are read one after another, and then looked at
/// again: if no message moved meanwhile, it is as good as one moment.
pub async fn copy(settings: &Settings, now: Timestamp) -> Result<Copy, CopyError> {
    let mut copy = Copy { folder: Folder::new()?, moved: None };
    let stores = stores(settings)?;
    let mut file = blank(&copy.database(), settings, now).await?;
    file.batch(&format!("create table {ORIGIN_TRIGGERS} (name TEXT primary key)")).await?;
    let mut standing = Standing::default();
    for store in &stores {
        copy_store(store, &mut file, &mut standing).await?;
    }
    commit_file(file).await?;
    if stores.len() > 1 && Standing::of(&stores).await? != standing {
        copy.moved = Some("messages moved while the databases were read one after another".into());
    }
    Ok(copy)
}

async fn copy_store(store: &Store, file: &mut Tx, standing: &mut Standing) -> Result<(), CopyError> {
    let mut from = snapshot(&store.db).await?;
    refuse_strangers(&mut from, &store.services).await?;
    fill(&mut from, file, &store.services).await?;
    standing.look(&mut from, &store.services).await?;
    for service in &store.services {
        copy_pending(&mut from, file, service).await?;
        copy_triggers(&mut from, file, service).await?;
    }
    from.finish().await
}

async fn refuse_strangers(from: &mut Tx, services: &[&str]) -> Result<(), CopyError> {
    for service in services {
        let found: Option<(i64,)> =
            from.query_opt("select cast(1 as BIGINT) from pg_namespace where nspname=$1", &params![*service]).await?;
        if found.is_none() {
            return Err(CopyError::Refused(format!("there is no mall in that database: it has no schema {service}")));
        }
    }
    Ok(())
}

/// Messages that were committed and have no number yet. Their number is all that the audit asks of them.
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
