//! What keeps tables small: old keys, old messages and old delivery records go, a bounded number at a time.

use super::{Engine, Fault, MessageSource, Stream, StreamPartition, log, reader::StreamReader};
use crate::{idempotency, ports::Stopwatch};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// What is kept for hours or days need not go to the minute.
const INTERVAL: Duration = Duration::from_secs(10 * 60);
/// How often it is measured how far readers are behind.
const LAG_INTERVAL: Duration = Duration::from_secs(5);
/// Rows dropped per table in one transaction; callers wait meanwhile. While more is left, each tick takes as many.
const DROP_LIMIT: i64 = 5_000;

impl Engine {
    /// Drops what is too old, when it is time to look, and reports how far readers are behind.
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

    /// Of numberings before this one. Nobody reads there any more; the last message stays there, too.
    async fn older_partitions_of(&mut self, source: &'static str) -> Result<Vec<StreamPartition>, Fault> {
        let Some(stream) = self.streams.get(source).copied() else { return Ok(Vec::new()) };
        let older = log::older_streams(&mut self.work.tx, source, stream.epoch).await?;
        let partitions =
            |stream: Stream| (0..stream.partitions).map(move |partition| StreamPartition { source, epoch: stream.epoch, partition });
        Ok(older.into_iter().flat_map(partitions).collect())
    }

    /// Where a service reads here, and where it did in numberings before.
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

    /// How far readers are behind what is numbered; over Kafka, behind what the topics have.
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
            MessageSource::Kafka { .. } => assignment.consumer.as_ref()?.behind(partition.source, partition.partition),
            // Whoever cannot be asked cannot be read either, and that is shown elsewhere.
            MessageSource::Tables(databases) => {
                let db = databases.get(partition.source)?;
                let head = async { log::head(&mut *db.reader().await?, partition.source, partition.epoch, partition.partition).await };
                Some(futures::executor::block_on(head).ok()? - reader.position.seq)
            }
        }
    }

    /// The last message of a partition that nobody needs any more: every reader, or the relay, has passed it.
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
