//! What keeps tables small: old keys, old messages and old delivery records go, a bounded number at a time.

use super::{Engine, Fault, Feed, Place, Stream, log, streams::Reader};
use crate::{idempotency, ports::Stopwatch};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// What is kept for hours or days need not go to the minute.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// How often it is measured how far readers are behind.
const LAG_EVERY: Duration = Duration::from_secs(5);
/// Rows dropped per table in one transaction; callers wait meanwhile. While more is left, each tick takes as many.
const DROPPED: i64 = 5_000;

impl Engine {
    /// Drops what is too old, when it is time to look, and reports how far readers are behind.
    pub(super) fn upkeep(&mut self) {
        self.report_lag();
        let now = self.clock.now();
        if now < self.upkeep_at {
            return;
        }
        let mut more = false;
        self.patience.begin();
        for service in self.services.clone() {
            let name = service.name();
            let pruned = self.attempt(
                async |engine: &mut Engine| {
                    let mut most = idempotency::prune(&mut engine.work.tx, name, now, DROPPED).await?;
                    for place in engine.places_of(name) {
                        let passed = engine.passed(place).await?;
                        most = most.max(log::prune(&mut engine.work.tx, place, passed, now, DROPPED).await?);
                    }
                    for place in engine.older_places_of(name).await? {
                        most = most.max(log::prune(&mut engine.work.tx, place, i64::MAX, now, DROPPED).await?);
                    }
                    for place in engine.places_read_by(name).await? {
                        most = most.max(log::prune_deliveries(&mut engine.work.tx, name, place, now, DROPPED).await?);
                    }
                    more |= most >= DROPPED.unsigned_abs();
                    Ok(())
                },
                &[],
            );
            if let Err(error) = pruned {
                tracing::error!(%error, service = name, "cannot drop old rows");
            }
        }
        if !more {
            self.upkeep_at = now.after(EVERY);
        }
    }

    /// Of numberings before this one. Nobody reads there any more; the last message stays there, too.
    async fn older_places_of(&mut self, source: &'static str) -> Result<Vec<Place>, Fault> {
        let Some(stream) = self.streams.get(source).copied() else { return Ok(Vec::new()) };
        let older = log::older_streams(&mut self.work.tx, source, stream.epoch).await?;
        let places = |stream: Stream| (0..stream.partitions).map(move |partition| Place { source, epoch: stream.epoch, partition });
        Ok(older.into_iter().flat_map(places).collect())
    }

    /// Where a service reads here, and where it did in numberings before.
    async fn places_read_by(&mut self, name: &'static str) -> Result<HashSet<Place>, Fault> {
        let mut places: HashSet<Place> =
            self.readers.iter().filter(|reader| reader.service.name() == name).map(|reader| reader.place).collect();
        let newest: HashMap<&'static str, Place> = places.iter().map(|place| (place.source, *place)).collect();
        for place in newest.into_values() {
            places.extend(log::older_places(&mut self.work.tx, name, place).await?);
        }
        Ok(places)
    }

    fn places_of(&self, source: &'static str) -> Vec<Place> {
        let Some(stream) = self.streams.get(source) else { return Vec::new() };
        (0..stream.partitions).map(|partition| Place { source, epoch: stream.epoch, partition }).collect()
    }

    /// How far readers are behind what is numbered; over Kafka, behind what the topics have.
    fn report_lag(&mut self) {
        if self.lag_looked.is_some_and(|looked| looked.elapsed() < LAG_EVERY) {
            return;
        }
        self.lag_looked = Some(Stopwatch::start());
        let mut lags: HashMap<(&'static str, &'static str), i64> = HashMap::new();
        for reader in &self.readers {
            if let Some(lag) = self.lag_of(reader) {
                *lags.entry((reader.service.name(), reader.place.source)).or_default() += lag.max(0);
            }
        }
        for ((reader, source), lag) in lags {
            metrics::gauge!("onrush_reader_lag", "reader" => reader, "source" => source).set(lag as f64);
        }
    }

    fn lag_of(&self, reader: &Reader) -> Option<i64> {
        let place = reader.place;
        let Some(lanes) = &self.lanes else { return Some(self.heads.get(place.source)? - reader.position.seq) };
        match &lanes.feed {
            Feed::Kafka { .. } => lanes.consumer.as_ref()?.behind(place.source, place.partition),
            // Whoever cannot be asked cannot be read either, and that is shown elsewhere.
            Feed::Tables(databases) => {
                let db = databases.get(place.source)?;
                let head = async { log::head(&mut *db.reader().await?, place.source, place.epoch, place.partition).await };
                Some(futures::executor::block_on(head).ok()? - reader.position.seq)
            }
        }
    }

    /// The last message of a partition that nobody needs any more: every reader, or the relay, has passed it.
    async fn passed(&mut self, place: Place) -> Result<i64, Fault> {
        let Some(lanes) = &self.lanes else {
            let readers = self.readers.iter().filter(|reader| reader.place == place);
            return Ok(readers.map(|reader| reader.kept).min().unwrap_or(i64::MAX));
        };
        match &lanes.feed {
            Feed::Tables(databases) => {
                let mut passed = i64::MAX;
                for (reader, db) in databases.iter().filter(|(reader, _)| lanes.reads(reader, place.source)) {
                    passed = passed.min(log::position(&mut *db.reader().await?, reader, place).await?.0);
                }
                Ok(passed)
            }
            Feed::Kafka { .. } => {
                let marks = log::relayed(&mut self.work.tx, place.source, place.epoch).await?;
                Ok(marks.get(&place.partition).copied().unwrap_or(0))
            }
        }
    }
}
