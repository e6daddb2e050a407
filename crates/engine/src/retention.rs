//! Retention: deletes old keys, messages and delivery records, a bounded number at a time. Also reports reader lag.

use super::{
    fault::Fault,
    idempotency, log,
    position::{Stream, StreamPartition},
    readers::Readers,
    setup::EngineSetup,
    transaction::Transaction,
    work::Work,
};
use contracts::Timestamp;
use db::Tx;
use runtime::ports::Stopwatch;
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// Interval of retention passes. Retention times are hours or days, so they need no precision.
const INTERVAL: Duration = Duration::from_secs(10 * 60);
/// Interval of lag reports.
const LAG_INTERVAL: Duration = Duration::from_secs(5);
/// Rows deleted from a table in one transaction. Bounded because callers wait meanwhile. While more rows are old, each tick deletes as
/// many.
const DROP_LIMIT: i64 = 5_000;

/// Schedule of retention passes and lag reports.
pub(super) struct Retention {
    /// Time of the next pass.
    next_at: Timestamp,
    /// Time since reader lag was last reported.
    since_lag_report: Option<Stopwatch>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { next_at: Timestamp(0), since_lag_report: None }
    }
}

impl Retention {
    /// Deletes old rows when a pass is due, and reports reader lag.
    pub fn apply(&mut self, setup: &EngineSetup, readers: &mut Readers, transaction: &mut Transaction) {
        self.report_lag(readers, transaction);
        let now = transaction.now();
        if now < self.next_at {
            return;
        }
        let mut has_more = false;
        transaction.lock_budget().refill();
        for service in setup.services.iter() {
            let pruned = prune(service.name(), now, readers, transaction, &mut has_more);
            if let Err(error) = pruned {
                tracing::error!(%error, service = service.name(), "retention failed");
            }
        }
        if !has_more {
            self.next_at = now.after(INTERVAL);
        }
    }

    /// Reports how many messages readers are behind.
    fn report_lag(&mut self, readers: &Readers, transaction: &Transaction) {
        if self.since_lag_report.is_some_and(|since| since.elapsed() < LAG_INTERVAL) {
            return;
        }
        self.since_lag_report = Some(Stopwatch::start());
        for ((reader, source), lag) in readers.lags(transaction.heads()) {
            metrics::gauge!("onrush_reader_lag", "reader" => reader, "source" => source).set(lag as f64);
        }
    }
}

/// Deletes a service's old rows in one transaction. Sets `has_more` when a table reached the limit.
fn prune(
    service: &'static str,
    now: Timestamp,
    readers: &mut Readers,
    transaction: &mut Transaction,
    has_more: &mut bool,
) -> Result<(), Fault> {
    let stream = transaction.stream(service);
    transaction.attempt(readers, &[], async |work: &mut Work, readers: &mut Readers| {
        let tx = &mut work.tx;
        let mut most = idempotency::prune(tx, service, now, DROP_LIMIT).await?;
        for partition in stream.into_iter().flat_map(|stream| partitions_of(service, stream)) {
            let passed = readers.passed_position(tx, partition).await?;
            most = most.max(log::prune(tx, partition, passed, now, DROP_LIMIT).await?);
        }
        for partition in older_partitions_of(tx, service, stream).await? {
            most = most.max(log::prune(tx, partition, i64::MAX, now, DROP_LIMIT).await?);
        }
        for partition in partitions_read_by(tx, service, readers).await? {
            most = most.max(log::prune_deliveries(tx, service, partition, now, DROP_LIMIT).await?);
        }
        *has_more |= most >= DROP_LIMIT.unsigned_abs();
        Ok(())
    })
}

fn partitions_of(source: &'static str, stream: Stream) -> impl Iterator<Item = StreamPartition> {
    (0..stream.partitions).map(move |partition| StreamPartition { source, epoch: stream.epoch, partition })
}

/// Partitions of earlier epochs. They have no readers, and their last message stays, too.
async fn older_partitions_of(tx: &mut Tx, source: &'static str, stream: Option<Stream>) -> Result<Vec<StreamPartition>, Fault> {
    let Some(stream) = stream else { return Ok(Vec::new()) };
    let older = log::older_streams(tx, source, stream.epoch).await?;
    Ok(older.into_iter().flat_map(|stream| partitions_of(source, stream)).collect())
}

/// Partitions that a service reads here, with those it read in earlier epochs.
async fn partitions_read_by(tx: &mut Tx, service: &'static str, readers: &Readers) -> Result<HashSet<StreamPartition>, Fault> {
    let mut partitions: HashSet<StreamPartition> = readers.of(service).map(|reader| reader.stream()).collect();
    let newest: HashMap<&'static str, StreamPartition> = partitions.iter().map(|partition| (partition.source, *partition)).collect();
    for partition in newest.into_values() {
        partitions.extend(log::older_partitions(tx, service, partition).await?);
    }
    Ok(partitions)
}
