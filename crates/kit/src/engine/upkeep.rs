//! What keeps tables small: old keys, old messages and old delivery records go, a bounded number at a time.

use super::{Engine, Fault, Feed, Place, log};
use crate::idempotency;
use std::time::Duration;

/// What is kept for hours or days need not go to the minute.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// Rows dropped per table in one transaction; callers wait meanwhile. While more is left, each tick takes as many.
const DROPPED: i64 = 5_000;

impl Engine {
    /// Drops what is too old, when it is time to look, and reports how far readers are behind.
    pub(super) fn upkeep(&mut self) {
        for reader in &self.readers {
            let head = self.heads.get(reader.place.source).copied().unwrap_or(reader.position);
            metrics::gauge!("onrush_reader_lag", "reader" => reader.service.name(), "source" => reader.place.source)
                .set((head - reader.position) as f64);
        }
        let now = self.clock.now();
        if now < self.upkeep_at {
            return;
        }
        let mut more = false;
        for service in self.services.clone() {
            let name = service.name();
            let pruned = self.attempt(
                async |engine: &mut Engine| {
                    let mut most = idempotency::prune(&mut engine.work.tx, name, now, DROPPED).await?;
                    for place in engine.places_of(name) {
                        let passed = engine.passed(place).await?;
                        most = most.max(log::prune(&mut engine.work.tx, place, passed, now, DROPPED).await?);
                    }
                    let read: Vec<Place> =
                        engine.readers.iter().filter(|reader| reader.service.name() == name).map(|reader| reader.place).collect();
                    for place in read {
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

    fn places_of(&self, source: &'static str) -> Vec<Place> {
        let Some(stream) = self.streams.get(source) else { return Vec::new() };
        (0..stream.partitions).map(|partition| Place { source, epoch: stream.epoch, partition }).collect()
    }

    /// The last message of a partition that nobody needs any more: every reader, or the relay, has passed it.
    async fn passed(&mut self, place: Place) -> Result<i64, Fault> {
        let Some(lanes) = &self.lanes else {
            let readers = self.readers.iter().filter(|reader| reader.place == place);
            return Ok(readers.map(|reader| reader.position).min().unwrap_or(i64::MAX));
        };
        match &lanes.feed {
            Feed::Tables(databases) => {
                let mut passed = i64::MAX;
                for (reader, db) in databases.iter().filter(|(reader, _)| lanes.reads(reader, place.source)) {
                    passed = passed.min(log::position(&mut *db.reader().await?, reader, place).await?.0);
                }
                Ok(passed)
            }
            Feed::Kafka { .. } => Ok(log::relayed(&mut self.work.tx, place).await?),
        }
    }
}
