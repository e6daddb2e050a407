//! `onrush repair`: what a person decides when a stream's reader has stopped. None of it makes a reader skip what can still be read.

use super::{CommandError, say};
use crate::{
    copy::stores,
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
pub struct Repair {
    #[command(subcommand)]
    command: RepairCommand,
}

#[derive(clap::Subcommand)]
enum RepairCommand {
    /// Let a reader that is new begin where the stream begins now, because what was before is not kept any more
    Begin {
        #[command(flatten)]
        given: Box<Given>,
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
        given: Box<Given>,
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
        given: Box<Given>,
        /// The service whose stream it is
        #[arg(long)]
        source: String,
    },
}

impl Repair {
    /// Beside running processes, which take it up within seconds, or without.
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        match self.command {
            RepairCommand::Begin { given, reader, source, partition, epoch, first } => {
                let (mut tx, (reader, source)) = (open(&given, &reader).await?, reading(&reader, &source)?);
                let place = Place { source, epoch, partition };
                let begun = async {
                    tx.begin().await?;
                    begin_at(&mut tx, reader, place, first, SystemClock.now()).await?;
                    Ok(tx.commit().await?)
                };
                begun.await.map_err(|fault: kit::Fault| CommandError::Other(fault.to_string()))?;
                say(format!("{reader} begins with message {first} of {source}, partition {partition}; those before it were not read"));
            }
            RepairCommand::FindPlace { given, reader, source } => {
                let (mut tx, (reader, source)) = (open(&given, &reader).await?, reading(&reader, &source)?);
                let partitions = find_by_number(&mut tx, reader, source).await?;
                say(format!("{reader} looks for its place in {partitions} partitions of {source}"));
            }
            RepairCommand::PublishAgain { given, source } => {
                let mut tx = open(&given, &source).await?;
                publish_again(&mut tx, &source).await?;
                say(format!("what the database still has of {source} is published again"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A connection that writes to a service's tables. They must be there.
async fn open(given: &Given, service: &str) -> Result<Tx, CommandError> {
    let all = stores(&Settings::load(given)?)?;
    let store = all.into_iter().find(|store| store.services.contains(&service));
    let store = store.ok_or_else(|| CommandError::Other(format!("there is no service “{service}”")))?;
    store.db.check().await?;
    Ok(store.db.open_writer().await?)
}

/// The names of both, if the first reads the second's stream.
fn reading(reader: &str, source: &str) -> Result<(&'static str, &'static str), CommandError> {
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
