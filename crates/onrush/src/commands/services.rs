//! `onrush services`: lists the services and the processes that run them.

use super::{CommandError, print_line};
use crate::{
    documents,
    settings::{RawSettings, Settings},
};
use kit::{
    Db,
    http::client::{Client, ClientSettings},
    links::{Signer, discover},
    ports::SystemClock,
    process::{Database, Databases, SplitSettings, presences},
};
use std::{fmt::Write, process::ExitCode, sync::Arc};
use uuid::Uuid;

#[derive(clap::Args)]
pub struct ServicesArgs {
    #[command(flatten)]
    raw: RawSettings,
}

impl ServicesArgs {
    /// Needs the settings of any process of the mall. Each process that does not answer is listed with the reason, for diagnosis.
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        let settings = Settings::load(&self.raw)?;
        let services = documents::all_services().map_err(CommandError::Other)?;
        let names: Vec<&'static str> = services.iter().map(|service| service.name()).collect();
        let mut text = documents::services().map_err(CommandError::Other)?;
        let Some(postgres) = &settings.postgres else {
            print_line(text + "\nAll of them run in one process, on one SQLite file.");
            return Ok(ExitCode::SUCCESS);
        };
        let databases = Databases::open(&Database::Postgres(postgres.clone()))?;
        let peers = settings.split.as_ref().map(|split| PeerProbe::new(&settings, split)).transpose()?;
        let _ = writeln!(text, "\n{:<10} where", "service");
        for name in names {
            let mut lines = Vec::new();
            if let Some(peers) = &peers {
                lines.extend(peers.query(name).await);
            }
            lines.extend(lease_lines(databases.of(name), name).await);
            for (number, line) in lines.iter().enumerate() {
                let _ = writeln!(text, "{:<10} {line}", if number == 0 { name } else { "" });
            }
        }
        print_line(text.trim_end());
        Ok(ExitCode::SUCCESS)
    }
}

/// Asks the processes in `peers`, one after the other.
struct PeerProbe<'s> {
    split: &'s SplitSettings,
    client: Client,
    signer: Signer,
}

impl<'s> PeerProbe<'s> {
    fn new(settings: &Settings, split: &'s SplitSettings) -> Result<PeerProbe<'s>, CommandError> {
        let secret = settings.secret.ok_or_else(|| CommandError::Other("secret: it signs requests to other processes; set it".into()))?;
        let signer = Signer::new(&secret, Arc::new(SystemClock));
        Ok(PeerProbe { split, client: Client::new(ClientSettings::default()), signer })
    }

    async fn query(&self, service: &str) -> Vec<String> {
        let mut lines = Vec::new();
        if self.split.only.iter().any(|name| name == service) {
            lines.push("here, by these settings".to_owned());
        }
        for address in self.split.peers.addresses(service) {
            lines.push(match discover(&self.client, &self.signer, address, service).await {
                Ok(found) => format!("{address}  process {}, version {}", short_id(found.instance), found.version),
                Err(reason) => format!("{address}  {reason}"),
            });
        }
        lines
    }
}

/// The processes that hold leases of the service in its database.
async fn lease_lines(db: &Db, service: &str) -> Vec<String> {
    match presences(db, service).await {
        Err(error) => vec![format!("its database does not answer: {error}")],
        Ok(found) if found.is_empty() => vec!["no process runs it now".to_owned()],
        Ok(found) => {
            let line = |(instance, presence): (&Uuid, &kit::process::Presence)| {
                let lanes: Vec<String> = presence.partitions.iter().map(i64::to_string).collect();
                let lanes = if lanes.is_empty() { "no lanes".to_owned() } else { format!("lanes {}", lanes.join(" ")) };
                format!("process {}  {lanes}; {}", short_id(*instance), presence.duties.join(", ")).trim_end_matches("; ").to_owned()
            };
            found.iter().map(line).collect()
        }
    }
}

/// The random end of an id: enough to distinguish a few processes.
fn short_id(instance: Uuid) -> String {
    instance.simple().to_string().split_off(24)
}
