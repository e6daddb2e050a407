//! A mall of the rush's own: fresh folder, seeded shoppers, a server process; all gone afterwards.

use crate::{commands::CommandError, settings::Given};
use axum::{Router, routing::get};
use kit::ports::new_id;
use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
};

pub const OPERATOR: (&str, &str) = ("operator@rush.onrush.example", "thundering-herd-2026");

pub struct Stage {
    pub url: String,
    pub tokens: PathBuf,
    pub data_dir: PathBuf,
    server: Server,
}

/// A child process that ends with its owner.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stage {
    pub fn set(given: &Given, members: u32) -> Result<Stage, CommandError> {
        let data_dir = std::env::temp_dir().join(format!("onrush-rush-{}", new_id()));
        std::fs::create_dir_all(&data_dir)?;
        let tokens = data_dir.join("tokens.jsonl");
        let status = onrush(&data_dir, given)?
            .args(["seed", "--members", &members.to_string(), "--tokens"])
            .arg(&tokens)
            .stdout(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(CommandError::Other("cannot seed the shoppers".into()));
        }
        let (server, url) = start(onrush(&data_dir, given)?.args(["serve", "--listen", "127.0.0.1:0"]))?;
        Ok(Stage { url, tokens, data_dir, server })
    }

    pub fn server_pid(&self) -> u32 {
        self.server.0.id()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.server.0.kill();
        let _ = self.server.0.wait();
        let _ = std::fs::remove_dir_all(&self.data_dir);
    }
}

/// This program with the settings that a rush varies.
fn onrush(data_dir: &PathBuf, given: &Given) -> Result<Command, CommandError> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .env("ONRUSH_DATA_DIR", data_dir)
        .env("ONRUSH_OPERATOR_EMAIL", OPERATOR.0)
        .env("ONRUSH_OPERATOR_PASSWORD", OPERATOR.1)
        .env_remove("ONRUSH_LISTEN");
    let set = |command: &mut Command, name: &str, value: Option<String>| {
        if let Some(value) = value {
            command.env(name, value);
        }
    };
    set(&mut command, "ONRUSH_FOLD", given.fold.map(|fold| fold.to_string()));
    set(&mut command, "ONRUSH_MAX_BATCH", given.max_batch.map(|size| size.to_string()));
    set(&mut command, "ONRUSH_QUEUE", given.queue.map(|size| size.to_string()));
    set(&mut command, "ONRUSH_SYNCHRONOUS", given.synchronous.clone());
    set(&mut command, "ONRUSH_CLAIM_STRATEGY", given.claim_strategy.clone());
    set(&mut command, "ONRUSH_SAGA", given.saga.clone());
    Ok(command)
}

/// Starts a server and waits for the line that names its address.
fn start(command: &mut Command) -> Result<(Server, String), CommandError> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or_else(|| CommandError::Other("the server has no output".into()))?;
    let server = Server(child);
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if let Some(at) = line.find("http://") {
            let url = line[at..].split_whitespace().next().unwrap_or_default().to_owned();
            return Ok((server, url));
        }
    }
    Err(CommandError::Other("the server did not start".into()))
}

/// A process that only says hello.
pub struct Hello {
    pub url: String,
    _server: Server,
}

impl Hello {
    pub fn start() -> Result<Hello, CommandError> {
        let (server, url) = start(Command::new(std::env::current_exe()?).args(["rush", "hello"]))?;
        Ok(Hello { url, _server: server })
    }
}

/// The floor's server: bare axum, as its documentation begins.
pub async fn say_hello(listen: SocketAddr) -> Result<ExitCode, CommandError> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    crate::commands::say(format!("hello on http://{}", listener.local_addr()?));
    axum::serve(listener, Router::new().route("/", get(async || "hello"))).await?;
    Ok(ExitCode::SUCCESS)
}
