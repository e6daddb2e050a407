//! `onrush demo`: serves a sample mall. Each start begins with an empty folder.

use super::{CommandError, print_line, serve::serve_until_stopped};
use crate::{
    demo,
    mall::Mall,
    private,
    settings::{RawSettings, Settings},
};
use kit::http::layers;
use std::{fs, path::Path, process::ExitCode};

#[derive(clap::Args)]
pub struct DemoArgs {
    #[command(flatten)]
    raw: RawSettings,
}

/// Marker file of a demo folder, which the next start may empty.
const MARKER_FILE: &str = "onrush-demo";

impl DemoArgs {
    pub async fn run(mut self) -> Result<ExitCode, CommandError> {
        self.raw.data_dir.get_or_insert_with(|| "demo-data".into());
        self.raw.operator_email.get_or_insert_with(|| demo::OPERATOR.0.into());
        self.raw.operator_password.get_or_insert_with(|| demo::OPERATOR.1.into());
        self.raw.test_provider.get_or_insert(true);
        let settings = Settings::load(&self.raw)?;
        empty_folder(&settings.data_dir)?;
        let mall = Mall::open(&settings).await?;
        let contents =
            demo::fill_mall(layers(mall.process.router.clone()), settings.operator.as_ref()).await.map_err(CommandError::Other)?;
        serve_until_stopped(mall, &settings, |address| print_line(contents.greeting(address))).await?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Empties the folder of an earlier demo. `Err`: the folder is not empty and has no marker.
fn empty_folder(folder: &Path) -> Result<(), CommandError> {
    let marker = folder.join(MARKER_FILE);
    let is_new = !folder.exists() || fs::read_dir(folder)?.next().is_none();
    if !is_new && !marker.exists() {
        let text =
            format!("{} is not the folder of a demo, and a demo empties its folder; choose another with --data-dir", folder.display());
        return Err(CommandError::Other(text));
    }
    if !is_new {
        fs::remove_dir_all(folder)?;
    }
    private::create_folder(folder)?;
    fs::write(marker, "A demo lives here. `onrush demo` empties this folder at every start.\n")?;
    Ok(())
}
