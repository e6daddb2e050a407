//! `onrush repair`: decisions of an operator about a stopped reader of a stream. No command skips messages that can still be read.

use super::{CommandError, print_line};
use crate::{
    copy::mall_databases,
    documents,
    settings::{RawSettings, Settings},
};
use contracts::Message;
use kit::{
    Tx,
    engine::{StreamPartition, begin_at, publish_again, reset_offsets},
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
    /// Start a new reader at the first message that the stream still has, because earlier ones were deleted
    Begin {
        #[command(flatten)]
        raw: Box<RawSettings>,
        /// The service that reads the stream
        #[arg(long)]
        reader: String,
        /// The service that writes the stream
        #[arg(long)]
        source: String,
        /// The partition, as in the log line of the reader
        #[arg(long, default_value_t = 0)]
        partition: i64,
        /// The epoch, as in the log line of the reader
        #[arg(long, default_value_t = 1)]
        epoch: i64,
        /// The first message to read, as in the log line of the reader
        #[arg(long, value_parser = clap::value_parser!(i64).range(2..))]
        first: i64,
    },
    /// Let a reader over Kafka find its position by message numbers, after a topic was recreated
    FindPlace {
        #[command(flatten)]
        raw: Box<RawSettings>,
        /// The service that reads the stream
        #[arg(long)]
        reader: String,
        /// The service that writes the stream
        #[arg(long)]
        source: String,
    },
    /// Publish the messages of a service to Kafka again, as far back as its database has them
    PublishAgain {
        #[command(flatten)]
        raw: Box<RawSettings>,
        /// The service that writes the stream
        #[arg(long)]
        source: String,
    },
}

impl RepairArgs {
    /// Works with or without running processes. Running processes apply it within seconds.
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        match self.command {
            RepairCommand::Begin { raw, reader, source, partition, epoch, first } => {
                let (mut tx, (reader, source)) = (open(&raw, &reader).await?, check_subscription(&reader, &source)?);
                let stream_partition = StreamPartition { source, epoch, partition };
                let begun = async {
                    tx.begin().await?;
                    begin_at(&mut tx, reader, stream_partition, first, SystemClock.now()).await?;
                    Ok(tx.commit().await?)
                };
                begun.await.map_err(|fault: kit::Fault| CommandError::Other(fault.to_string()))?;
                print_line(format!(
                    "{reader} begins with message {first} of {source}, partition {partition}; earlier messages were not read"
                ));
            }
            RepairCommand::FindPlace { raw, reader, source } => {
                let (mut tx, (reader, source)) = (open(&raw, &reader).await?, check_subscription(&reader, &source)?);
                let partitions = reset_offsets(&mut tx, reader, source).await?;
                print_line(format!("{reader} looks for its position in {partitions} partitions of {source}"));
            }
            RepairCommand::PublishAgain { raw, source } => {
                let mut tx = open(&raw, &source).await?;
                publish_again(&mut tx, &source).await?;
                print_line(format!("the messages of {source} that the database still has are published again"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Opens a write connection to the tables of a service. `Err`: the tables do not exist.
async fn open(raw: &RawSettings, service: &str) -> Result<Tx, CommandError> {
    let all = mall_databases(&Settings::load(raw)?)?;
    let database = all.into_iter().find(|database| database.services.contains(&service));
    let database = database.ok_or_else(|| CommandError::Other(format!("there is no service “{service}”")))?;
    database.db.check().await?;
    Ok(database.db.open_writer().await?)
}

/// The names of both services. `Err`: `reader` does not read the stream of `source`.
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
