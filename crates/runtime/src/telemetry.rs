//! Logs and metrics of the process. They must never contain secrets, addresses or card numbers.

use crate::metrics_help;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::{error::Error, fmt::Write, io::IsTerminal, sync::OnceLock, time::Duration};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{EnvFilter, filter::filter_fn, fmt, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt};

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The filter of log lines if `ONRUSH_LOG` is not set.
const DEFAULT_FILTER: &str = "info,refinery_core=warn,tokio_postgres=warn,librdkafka=error";

/// Targets of our own log lines, besides the services: the crates of the machinery, and the audit log.
const OWN_TARGETS: &[&str] = &[
    "audit",
    "auth",
    "cache",
    "contracts",
    "db",
    "engine",
    "journeys",
    "kafka",
    "kit",
    "onrush",
    "peers",
    "runtime",
    "rush",
    "testkit",
    "web",
];

/// False for lines of libraries below `warn`. They show parameters: names, addresses, password hashes, tokens.
fn may_log(metadata: &Metadata<'_>) -> bool {
    let name = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() <= Level::WARN || OWN_TARGETS.contains(&name) || contracts::SERVICES.contains(&name)
}

/// Filters of all log lines: the one that was asked for, and the one that no setting can lift.
fn filtered<S: Subscriber + for<'s> LookupSpan<'s>>(registry: S, asked: EnvFilter) -> impl Subscriber + for<'s> LookupSpan<'s> {
    registry.with(asked).with(filter_fn(may_log))
}

/// Starts logging to the standard error stream. The variable `ONRUSH_LOG` filters, as in `info,web=debug`. It lifts no line of a
/// library below `warn`. A second call does nothing.
pub fn init_logging(format: LogFormat) {
    let asked = EnvFilter::try_from_env("ONRUSH_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let registry = filtered(tracing_subscriber::registry(), asked);
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    // `Err`: a subscriber exists already. A test or an embedding program installed it.
    let _ = match format {
        LogFormat::Text => registry.with(layer).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
}

static METRICS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Buckets from a tenth of a millisecond to ten seconds. Commits and requests lie in the middle.
const SECONDS: &[f64] = &[0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Buckets for the sizes of batches and hops.
const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
/// Histograms keep every single value until upkeep moves the values into buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts collecting metrics. Call it first, because counters made before are lost. A second call does nothing.
pub fn install_metrics() {
    METRICS.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
            .and_then(|builder| builder.set_buckets(COUNTS));
        let handle = match builder.and_then(PrometheusBuilder::install_recorder) {
            Ok(handle) => handle,
            Err(error) => {
                tracing::error!(%error, "metrics are not collected");
                return None;
            }
        };
        metrics_help::describe();
        let upkeep = handle.clone();
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(move || {
            loop {
                std::thread::sleep(UPKEEP_INTERVAL);
                upkeep.run_upkeep();
            }
        });
        if let Err(error) = thread {
            tracing::error!(%error, "metrics upkeep not started: memory grows until the metrics are read");
        }
        Some(handle)
    });
}

/// All metrics in Prometheus' text format. Empty if metrics are not collected.
pub fn metrics_text() -> String {
    METRICS.get().and_then(Option::as_ref).map(PrometheusHandle::render).unwrap_or_default()
}

/// Text of an error with its causes, because drivers hide the cause in their own messages.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some errors already repeat the text of their cause.
        if !text.ends_with(&next) {
            let _ = write!(text, ": {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Failure {
        text: &'static str,
        source: Option<std::io::Error>,
    }

    #[test]
    fn an_error_is_told_with_its_causes_but_none_twice() {
        let failure = |text| Failure { text, source: Some(std::io::Error::other("refused")) };
        assert_eq!(error_chain(&failure("no connection")), "no connection: refused");
        assert_eq!(error_chain(&failure("no connection: refused")), "no connection: refused");
        assert_eq!(error_chain(&Failure { text: "alone", source: None }), "alone");
    }

    // M7
    #[test]
    fn libraries_are_quiet_whatever_the_filter_says() {
        let log = crate::captured_log::CapturedLog::default();
        let writer = log.clone();
        let layer = fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let asked = EnvFilter::new("trace,tokio_postgres::query=trace,librdkafka=debug");
        tracing::subscriber::with_default(filtered(tracing_subscriber::registry(), asked).with(layer), || {
            for _ in 0..100 {
                tracing::callsite::rebuild_interest_cache();
                tracing::debug!(target: "tokio_postgres::query", "parameters canary");
                tracing::trace!(target: "redis", "canary");
                tracing::info!(target: "hyper::client", "canary");
                tracing::debug!(target: "some_new_library", "canary");
                tracing::warn!(target: "tokio_postgres", "library warns");
                tracing::debug!(target: "wallet::api", "service debugs");
                tracing::debug!("own debugs");
                if log.count("library warns") > 0 {
                    break;
                }
            }
        });
        let text = log.text();
        assert!(["library warns", "service debugs", "own debugs"].iter().all(|line| text.contains(line)), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }

    // D4
    #[test]
    fn metrics_have_help_texts() {
        install_metrics();
        metrics::counter!("onrush_batch_shed_total").increment(1);
        let text = metrics_text();
        assert!(text.contains("# HELP onrush_batch_shed_total Commands refused"), "{text}");
    }

    // I8
    #[test]
    fn metrics_are_collected_once_and_in_buckets() {
        install_metrics();
        install_metrics();
        metrics::counter!("onrush_test_total").increment(2);
        metrics::histogram!("onrush_test_seconds").record(0.0007);
        metrics::histogram!("onrush_test_size").record(3.0);
        let text = metrics_text();
        assert!(text.contains("onrush_test_total 2"), "{text}");
        assert!(text.contains(r#"onrush_test_seconds_bucket{le="0.001"} 1"#), "{text}");
        assert!(text.contains(r#"onrush_test_size_bucket{le="4"} 1"#), "{text}");
    }

    #[test]
    fn logging_may_be_started_twice() {
        init_logging(LogFormat::Json);
        init_logging(LogFormat::Text);
    }
}
