//! The test mall of a rush: a new folder or database, seeded shoppers, server processes. All are removed at the end.

use crate::{commands::CommandError, private, settings::RawSettings};
use axum::{Router, routing::get};
use contracts::{SplitGroup, split_groups};
use kit::{
    db::ScratchDatabase,
    kafka::Cluster,
    ports::{new_id, random_bytes},
};
use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
};
use tokio::runtime::Handle;

pub const OPERATOR: (&str, &str) = ("operator@rush.onrush.example", "thundering-herd-2026");

/// Layout of the test mall.
#[derive(Clone, Copy, Debug)]
pub enum MallLayout {
    /// This number of processes, each with all services. More than one need PostgreSQL.
    Replicas(u32),
    /// One process for each group of services, on PostgreSQL and Kafka.
    Split,
}

pub struct TestMall {
    /// Addresses of all processes, separated by commas.
    pub url: String,
    pub tokens: PathBuf,
    /// Settings of this mall.
    pub raw: RawSettings,
    folder: PathBuf,
    servers: Vec<ServeProcess>,
    database: Option<ScratchDatabase>,
    topics: Option<Cluster>,
    runtime: Handle,
}

/// A child process that is killed when this value is dropped.
struct ServeProcess(Child);

impl Drop for ServeProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl TestMall {
    /// Starts a mall with these settings but with its own data: on PostgreSQL, in a new database on the same server.
    /// Must be called on a thread that may block on the runtime.
    pub fn start(raw: &RawSettings, layout: MallLayout, members: u32) -> Result<TestMall, CommandError> {
        let name = new_id().simple().to_string();
        let folder = std::env::temp_dir().join(format!("onrush-rush-{name}"));
        private::create_folder(&folder)?;
        let raw = RawSettings {
            data_dir: Some(folder.clone()),
            operator_email: Some(OPERATOR.0.into()),
            operator_password: Some(OPERATOR.1.into()),
            // Set for each process separately, if at all.
            only: None,
            peers: None,
            ..raw.clone()
        };
        let (tokens, runtime) = (folder.join("tokens.jsonl"), Handle::current());
        let mut test_mall =
            TestMall { url: String::new(), tokens, raw, folder, servers: Vec::new(), database: None, topics: None, runtime };
        test_mall.create_databases(&name)?;
        if test_mall.raw.redis.is_some() {
            test_mall.raw.redis_prefix = Some(format!("onrush-rush-{name}:"));
        }
        test_mall.seed(members)?;
        test_mall.url = test_mall.start_all(layout)?;
        Ok(test_mall)
    }

    fn create_databases(&mut self, name: &str) -> Result<(), CommandError> {
        let Some(server) = self.raw.database_url.clone() else { return Ok(()) };
        if self.raw.databases.is_some() {
            return Err(CommandError::Other("databases: a test mall uses one database, at --database-url".into()));
        }
        let database = self.runtime.block_on(ScratchDatabase::create(&server, "onrush_rush"))?;
        self.raw.database_url = Some(database.url());
        self.database = Some(database);
        let secret: String = random_bytes::<32>().iter().map(|byte| format!("{byte:02x}")).collect();
        self.raw.secret.get_or_insert(secret);
        if let Some(bootstrap) = &self.raw.kafka {
            let prefix = format!("onrush-rush-{name}");
            let cluster = Cluster::new(bootstrap, &prefix).map_err(|error| CommandError::Other(format!("kafka: {error}")))?;
            self.topics = Some(cluster);
            self.raw.kafka_prefix = Some(prefix);
        }
        Ok(())
    }

    fn seed(&self, members: u32) -> Result<(), CommandError> {
        let mut command = self.onrush_command()?;
        let status =
            command.args(["seed", "--members", &members.to_string(), "--tokens"]).arg(&self.tokens).stdout(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(CommandError::Other("cannot seed the shoppers".into())) }
    }

    fn start_all(&mut self, layout: MallLayout) -> Result<String, CommandError> {
        let mut urls = Vec::new();
        match layout {
            MallLayout::Replicas(count) => {
                for _ in 0..count.max(1) {
                    urls.push(self.start_server(&["--listen", "127.0.0.1:0"])?);
                }
            }
            MallLayout::Split => {
                let groups = split_groups();
                let addresses = free_addresses(groups.len())?;
                let peer = |(group, address): (&SplitGroup, &SocketAddr)| {
                    group.services.iter().map(|service| format!("{service}=http://{address}")).collect::<Vec<_>>().join(",")
                };
                let peers = groups.iter().zip(&addresses).map(peer).collect::<Vec<_>>().join(",");
                for (group, address) in groups.iter().zip(&addresses) {
                    let (only, listen) = (group.services.join(","), address.to_string());
                    urls.push(self.start_server(&["--only", &only, "--peers", &peers, "--listen", &listen])?);
                }
            }
        }
        Ok(urls.join(","))
    }

    fn start_server(&mut self, arguments: &[&str]) -> Result<String, CommandError> {
        // All shoppers connect from this machine, which must have more than the share of one address.
        let common = ["serve", "--ops-listen", "127.0.0.1:0", "--trusted-proxies", "127.0.0.1"];
        let (server, url) = spawn_server(self.onrush_command()?.args(common).args(arguments))?;
        self.servers.push(server);
        Ok(url)
    }

    pub fn server_pids(&self) -> Vec<u32> {
        self.servers.iter().map(|server| server.0.id()).collect()
    }

    /// A command of this binary with the settings of the mall.
    fn onrush_command(&self) -> Result<Command, CommandError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env("ONRUSH_DATA_DIR", &self.folder).env_remove("ONRUSH_LISTEN").env_remove("ONRUSH_ONLY").env_remove("ONRUSH_PEERS");
        let raw = &self.raw;
        for (name, value) in [
            ("ONRUSH_OPERATOR_EMAIL", raw.operator_email.clone()),
            ("ONRUSH_OPERATOR_PASSWORD", raw.operator_password.clone()),
            ("ONRUSH_DATABASE_URL", raw.database_url.clone()),
            ("ONRUSH_SECRET", raw.secret.clone()),
            ("ONRUSH_KAFKA", raw.kafka.clone()),
            ("ONRUSH_KAFKA_PREFIX", raw.kafka_prefix.clone()),
            ("ONRUSH_REDIS", raw.redis.clone()),
            ("ONRUSH_REDIS_PREFIX", raw.redis_prefix.clone()),
            ("ONRUSH_READERS", raw.readers.map(|number| number.to_string())),
            ("ONRUSH_PARTITIONS", raw.partitions.map(|number| number.to_string())),
            ("ONRUSH_FOLD", raw.fold.map(|fold| fold.to_string())),
            ("ONRUSH_MAX_BATCH", raw.max_batch.map(|size| size.to_string())),
            ("ONRUSH_QUEUE", raw.queue.map(|size| size.to_string())),
            ("ONRUSH_SYNCHRONOUS", raw.synchronous.clone()),
            ("ONRUSH_CLAIM_STRATEGY", raw.claim_strategy.clone()),
            ("ONRUSH_SAGA", raw.saga.clone()),
            ("ONRUSH_LIMITS", raw.limits.as_ref().map(ToString::to_string)),
        ] {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        Ok(command)
    }
}

impl Drop for TestMall {
    fn drop(&mut self) {
        self.servers.clear();
        let _ = std::fs::remove_dir_all(&self.folder);
        let (database, topics) = (self.database.take(), self.topics.take());
        self.runtime.block_on(async {
            if let Some(database) = database
                && let Err(error) = database.remove().await
            {
                tracing::warn!(%error, name = database.name(), "database not removed");
            }
            if let Some(topics) = topics
                && let Err(error) = topics.remove_topics(&[contracts::SERVICES, contracts::messages::REQUEST_LOGS].concat()).await
            {
                tracing::warn!(%error, "topics not removed");
            }
        });
    }
}

/// Addresses with free ports. Another process could still take one.
fn free_addresses(count: usize) -> std::io::Result<Vec<SocketAddr>> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
    listeners.iter().map(TcpListener::local_addr).collect()
}

/// Starts a server process and waits for the output line with its address.
fn spawn_server(command: &mut Command) -> Result<(ServeProcess, String), CommandError> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or_else(|| CommandError::Other("the server has no output".into()))?;
    let server = ServeProcess(child);
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if let Some(at) = line.find("http://") {
            let url = line[at..].split_whitespace().next().unwrap_or_default().to_owned();
            return Ok((server, url));
        }
    }
    Err(CommandError::Other("the server did not start".into()))
}

/// The process of the baseline, which answers only hello.
pub struct HelloServer {
    pub url: String,
    _server: ServeProcess,
}

impl HelloServer {
    pub fn start() -> Result<HelloServer, CommandError> {
        let (server, url) = spawn_server(Command::new(std::env::current_exe()?).args(["rush", "hello"]))?;
        Ok(HelloServer { url, _server: server })
    }
}

/// Serves the baseline: plain axum, like the first example of its documentation.
pub async fn serve_hello(listen: SocketAddr) -> Result<ExitCode, CommandError> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    crate::commands::print_line(format!("hello on http://{}", listener.local_addr()?));
    axum::serve(listener, Router::new().route("/", get(async || "hello"))).await?;
    Ok(ExitCode::SUCCESS)
}
