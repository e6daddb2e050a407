//! Exports all data of a mall into one SQLite file.

use super::{
    CopiedTable, CopyError, StreamPositions, commit_file, copy_rows, create_file, epoch::begin_epoch, mall_databases, open_snapshot,
};
use crate::settings::Settings;
use contracts::{SERVICES, Timestamp};
use kit::Tx;
use std::path::{Path, PathBuf};

/// Result of an export.
#[derive(Debug)]
pub struct ExportSummary {
    /// All tables, by name.
    pub tables: Vec<CopiedTable>,
}

/// Writes a new file, which appears once it is complete. Works beside running processes.
///
/// An export from PostgreSQL needs a moment without undelivered messages: the streams of the file begin a new epoch with one partition, so
/// that one process can serve them. `None`: there were undelivered messages, so try again.
pub async fn export(settings: &Settings, to: &Path, now: Timestamp) -> Result<Option<ExportSummary>, CopyError> {
    if to.exists() {
        return Err(CopyError::Refused(format!("{} exists already: name a file that does not", to.display())));
    }
    let part = PartialFile::new(to)?;
    let mut file = create_file(&part.0, settings, now).await?;
    let Some(mut tables) = copy_all(settings, &mut file).await? else { return Ok(None) };
    if settings.postgres.is_some() {
        for service in SERVICES {
            begin_epoch(&mut file, service, 1, now).await?;
        }
    }
    commit_file(file).await?;
    std::fs::File::open(&part.0).and_then(|file| file.sync_all()).map_err(|error| CopyError::file(&part.0, &error))?;
    std::fs::rename(&part.0, to).map_err(|error| CopyError::file(to, &error))?;
    tables.sort_by(|a, b| a.table.cmp(&b.table));
    Ok(Some(ExportSummary { tables }))
}

async fn copy_all(settings: &Settings, file: &mut Tx) -> Result<Option<Vec<CopiedTable>>, CopyError> {
    let databases = mall_databases(settings)?;
    let (mut copied, mut positions) = (Vec::new(), StreamPositions::default());
    for database in &databases {
        let mut from = open_snapshot(&database.db).await?;
        copied.extend(copy_rows(&mut from, file, &database.services).await?);
        positions.add(&mut from, &database.services).await?;
        from.finish().await?;
    }
    if settings.postgres.is_none() {
        // Positions and streams were copied unchanged, so a process that serves the file continues from them.
        return Ok(Some(copied));
    }
    let moved = databases.len() > 1 && StreamPositions::of(&databases).await? != positions;
    Ok((!moved && positions.undelivered() == 0).then_some(copied))
}

/// An incomplete file. It is removed on drop, unless it was renamed.
struct PartialFile(PathBuf);

impl PartialFile {
    fn new(to: &Path) -> Result<PartialFile, CopyError> {
        let mut name = to.as_os_str().to_owned();
        name.push(".part");
        let part = PartialFile(name.into());
        part.remove();
        // Created here with mode 0600, because it contains addresses and password hashes.
        let mut options = std::fs::OpenOptions::new();
        options.create_new(true).write(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        options.open(&part.0).map_err(|error| CopyError::file(&part.0, &error))?;
        Ok(part)
    }

    fn remove(&self) {
        for end in ["", "-wal", "-shm", "-journal"] {
            let mut name = self.0.as_os_str().to_owned();
            name.push(end);
            let _ = std::fs::remove_file(PathBuf::from(name));
        }
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        self.remove();
    }
}
