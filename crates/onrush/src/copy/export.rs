//! All data of a mall into one SQLite file.

use super::{Copied, CopyError, Standing, blank, commit_file, epoch::begin_epoch, fill, snapshot, stores};
use crate::settings::Settings;
use contracts::{SERVICES, Timestamp};
use kit::Tx;
use std::path::{Path, PathBuf};

/// What came of it.
#[derive(Debug)]
pub struct Exported {
    /// All tables, by name.
    pub tables: Vec<Copied>,
}

/// Writes a file that did not exist before; it is there when it is complete. Works beside running processes.
///
/// From PostgreSQL this needs a moment in which every message is delivered, for the file's streams begin a new epoch with one partition, so
/// that one process can serve it. `None` when this was not such a moment: try again.
pub async fn export(settings: &Settings, to: &Path, now: Timestamp) -> Result<Option<Exported>, CopyError> {
    if to.exists() {
        return Err(CopyError::Refused(format!("{} exists already: name a file that does not", to.display())));
    }
    let part = Part::new(to)?;
    let mut file = blank(&part.0, settings, now).await?;
    let Some(mut tables) = fill_file(settings, &mut file).await? else { return Ok(None) };
    if settings.postgres.is_some() {
        for service in SERVICES {
            begin_epoch(&mut file, service, 1, now).await?;
        }
    }
    commit_file(file).await?;
    std::fs::File::open(&part.0).and_then(|file| file.sync_all()).map_err(|error| CopyError::file(&part.0, &error))?;
    std::fs::rename(&part.0, to).map_err(|error| CopyError::file(to, &error))?;
    tables.sort_by(|a, b| a.table.cmp(&b.table));
    Ok(Some(Exported { tables }))
}

async fn fill_file(settings: &Settings, file: &mut Tx) -> Result<Option<Vec<Copied>>, CopyError> {
    let stores = stores(settings)?;
    let (mut copied, mut standing) = (Vec::new(), Standing::default());
    for store in &stores {
        let mut from = snapshot(&store.db).await?;
        copied.extend(fill(&mut from, file, &store.services).await?);
        standing.look(&mut from, &store.services).await?;
        from.finish().await?;
    }
    if settings.postgres.is_none() {
        // Positions and streams came along as they are: whoever serves the file goes on from there.
        return Ok(Some(copied));
    }
    let moved = stores.len() > 1 && Standing::of(&stores).await? != standing;
    Ok((!moved && standing.behind() == 0).then_some(copied))
}

/// A file in the making; nothing of it is left if it does not get its name.
struct Part(PathBuf);

impl Part {
    fn new(to: &Path) -> Result<Part, CopyError> {
        let mut name = to.as_os_str().to_owned();
        name.push(".part");
        let part = Part(name.into());
        part.remove();
        // Made here, so that nobody else may read it: it holds addresses and password hashes.
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

impl Drop for Part {
    fn drop(&mut self) {
        self.remove();
    }
}
