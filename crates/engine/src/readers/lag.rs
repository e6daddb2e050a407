//! Distances between readers and the ends of their streams, for lag reports and retention.

use super::{
    super::{fault::Fault, log, position::StreamPartition, source::MessageSource},
    Readers, StreamReader,
};
use db::Tx;
use std::collections::HashMap;

impl Readers {
    /// Number of messages each service is behind in each stream: behind the numbered messages, or behind the topics on Kafka.
    pub fn lags(&self, heads: &HashMap<&'static str, i64>) -> HashMap<(&'static str, &'static str), i64> {
        let mut lags = HashMap::new();
        for reader in &self.list {
            if let Some(lag) = self.lag_of(reader, heads) {
                *lags.entry((reader.name(), reader.stream().source)).or_default() += lag.max(0);
            }
        }
        lags
    }

    fn lag_of(&self, reader: &StreamReader, heads: &HashMap<&'static str, i64>) -> Option<i64> {
        let (stream, position) = (reader.stream(), reader.position().seq);
        let Some(assignment) = &self.assignment else { return Some(heads.get(stream.source)? - position) };
        match &assignment.message_source {
            MessageSource::Kafka { .. } => assignment.behind(stream),
            // No lag is reported for a database that does not answer: its readers are stalled, and the stall is reported.
            MessageSource::Tables(databases) => {
                let db = databases.get(stream.source)?;
                let head = async { log::head(&mut *db.reader().await?, stream.source, stream.epoch, stream.partition).await };
                Some(futures::executor::block_on(head).ok()? - position)
            }
        }
    }

    /// The last message of a partition that every reader, or the relay, has passed.
    pub async fn passed_position(&self, tx: &mut Tx, partition: StreamPartition) -> Result<i64, Fault> {
        let Some(assignment) = &self.assignment else {
            let readers = self.list.iter().filter(|reader| reader.stream() == partition);
            return Ok(readers.map(StreamReader::stored_position).min().unwrap_or(i64::MAX));
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
                let relayed = log::relayed_positions(tx, partition.source, partition.epoch).await?;
                Ok(relayed.get(&partition.partition).copied().unwrap_or(0))
            }
        }
    }
}
