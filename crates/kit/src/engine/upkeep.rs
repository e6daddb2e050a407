//! What keeps tables small: old keys, old messages and old delivery records go, a bounded number at a time.

use super::{Engine, log};
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
            let head = self.heads.get(reader.source).copied().unwrap_or(0);
            metrics::gauge!("onrush_reader_lag", "reader" => reader.service.name(), "source" => reader.source)
                .set((head - reader.position) as f64);
        }
        let now = self.clock.now();
        if now < self.upkeep_at {
            return;
        }
        let mut more = false;
        for service in self.services.clone() {
            let name = service.name();
            let readers: Vec<&str> =
                self.readers.iter().filter(|reader| reader.source == name).map(|reader| reader.service.name()).collect();
            let pruned = self.attempt(
                async |engine: &mut Engine| {
                    let keys = idempotency::prune(&mut engine.work.tx, name, now, DROPPED).await?;
                    let messages = log::prune(&mut engine.work.tx, name, &readers, now, DROPPED).await?;
                    more |= keys.max(messages) >= DROPPED.unsigned_abs();
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
}
