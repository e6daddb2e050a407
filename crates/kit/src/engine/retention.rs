//! Retention: deletes old keys, messages and delivery records, a bounded number at a time. Also reports reader lag.

use super::{Engine, Fault, MessageSource, Stream, StreamPartition, log, reader::StreamReader};
use crate::{idempotency, ports::Stopwatch};
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

impl Engine {
    /// Deletes old rows when a pass is due, and reports reader lag.
    pub(super) fn apply_retention(&mut self) {
        self.report_lag();
        let now = self.clock.now();
        if now < self.next_retention_at {
            return;
        }
        let mut has_more = false;
        self.lock_budget.refill();
        for service in self.services.clone() {
            let name = service.name();
            let pruned = self.attempt(
                async |engine: &mut Engine| {
                    let mut most = idempotency::prune(&mut engine.work.tx, name, now, DROP_LIMIT).await?;
                    for partition in engine.partitions_of(name) {
                        let passed = engine.passed_position(partition).await?;
                        most = most.max(log::prune(&mut engine.work.tx, partition, passed, now, DROP_LIMIT).await?);
                    }
                    for partition in engine.older_partitions_of(name).await? {
                        most = most.max(log::prune(&mut engine.work.tx, partition, i64::MAX, now, DROP_LIMIT).await?);
                    }
                    for partition in engine.partitions_read_by(name).await? {
                        most = most.max(log::prune_deliveries(&mut engine.work.tx, name, partition, now, DROP_LIMIT).await?);
                    }
                    has_more |= most >= DROP_LIMIT.unsigned_abs();
                    Ok(())
                },
                &[],
            );
            if let Err(error) = pruned {
                tracing::error!(%error, service = name, "retention failed");
            }
        }
        if !has_more {
            self.next_retention_at = now.after(INTERVAL);
        }
    }

    /// Partitions of earlier epochs. They have no readers, and their last message stays, too.
    async fn older_partitions_of(&mut self, source: &'static str) -> Result<Vec<StreamPartition>, Fault> {
        let Some(stream) = self.streams.get(source).copied() else { return Ok(Vec::new()) };
        let older = log::older_streams(&mut self.work.tx, source, stream.epoch).await?;
        let partitions =
            |stream: Stream| (0..stream.partitions).map(move |partition| StreamPartition { source, epoch: stream.epoch, partition });
        Ok(older.into_iter().flat_map(partitions).collect())
    }

    /// Partitions that a service reads here, with those it read in earlier epochs.
    async fn partitions_read_by(&mut self, name: &'static str) -> Result<HashSet<StreamPartition>, Fault> {
        let mut partitions: HashSet<StreamPartition> =
            self.readers.iter().filter(|reader| reader.service.name() == name).map(|reader| reader.stream).collect();
        let newest: HashMap<&'static str, StreamPartition> = partitions.iter().map(|partition| (partition.source, *partition)).collect();
        for partition in newest.into_values() {
            partitions.extend(log::older_partitions(&mut self.work.tx, name, partition).await?);
        }
        Ok(partitions)
    }

    fn partitions_of(&self, source: &'static str) -> Vec<StreamPartition> {
        let Some(stream) = self.streams.get(source) else { return Vec::new() };
        (0..stream.partitions).map(|partition| StreamPartition { source, epoch: stream.epoch, partition }).collect()
    }

    /// Reports how many messages readers are behind: behind the numbered messages, or behind the topics on Kafka.
    fn report_lag(&mut self) {
        if self.since_lag_report.is_some_and(|since| since.elapsed() < LAG_INTERVAL) {
            return;
        }
        self.since_lag_report = Some(Stopwatch::start());
        let mut lags: HashMap<(&'static str, &'static str), i64> = HashMap::new();
        for reader in &self.readers {
            if let Some(lag) = self.lag_of(reader) {
                *lags.entry((reader.service.name(), reader.stream.source)).or_default() += lag.max(0);
            }
        }
        for ((reader, source), lag) in lags {
            metrics::gauge!("onrush_reader_lag", "reader" => reader, "source" => source).set(lag as f64);
        }
    }

    fn lag_of(&self, reader: &StreamReader) -> Option<i64> {
        let partition = reader.stream;
        let Some(assignment) = &self.assignment else { return Some(self.heads.get(partition.source)? - reader.position.seq) };
        match &assignment.message_source {
            MessageSource::Kafka { .. } => assignment.consumer.as_ref()?.lag(partition.source, partition.partition),
            // No lag is reported for a database that does not answer: its readers are stalled, and the stall is reported.
            MessageSource::Tables(databases) => {
                let db = databases.get(partition.source)?;
                let head = async { log::head(&mut *db.reader().await?, partition.source, partition.epoch, partition.partition).await };
                Some(futures::executor::block_on(head).ok()? - reader.position.seq)
            }
        }
    }

    /// The last message of a partition that every reader, or the relay, has passed.
    async fn passed_position(&mut self, partition: StreamPartition) -> Result<i64, Fault> {
        let Some(assignment) = &self.assignment else {
            let readers = self.readers.iter().filter(|reader| reader.stream == partition);
            return Ok(readers.map(|reader| reader.stored_position).min().unwrap_or(i64::MAX));
        };
        match &assignment.message_source {
            MessageSource::Tables(databases) => {
                let mut passed = i64::MAX;
                for (reader, db) in databases.iter().filter(|(reader, _)| assignment.is_read_by(reader, partition.source)) {
                    passed = passed.min(log::read_position(&mut *db.reader().await?, reader, partition).await?.0);
                }
                Ok(passed)
            }
            MessageSource::Kafka { .. } => {
                let relayed = log::relayed_positions(&mut self.work.tx, partition.source, partition.epoch).await?;
                Ok(relayed.get(&partition.partition).copied().unwrap_or(0))
            }
        }
    }
}
