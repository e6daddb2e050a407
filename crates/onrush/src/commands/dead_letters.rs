//! `onrush dead-unresolved_letters`: messages that a reader could not act on, and trying them again.

use super::{CommandError, print_line};
use crate::{
    copy::{mall_databases, served_services},
    mall::{Mall, MallError},
    settings::{Given, Settings},
};
use kit::engine::{DeadLetter, dead_letters, request_redrive};
use std::{process::ExitCode, time::Duration};
use uuid::Uuid;

#[derive(clap::Args)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(clap::Subcommand)]
enum DeadLettersCommand {
    /// Show what is dead, and what waits behind it
    List {
        #[command(flatten)]
        raw: Box<Given>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Try them again: all, or those of one key. Works beside a running server and without one
    Redrive {
        #[command(flatten)]
        raw: Box<Given>,
        /// Only messages of this key (such as an order id)
        #[arg(long)]
        key: Option<Uuid>,
    },
}

/// How long a redrive without a running server may take; letters that fail again are back within moments. On PostgreSQL a process that
/// died may have left leases, which end first.
const PATIENCE: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

impl DeadLettersArgs {
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        match self.command {
            DeadLettersCommand::List { raw, json } => list(&Settings::load(&raw)?, json).await,
            DeadLettersCommand::Redrive { raw, key } => redrive(&Settings::load(&raw)?, key).await,
        }
    }
}

async fn list(settings: &Settings, json: bool) -> Result<ExitCode, CommandError> {
    let mut count = 0;
    for letter in unresolved_letters(settings).await? {
        count += 1;
        if json {
            print_line(serde_json::to_string(&letter).map_err(|error| CommandError::Other(error.to_string()))?);
        } else {
            print_line(format!(
                "{:8} {} <- {}:{}:{}:{}  {}  key {}\n         {}",
                letter.state,
                letter.reader,
                letter.source,
                letter.epoch,
                letter.partition,
                letter.seq,
                letter.kind,
                letter.key,
                letter.error
            ));
        }
    }
    if !json {
        print_line(format!("{count} dead letters"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Unresolved letters of all services.
async fn unresolved_letters(settings: &Settings) -> Result<Vec<DeadLetter>, CommandError> {
    let mut found = Vec::new();
    for database in mall_databases(settings)? {
        let mut reader = database.db.reader().await?;
        for service in database.services {
            found.extend(dead_letters(&mut reader, service).await?);
        }
    }
    Ok(found)
}

async fn redrive(settings: &Settings, key: Option<Uuid>) -> Result<ExitCode, CommandError> {
    let (mut marked, mut waits) = (0, false);
    for database in mall_databases(settings)? {
        let mut tx = database.db.open_writer().await?;
        let served = served_services(&mut tx, &database.services).await?;
        for service in database.services {
            marked += request_redrive(&mut tx, service, key).await?;
            // Also what was marked before, should nobody have come to it.
            waits |= !served.contains(&service) && dead_letters(&mut tx, service).await?.iter().any(|letter| letter.state == "redrive");
        }
    }
    print_line(format!("{marked} marked to be tried again"));
    if !waits {
        if marked > 0 {
            print_line("the running servers try them now");
        }
        return Ok(ExitCode::SUCCESS);
    }
    match Mall::open(settings).await {
        Ok(mall) => {
            // No server runs: this process is the one that tries them.
            let waited = wait_for_redrive(settings).await;
            mall.process.stop().await;
            waited?;
        }
        Err(MallError::InUse(_)) => print_line("the running server tries them now"),
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

async fn wait_for_redrive(settings: &Settings) -> Result<(), CommandError> {
    for _ in 0..PATIENCE.as_millis() / POLL_INTERVAL.as_millis() {
        if unresolved_letters(settings).await?.iter().all(|letter| letter.state != "redrive") {
            return Ok(());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    print_line("some are still waiting; the next server that runs tries them");
    Ok(())
}
