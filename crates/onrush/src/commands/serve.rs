//! `onrush serve`: serves the mall on an address until a signal stops it.

use super::{CommandError, doc_pages, print_line};
use crate::{
    documents,
    mall::Mall,
    settings::{RawSettings, Settings},
};
use futures::FutureExt;
use kit::{
    http::{ServerSettings, layers, listen, ops, raise_descriptor_limit, serve},
    tasks::{self, Draining, Shutdown, ShutdownTrigger},
};
use std::{process::ExitCode, time::Duration};

#[derive(clap::Args)]
pub struct ServeArgs {
    #[command(flatten)]
    raw: RawSettings,
}

impl ServeArgs {
    pub async fn run(self) -> Result<ExitCode, CommandError> {
        let settings = Settings::load(&self.raw)?;
        let mall = Mall::open(&settings).await?;
        serve_until_stopped(mall, &settings, |address| {
            print_line(format!("Onrush listens on http://{address}  (API documentation: /docs)"))
        })
        .await?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Serves until SIGTERM, Ctrl-C, or the end of a part that the process cannot do without. Then readiness ends first, requests in flight finish, and the writer stops last.
pub async fn serve_until_stopped(mall: Mall, settings: &Settings, ready: impl FnOnce(std::net::SocketAddr)) -> Result<(), CommandError> {
    let listener = listen(settings.listen)
        .map_err(|error| CommandError::Other(format!("cannot listen on {}: {error}; set --listen", settings.listen)))?;
    let address = listener.local_addr()?;
    let (trigger, shutdown) = tasks::shutdown();
    let writers = mall.process.writer_health();
    let readiness = ops::Readiness::with_check(move || writers.is_good());
    let pages = doc_pages::routes(documents::openapi(&mall.process));
    let api = mall.process.router.clone().merge(pages).merge(ops::health(readiness.clone()));
    start_ops_server(settings, &readiness, &shutdown)?;
    mall.process.start_jobs(&shutdown);
    stop_on_signal(trigger, readiness.clone(), mall.process.kit.draining.clone(), shutdown.clone());
    readiness.set(true);
    ready(address);
    serve(listener, layers(api), server_settings(settings), shutdown).await?;
    mall.process.stop().await;
    match tasks::fatal_failure().now_or_never() {
        Some(part) => Err(CommandError::Other(format!("{part} ended after a panic; the process must be started again"))),
        None => Ok(()),
    }
}

/// Time between the end of readiness and the end of new connections.
const UNREADY_BEFORE_STOP: Duration = Duration::from_millis(500);

/// Most connections of the server for operators: a monitoring system, some load balancers, and a person.
const OPS_CONNECTIONS: u32 = 256;
/// Descriptors of a process that cannot read its limit. The usual soft limit.
const UNKNOWN_DESCRIPTORS: u64 = 1_024;

/// Settings of the API's server. Its connections fit the descriptors of this process.
fn server_settings(settings: &Settings) -> ServerSettings {
    let descriptors = raise_descriptor_limit().unwrap_or_else(|error| {
        tracing::warn!(%error, "limit of file descriptors not raised");
        UNKNOWN_DESCRIPTORS
    });
    let fitting = ServerSettings::for_descriptors(descriptors);
    let (max_connections, max_per_address) = (fitting.max_connections, fitting.max_per_address);
    tracing::debug!(descriptors, max_connections, max_per_address, "connections limited");
    ServerSettings { proxies: settings.proxies.clone(), ..fitting }
}

/// Starts the server of metrics and health. It answers even when all connections of the API are taken.
///
/// A process whose default address is taken serves without metrics, because several processes may share a machine.
fn start_ops_server(settings: &Settings, readiness: &ops::Readiness, shutdown: &Shutdown) -> Result<(), CommandError> {
    let address = settings.ops_address();
    let listener = match listen(address) {
        Ok(listener) => listener,
        Err(error) if settings.ops_listen.is_none() => {
            tracing::warn!(%address, %error, "metrics are not served: set ops_listen to a free address");
            return Ok(());
        }
        Err(error) => return Err(CommandError::Other(format!("cannot listen on {address}: {error}; set --ops-listen"))),
    };
    tracing::info!(address = %listener.local_addr()?, "metrics and health served for operators");
    let router = layers(ops::health(readiness.clone()).merge(ops::metrics()));
    let (limits, shutdown) = (
        ServerSettings { max_connections: OPS_CONNECTIONS, max_per_address: OPS_CONNECTIONS, ..ServerSettings::default() },
        shutdown.clone(),
    );
    tasks::spawn("ops", async move {
        if let Err(error) = serve(listener, router, limits, shutdown).await {
            tracing::error!(%error, "operations listener ended");
        }
    });
    Ok(())
}

fn stop_on_signal(trigger: ShutdownTrigger, readiness: ops::Readiness, draining: Draining, shutdown: Shutdown) {
    tasks::spawn("signals", async move {
        tokio::select! {
            () = wait_for_signal() => {}
            _ = tasks::fatal_failure() => {}
            () = shutdown.stopping() => {}
        }
        tracing::info!("stopping: no new requests, requests in flight finish");
        readiness.set(false);
        draining.begin();
        // Load balancers see the end of readiness before connections are refused.
        tokio::time::sleep(UNREADY_BEFORE_STOP).await;
        trigger.stop();
    });
}

async fn wait_for_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
