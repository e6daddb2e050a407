//! `onrush migrate`: brings the tables of the configured database up to date and exits. With `--from` and `--to`, it is `onrush import`.

use super::{CommandError, import::import, print_line};
use crate::{
    copy, mall,
    settings::{RawSettings, Settings},
};
use kit::ports::{Clock, SystemClock};
use std::{path::PathBuf, process::ExitCode};

#[derive(clap::Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    raw: RawSettings,
    /// Copy the mall in this folder, or this exported file, to the database of --to
    #[arg(long, requires = "to")]
    from: Option<PathBuf>,
    /// Target of the copy, such as postgres://user:password@host/database
    #[arg(long, requires = "from")]
    to: Option<String>,
}

impl MigrateArgs {
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        if let (Some(from), Some(to)) = (&self.from, self.to) {
            let raw = RawSettings { database_url: Some(to), ..self.raw };
            return import(&raw, from).await;
        }
        let settings = Settings::load(&self.raw)?;
        let _lock = match &settings.postgres {
            // Other processes may serve meanwhile: each migration runs once, in one process.
            Some(_) => None,
            None => {
                mall::open_folder(&settings.data_dir)?;
                Some(mall::lock(&settings.data_dir)?)
            }
        };
        copy::prepare(&settings, SystemClock.now()).await?;
        print_line("The tables are up to date.");
        Ok(ExitCode::SUCCESS)
    }
}
