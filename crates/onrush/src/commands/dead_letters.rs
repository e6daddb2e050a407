//! `onrush dead-letters`: messages that a reader could not act on, and trying them again.

use super::{CommandError, say};
use crate::{
    mall::{Mall, MallError},
    settings::{Given, Settings},
};
use kit::{
    Db,
    engine::{dead_letters, request_redrive},
};
use std::{process::ExitCode, time::Duration};
use uuid::Uuid;

#[derive(clap::Args)]
pub struct DeadLetters {
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(clap::Subcommand)]
enum DeadLettersCommand {
    /// Show what is dead, and what waits behind it
    List {
        #[command(flatten)]
        given: Box<Given>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Try them again: all, or those of one key. Works beside a running server and without one
    Redrive {
        #[command(flatten)]
        given: Box<Given>,
        /// Only messages of this key (such as an order id)
        #[arg(long)]
        key: Option<Uuid>,
    },
}

/// How long a redrive without a running server may take; letters that fail again are back within moments.
const PATIENCE: Duration = Duration::from_secs(5);

impl DeadLetters {
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        match self.command {
            DeadLettersCommand::List { given, json } => list(&Settings::load(&given)?, json).await,
            DeadLettersCommand::Redrive { given, key } => redrive(&Settings::load(&given)?, key).await,
        }
    }
}

async fn list(settings: &Settings, json: bool) -> Result<ExitCode, CommandError> {
    let db = Db::new(settings.database(), settings.synchronous);
    let mut reader = db.reader().await?;
    let mut count = 0;
    for service in crate::audit::SERVICES {
        for letter in dead_letters(&mut reader, service).await? {
            count += 1;
            if json {
                say(serde_json::to_string(&letter).map_err(|error| CommandError::Other(error.to_string()))?);
            } else {
                say(format!(
                    "{:8} {} <- {}:{}  {}  key {}\n         {}",
                    letter.state, letter.reader, letter.source, letter.seq, letter.kind, letter.key, letter.error
                ));
            }
        }
    }
    if !json {
        say(format!("{count} dead letters"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn redrive(settings: &Settings, key: Option<Uuid>) -> Result<ExitCode, CommandError> {
    let db = Db::new(settings.database(), settings.synchronous);
    let mut marked = 0;
    {
        let mut tx = db.open_writer()?;
        for service in crate::audit::SERVICES {
            marked += request_redrive(&mut tx, service, key).await?;
        }
    }
    say(format!("{marked} marked to be tried again"));
    match Mall::open(settings).await {
        Ok(mall) => {
            // No server runs: this process is the one that tries them.
            wait_for_redrive(&db).await?;
            mall.process.stop().await;
        }
        Err(MallError::InUse(_)) => say("the running server tries them now"),
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

async fn wait_for_redrive(db: &Db) -> Result<(), CommandError> {
    let step = Duration::from_millis(100);
    for _ in 0..PATIENCE.as_millis() / step.as_millis() {
        let mut waiting = 0;
        for service in crate::audit::SERVICES {
            let letters = dead_letters(&mut *db.reader().await?, service).await?;
            waiting += letters.iter().filter(|letter| letter.state == "redrive").count();
        }
        if waiting == 0 {
            break;
        }
        tokio::time::sleep(step).await;
    }
    Ok(())
}
