//! `onrush demo`: a mall to look at. Starts afresh every time, in a folder of its own.

use super::{CommandError, print_line, serve::serve_until_stopped};
use crate::{
    demo,
    mall::Mall,
    settings::{Given, Settings},
};
use kit::http::layers;
use std::{fs, path::Path, process::ExitCode};

#[derive(clap::Args)]
pub struct DemoArgs {
    #[command(flatten)]
    raw: Given,
}

/// Marks a folder as a demo's, which may be emptied at the next start.
const MARKER_FILE: &str = "onrush-demo";

impl DemoArgs {
    pub async fn run(mut self) -> Result<ExitCode, CommandError> {
        self.raw.data_dir.get_or_insert_with(|| "demo-data".into());
        self.raw.operator_email.get_or_insert_with(|| demo::OPERATOR.0.into());
        self.raw.operator_password.get_or_insert_with(|| demo::OPERATOR.1.into());
        self.raw.test_provider.get_or_insert(true);
        let settings = Settings::load(&self.raw)?;
        empty(&settings.data_dir)?;
        let mall = Mall::open(&settings).await?;
        let stocked =
            demo::fill_mall(layers(mall.process.router.clone()), settings.operator.as_ref()).await.map_err(CommandError::Other)?;
        serve_until_stopped(mall, &settings, |address| print_line(stocked.greeting(address))).await?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Empties a folder that an earlier demo made; refuses any other that is not empty.
fn empty(folder: &Path) -> Result<(), CommandError> {
    let mark = folder.join(MARKER_FILE);
    let is_new = !folder.exists() || fs::read_dir(folder)?.next().is_none();
    if !is_new && !mark.exists() {
        let text = format!("{} is not a demo's folder, and a demo starts by emptying it; choose another with --data-dir", folder.display());
        return Err(CommandError::Other(text));
    }
    if !is_new {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    fs::write(mark, "A demo lives here. `onrush demo` empties this folder at every start.\n")?;
    Ok(())
}
