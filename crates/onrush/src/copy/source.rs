//! Source of an import: the folder of a solo mall, or an exported file.

use super::{CopyError, MallDatabase, StreamPositions, mall_databases};
use crate::{
    mall::{self, Mall},
    private,
    settings::Settings,
};
use contracts::SERVICES;
use kit::{Db, db::Synchronous};
use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

/// Interval between checks for undelivered messages.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Checks without progress before messages count as undeliverable: half a minute.
const MAX_IDLE_POLLS: u32 = 300;

/// A SQLite database without undelivered messages. A folder stays locked against writers while this value lives.
#[derive(Debug)]
pub struct ImportSource {
    pub database: PathBuf,
    /// Ledger of the test provider, beside the database. It may not exist.
    pub book: PathBuf,
    /// The secret that signed the existing tokens. `None`: an exported file has no secret.
    pub secret: Option<[u8; 32]>,
    _lock: Option<File>,
}

impl ImportSource {
    /// Opens a source. For a folder, opens its mall without serving it, so that undelivered messages are delivered. An exported file is
    /// only read. `Err`: the folder is in use, or there is no mall.
    pub async fn open(from: &Path, settings: &Settings) -> Result<ImportSource, CopyError> {
        let refuse = |text: String| Err(CopyError::Refused(text));
        let folder = match from.parent() {
            Some(parent) if from.is_file() && parent.join("onrush.lock").exists() && from.ends_with("onrush.db") => parent,
            _ => from,
        };
        if folder.is_dir() {
            if !folder.join("onrush.db").exists() {
                return refuse(format!("there is no mall in {}: it has no file onrush.db", folder.display()));
            }
            return Self::open_folder(folder, settings).await;
        }
        if !from.is_file() {
            return refuse(format!(
                "there is nothing at {}: name the folder of a mall, or a file written by `onrush export`",
                from.display()
            ));
        }
        let file = ImportSource { database: from.to_owned(), book: book_beside(from), secret: None, _lock: None };
        match StreamPositions::of(&file.mall_databases()).await?.undelivered() {
            0 => Ok(file),
            undelivered => refuse(format!(
                "{undelivered} messages in {} are not delivered: put it into a folder of its own as onrush.db and import the folder, \
                 which delivers them",
                from.display()
            )),
        }
    }

    async fn open_folder(folder: &Path, settings: &Settings) -> Result<ImportSource, CopyError> {
        let secret = mall::load_secret(folder)?;
        let solo = Settings {
            data_dir: folder.to_owned(),
            postgres: None,
            kafka: None,
            split: None,
            // An exported file in a folder of its own has no key. An import signs nothing.
            secret: Some(secret.unwrap_or_default()),
            operator: None,
            ..settings.clone()
        };
        let mall = Mall::open(&solo).await?;
        let delivered = wait_until_delivered(&mall_databases(&solo)?).await;
        let lock = mall.stop_keeping_lock().await;
        delivered?;
        let database = solo.database();
        Ok(ImportSource { book: book_beside(&database), database, secret, _lock: lock })
    }

    pub(super) fn mall_databases(&self) -> Vec<MallDatabase> {
        vec![MallDatabase { db: Db::sqlite(&self.database, Synchronous::Full), services: SERVICES.to_vec() }]
    }
}

fn book_beside(database: &Path) -> PathBuf {
    payments::TestLedger::beside(database).path
}

/// Waits until every reader has read all messages.
async fn wait_until_delivered(databases: &[MallDatabase]) -> Result<(), CopyError> {
    let (mut before, mut same) = (i64::MAX, 0);
    loop {
        let undelivered = StreamPositions::of(databases).await?.undelivered();
        if undelivered == 0 {
            return Ok(());
        }
        same = if undelivered == before { same + 1 } else { 0 };
        before = undelivered;
        if same == MAX_IDLE_POLLS {
            return Err(CopyError::Refused(format!(
                "{undelivered} messages cannot be delivered; start the mall once with `onrush serve` and look at its log"
            )));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Copies the ledger of the test provider to the new mall. False: the source has none, or the target has one already.
pub(super) fn copy_provider_book(from: &Path, to: &Path) -> Result<bool, CopyError> {
    if !from.exists() || to.exists() {
        return Ok(false);
    }
    if let Some(folder) = to.parent() {
        private::create_folder(folder).map_err(|error| CopyError::file(folder, &error))?;
    }
    let book = rusqlite::Connection::open(from)?;
    book.execute("vacuum into ?1", [to.to_string_lossy()])?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::RawSettings;
    use testkit::TempFolder;

    #[tokio::test]
    async fn a_path_without_a_mall_is_refused_by_name() {
        let settings = Settings::load(&RawSettings::default()).expect("the defaults are good");
        let folder = TempFolder::new();
        let empty = ImportSource::open(folder.path(), &settings).await.expect_err("an empty folder").to_string();
        assert!(empty.contains("has no file onrush.db"), "{empty}");
        assert!(std::fs::read_dir(folder.path()).expect("it is there").next().is_none(), "nothing was made in it");
        let nothing = ImportSource::open(&folder.path().join("gone"), &settings).await.expect_err("nothing").to_string();
        assert!(nothing.contains("there is nothing at"), "{nothing}");
    }

    #[tokio::test]
    async fn a_folder_in_use_is_refused() {
        let folder = TempFolder::new();
        let raw = RawSettings { data_dir: Some(folder.path().to_owned()), ..RawSettings::default() };
        let settings = Settings::load(&raw).expect("the settings are good");
        let mall = Mall::open(&settings).await.expect("it opens");
        for from in [folder.path().to_owned(), settings.database()] {
            let refused = ImportSource::open(&from, &settings).await.expect_err("it is in use").to_string();
            assert!(refused.contains("in use"), "{refused}");
        }
        mall.process.stop().await;
    }
}
