//! `onrush dead-letters`: lists and redrives messages that a reader could not process.

use super::{CommandError, print_line};
use crate::{
    copy::{mall_databases, served_services},
    mall::{Mall, MallError},
    settings::{RawSettings, Settings},
};
use kit::engine::{DeadLetter, list_dead_letters, request_redrive};
use std::{process::ExitCode, time::Duration};
use uuid::Uuid;

#[derive(clap::Args)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(clap::Subcommand)]
enum DeadLettersCommand {
    /// List the dead letters and the messages parked behind them
    List {
        #[command(flatten)]
        raw: Box<RawSettings>,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Retry all dead letters, or those of one key; with or without a running server
    Redrive {
        #[command(flatten)]
        raw: Box<RawSettings>,
        /// Retry only messages of this key, such as an order id
        #[arg(long)]
        key: Option<Uuid>,
    },
}

/// Maximum duration of a redrive without a running server, beyond the time after which a message that fails again is dead. Covers the pauses
/// between tries, and on PostgreSQL the leases of a dead process, which must expire first.
const PATIENCE: Duration = Duration::from_secs(30);
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

/// Unresolved dead letters of all services.
async fn unresolved_letters(settings: &Settings) -> Result<Vec<DeadLetter>, CommandError> {
    let mut found = Vec::new();
    for database in mall_databases(settings)? {
        let mut reader = database.db.reader().await?;
        for service in database.services {
            found.extend(list_dead_letters(&mut reader, service).await?);
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
            // Letters marked by an earlier redrive count too, because no process may have retried them.
            waits |=
                !served.contains(&service) && list_dead_letters(&mut tx, service).await?.iter().any(|letter| letter.state == "redrive");
        }
    }
    print_line(format!("{marked} marked for retry"));
    if !waits {
        if marked > 0 {
            print_line("the running servers retry them now");
        }
        return Ok(ExitCode::SUCCESS);
    }
    match Mall::open(settings).await {
        Ok(mall) => {
            // No server runs, so this process retries them.
            let waited = wait_for_redrive(settings).await;
            mall.process.stop().await;
            waited?;
        }
        Err(MallError::InUse(_)) => print_line("the running server retries them now"),
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

async fn wait_for_redrive(settings: &Settings) -> Result<(), CommandError> {
    for _ in 0..(settings.dead_letter_after + PATIENCE).as_millis() / POLL_INTERVAL.as_millis() {
        if unresolved_letters(settings).await?.iter().all(|letter| letter.state != "redrive") {
            return Ok(());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    print_line("some are still waiting; the next server that starts retries them");
    Ok(())
}
