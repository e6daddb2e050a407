//! `onrush repair`: what a person decides when a stream's reader has stopped. None of it makes a reader skip what can still be read.

use super::{CommandError, print_line};
use crate::{
    copy::mall_databases,
    documents,
    settings::{Given, Settings},
};
use contracts::Message;
use kit::{
    Tx,
    engine::{Place, begin_at, find_by_number, publish_again},
    ports::{Clock, SystemClock},
};
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct RepairArgs {
    #[command(subcommand)]
    command: RepairCommand,
}

#[derive(clap::Subcommand)]
enum RepairCommand {
    /// Let a reader that is new begin where the stream begins now, because what was before is not kept any more
    Begin {
        #[command(flatten)]
        raw: Box<Given>,
        /// The service that reads
        #[arg(long)]
        reader: String,
        /// The service whose stream it is
        #[arg(long)]
        source: String,
        /// The partition, as its log line says
        #[arg(long, default_value_t = 0)]
        partition: i64,
        /// The numbering, as its log line says
        #[arg(long, default_value_t = 1)]
        epoch: i64,
        /// The first message it is to read, as its log line says
        #[arg(long, value_parser = clap::value_parser!(i64).range(2..))]
        first: i64,
    },
    /// Have a reader over Kafka find its place by the messages' numbers, after a topic was made anew
    FindPlace {
        #[command(flatten)]
        raw: Box<Given>,
        /// The service that reads
        #[arg(long)]
        reader: String,
        /// The service whose stream it is
        #[arg(long)]
        source: String,
    },
    /// Have a service's messages published to Kafka again, as far back as its database has them
    PublishAgain {
        #[command(flatten)]
        raw: Box<Given>,
        /// The service whose stream it is
        #[arg(long)]
        source: String,
    },
}

impl RepairArgs {
    /// Beside running processes, which take it up within seconds, or without.
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        match self.command {
            RepairCommand::Begin { raw, reader, source, partition, epoch, first } => {
                let (mut tx, (reader, source)) = (open(&raw, &reader).await?, check_subscription(&reader, &source)?);
                let place = Place { source, epoch, partition };
                let begun = async {
                    tx.begin().await?;
                    begin_at(&mut tx, reader, place, first, SystemClock.now()).await?;
                    Ok(tx.commit().await?)
                };
                begun.await.map_err(|fault: kit::Fault| CommandError::Other(fault.to_string()))?;
                print_line(format!(
                    "{reader} begins with message {first} of {source}, partition {partition}; those before it were not read"
                ));
            }
            RepairCommand::FindPlace { raw, reader, source } => {
                let (mut tx, (reader, source)) = (open(&raw, &reader).await?, check_subscription(&reader, &source)?);
                let partitions = find_by_number(&mut tx, reader, source).await?;
                print_line(format!("{reader} looks for its place in {partitions} partitions of {source}"));
            }
            RepairCommand::PublishAgain { raw, source } => {
                let mut tx = open(&raw, &source).await?;
                publish_again(&mut tx, &source).await?;
                print_line(format!("what the database still has of {source} is published again"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A connection that writes to a service's tables. They must be there.
async fn open(raw: &Given, service: &str) -> Result<Tx, CommandError> {
    let all = mall_databases(&Settings::load(raw)?)?;
    let database = all.into_iter().find(|database| database.services.contains(&service));
    let database = database.ok_or_else(|| CommandError::Other(format!("there is no service “{service}”")))?;
    database.db.check().await?;
    Ok(database.db.open_writer().await?)
}

/// The names of both, if the first reads the second's stream.
fn check_subscription(reader: &str, source: &str) -> Result<(&'static str, &'static str), CommandError> {
    for service in documents::all_services().map_err(CommandError::Other)? {
        let read = Message::TABLE.iter().find(|(kind, from, _)| *from == source && service.reads().contains(kind));
        if let Some((_, source, _)) = read
            && service.name() == reader
        {
            return Ok((service.name(), source));
        }
    }
    Err(CommandError::Other(format!("“{reader}” reads no stream of “{source}”; see: onrush services")))
}
