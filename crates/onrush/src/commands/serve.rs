//! `onrush serve`: serves the mall on an address until a signal stops it.

use super::{CommandError, print_line};
use crate::{
    documents,
    mall::Mall,
    settings::{RawSettings, Settings},
};
use axum::{Router, response::Redirect, routing::get};
use futures::FutureExt;
use kit::{
    http::{ServerLimits, layers, listen, ops, serve},
    tasks::{self, Draining, Shutdown, ShutdownTrigger},
};
use std::{process::ExitCode, time::Duration};
use utoipa_swagger_ui::SwaggerUi;

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
    let ops_router = ops::router(readiness.clone());
    let api = mall.process.router.clone().merge(document_routes(&mall));
    let api = match settings.ops_listen {
        None => api.merge(ops_router),
        Some(ops_address) => {
            let listener = listen(ops_address)
                .map_err(|error| CommandError::Other(format!("cannot listen on {ops_address}: {error}; set --ops-listen")))?;
            let shutdown = shutdown.clone();
            tasks::spawn("ops", async move {
                if let Err(error) = serve(listener, layers(ops_router), ServerLimits::default(), shutdown).await {
                    tracing::error!(%error, "operations listener ended");
                }
            });
            api
        }
    };
    mall.process.start_jobs(&shutdown);
    stop_on_signal(trigger, readiness.clone(), mall.process.kit.draining.clone(), shutdown.clone());
    readiness.set(true);
    ready(address);
    serve(listener, layers(api), ServerLimits::default(), shutdown).await?;
    mall.process.stop().await;
    match tasks::fatal_failure().now_or_never() {
        Some(part) => Err(CommandError::Other(format!("{part} ended after a panic; the process must be started again"))),
        None => Ok(()),
    }
}

/// Time between the end of readiness and the end of new connections.
const UNREADY_BEFORE_STOP: Duration = Duration::from_millis(500);

fn document_routes(mall: &Mall) -> Router {
    let openapi = documents::openapi(&mall.process);
    // There are no pages yet, so a browser is redirected to the API documentation.
    Router::from(SwaggerUi::new("/docs").url("/openapi.json", openapi)).route("/", get(async || Redirect::temporary("/docs/")))
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
