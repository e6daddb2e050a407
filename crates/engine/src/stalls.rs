//! Stalled readers: logged when a stall starts and when it ends, with a gauge in between.
//!
//! A stalled reader skips nothing. It reloads its position every few seconds, so that a repair takes effect without a restart.

use super::position::StreamPartition;
use runtime::ports::Stopwatch;
use std::{collections::HashMap, time::Duration};

/// Interval at which a stalled reader reloads its position.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);
/// A stall ends when it was not reported for this time, even if no message arrived.
const EXPIRY: Duration = Duration::from_secs(10);

/// Reason for a stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StallReason {
    /// The next message is missing, and later ones exist.
    Gap,
    /// The message source fails.
    Source,
    /// The next message needs a row that another session has locked.
    Lock,
    /// The database cannot work at the moment.
    Outage,
    /// Messages of many keys fail, so that more cannot be set aside.
    Burst,
}

impl StallReason {
    fn message(self) -> &'static str {
        match self {
            StallReason::Gap | StallReason::Source => "cannot read the stream",
            StallReason::Lock | StallReason::Outage | StallReason::Burst => "cannot act on the next message",
        }
    }

    /// True if only a delivered message ends the stall, because reading the stream does not prove it.
    fn needs_progress(self) -> bool {
        matches!(self, StallReason::Lock | StallReason::Outage | StallReason::Burst)
    }
}

struct Stall {
    reason: StallReason,
    since_report: Stopwatch,
    since_reload: Stopwatch,
}

/// A reader and its position, for reports.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReaderPosition {
    pub reader: &'static str,
    pub stream: StreamPartition,
    pub position: i64,
}

/// Reader, source and partition.
type StallKey = (&'static str, &'static str, i64);

#[derive(Default)]
pub(super) struct Stalls(HashMap<StallKey, Stall>);

impl ReaderPosition {
    fn key(&self) -> StallKey {
        (self.reader, self.stream.source, self.stream.partition)
    }
}

fn set_gauge((reader, source, partition): StallKey, is_stopped: bool) {
    let gauge = metrics::gauge!("onrush_reader_stopped", "reader" => reader, "source" => source, "partition" => partition.to_string());
    gauge.set(if is_stopped { 1.0 } else { 0.0 });
}

impl Stalls {
    pub fn report(&mut self, at: ReaderPosition, reason: StallReason, details: &str) {
        let key = at.key();
        match self.0.get_mut(&key) {
            Some(stall) if stall.reason == reason => stall.since_report = Stopwatch::start(),
            _ => {
                let ReaderPosition { reader, stream, position } = at;
                tracing::error!(reader, ?stream, position, reason = details, "reader stalled: {}", reason.message());
                metrics::counter!("onrush_reader_stops_total", "reader" => key.0, "source" => key.1).increment(1);
                set_gauge(key, true);
                self.0.insert(key, Stall { reason, since_report: Stopwatch::start(), since_reload: Stopwatch::start() });
            }
        }
    }

    /// Clears a stall after messages were read, or after no failure for a while. Some stalls need progress, because reading does not prove
    /// it.
    pub fn clear_if_recovered(&mut self, at: ReaderPosition, has_read: bool) {
        let has_ended = |stall: &Stall| has_read && !stall.reason.needs_progress() || stall.since_report.elapsed() >= EXPIRY;
        if self.0.get(&at.key()).is_some_and(has_ended) {
            self.clear(at);
        }
    }

    /// Clears a stall that needs progress, because the reader has delivered a message.
    pub fn on_progress(&mut self, at: ReaderPosition) {
        if self.0.get(&at.key()).is_some_and(|stall| stall.reason.needs_progress()) {
            self.clear(at);
        }
    }

    fn clear(&mut self, at: ReaderPosition) {
        let key = at.key();
        self.0.remove(&key);
        set_gauge(key, false);
        tracing::warn!(reader = at.reader, stream = ?at.stream, position = at.position, "reader resumed");
    }

    /// Drops the stalls of partitions that another instance reads now.
    pub fn retain_partitions(&mut self, is_here: impl Fn(i64) -> bool) {
        self.0.retain(|key, _| {
            let is_kept = is_here(key.2);
            if !is_kept {
                set_gauge(*key, false);
            }
            is_kept
        });
    }

    /// True at each reload interval of a stalled reader.
    pub fn is_reload_due(&mut self, at: ReaderPosition) -> bool {
        match self.0.get_mut(&at.key()) {
            // A reader that only waits has a valid position.
            Some(stall) if !stall.reason.needs_progress() && stall.since_reload.elapsed() >= RELOAD_INTERVAL => {
                stall.since_reload = Stopwatch::start();
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use runtime::captured_log::CapturedLog;

    // F22: the alarm. A stall is logged once, however often the reader retries, and the gauge shows it until it ends.
    #[test]
    fn a_stall_is_logged_once_when_it_starts_and_once_when_it_ends() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = recorder.handle();
        let log = CapturedLog::default();
        let at =
            |position| ReaderPosition { reader: "stock", stream: StreamPartition { source: "orders", epoch: 1, partition: 3 }, position };
        let gauge = r#"onrush_reader_stopped{reader="stock",source="orders",partition="3"}"#;
        let mut stalls = Stalls::default();
        tracing::subscriber::with_default(log.subscriber(tracing::Level::INFO), || {
            metrics::with_local_recorder(&recorder, || {
                for _ in 0..20 {
                    stalls.report(at(7), StallReason::Source, "no answer");
                    // No failure, but nothing was read: no proof of recovery yet.
                    stalls.clear_if_recovered(at(7), false);
                }
                assert_eq!((log.count("reader stalled"), log.count("reader resumed")), (1, 0));
                assert!(metrics.render().contains(&format!("{gauge} 1")), "{}", metrics.render());
                stalls.report(at(7), StallReason::Gap, "number 8 is missing");
                assert_eq!(log.count("reader stalled"), 2, "the reason has changed");
                stalls.clear_if_recovered(at(9), true);
                stalls.clear_if_recovered(at(9), true);
                assert_eq!((log.count("reader stalled"), log.count("reader resumed")), (2, 1));
                assert!(metrics.render().contains(&format!("{gauge} 0")), "{}", metrics.render());
                stalls.report(at(9), StallReason::Gap, "number 10 is missing");
                stalls.retain_partitions(|partition| partition != 3);
                assert!(metrics.render().contains(&format!("{gauge} 0")), "another instance reports it now");
                assert!(stalls.0.is_empty());
                for _ in 0..20 {
                    stalls.report(at(9), StallReason::Lock, "the row is locked");
                    // Each try reads the message, but does not deliver it.
                    stalls.clear_if_recovered(at(9), true);
                }
                assert_eq!((log.count("reader stalled"), log.count("reader resumed")), (4, 1));
                assert!(metrics.render().contains(&format!("{gauge} 1")), "{}", metrics.render());
                stalls.on_progress(at(10));
                stalls.on_progress(at(11));
                assert_eq!((log.count("reader stalled"), log.count("reader resumed")), (4, 2));
                assert!(metrics.render().contains(&format!("{gauge} 0")), "{}", metrics.render());
            });
        });
    }
}
