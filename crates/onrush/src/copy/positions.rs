//! Positions of streams and their readers, which show the messages under way between services.

use super::{CopyError, MallDatabase, databases::open_snapshot};
use crate::documents::subscriptions;
use kit::Tx;
use std::collections::BTreeMap;

/// Ends of streams, positions of readers, and messages without a number. If two values are equal, no message moved in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamPositions {
    /// (source, epoch, partition) → last number.
    heads: BTreeMap<(String, i64, i64), i64>,
    /// (reader, source, epoch, partition) → last number read.
    positions: BTreeMap<(String, String, i64, i64), i64>,
    pending: i64,
}

impl StreamPositions {
    /// Adds the streams and positions of these services.
    pub async fn add(&mut self, tx: &mut Tx, services: &[&'static str]) -> Result<(), CopyError> {
        for service in services {
            let sql = format!("select epoch, partition, max(seq) from {service}_outbox group by epoch, partition");
            for (epoch, partition, head) in tx.query::<(i64, i64, i64)>(&sql, &[]).await? {
                self.heads.insert(((*service).to_owned(), epoch, partition), head);
            }
            let sql = format!("select source, epoch, partition, seq from {service}_positions");
            for (source, epoch, partition, seq) in tx.query::<(String, i64, i64, i64)>(&sql, &[]).await? {
                self.positions.insert(((*service).to_owned(), source, epoch, partition), seq);
            }
            if tx.is_postgres() {
                let (pending,): (i64,) = tx.query_one(&format!("select count(*) from {service}_pending"), &[]).await?;
                self.pending += pending;
            }
        }
        Ok(())
    }

    /// Reads the current positions of a whole mall.
    pub async fn of(databases: &[MallDatabase]) -> Result<StreamPositions, CopyError> {
        let mut positions = StreamPositions::default();
        for database in databases {
            let mut tx = open_snapshot(&database.db).await?;
            positions.add(&mut tx, &database.services).await?;
            tx.finish().await?;
        }
        Ok(positions)
    }

    /// Number of unread messages. Each message counts once for each of its readers.
    pub fn undelivered(&self) -> i64 {
        let mut undelivered = self.pending;
        for (reader, source, _) in subscriptions() {
            for ((_, epoch, partition), head) in self.heads.iter().filter(|((name, ..), _)| name == source) {
                let place = (reader.to_owned(), source.to_owned(), *epoch, *partition);
                undelivered += (head - self.positions.get(&place).copied().unwrap_or(0)).max(0);
            }
        }
        undelivered
    }
}
