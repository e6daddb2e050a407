//! Message sources: the outbox tables, or Kafka.

use super::{
    fault::Fault,
    log,
    position::{Stream, StreamPartition},
};
use db::Db;
use kafka::{Cluster, Consumer, Topics};
use std::collections::HashMap;

/// Source of messages for readers in other processes.
#[derive(Clone)]
pub enum MessageSource {
    /// The outbox tables of each service, in its database.
    Tables(HashMap<&'static str, Db>),
    /// One topic for each service, all with the same number of partitions. Nothing is read before the topics are ready.
    Kafka { cluster: Cluster, partitions: i64, topics: Topics },
}

impl MessageSource {
    /// The stream of a service. On Kafka the messages carry the epoch, so reading begins with epoch 1, that of a mall that was never
    /// moved. `None`: the stream does not exist yet.
    pub(super) async fn find_stream(&self, source: &str) -> Result<Option<Stream>, Fault> {
        match self {
            MessageSource::Tables(databases) => match databases.get(source) {
                Some(db) => Ok(log::find_stream(&mut *db.reader().await?, source).await?),
                None => Ok(None),
            },
            MessageSource::Kafka { topics, .. } if !topics.are_ready() => Ok(None),
            MessageSource::Kafka { partitions, .. } => Ok(Some(Stream { epoch: 1, partitions: *partitions })),
        }
    }

    /// True when this instance can read now.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            MessageSource::Tables(_) => true,
            MessageSource::Kafka { topics, .. } => topics.are_ready(),
        }
    }

    /// True when the stream's tables are in the reader's own database, so that its open connection can read them.
    pub(super) fn is_same_database(&self, reader: &str, source: &str) -> bool {
        match self {
            MessageSource::Tables(databases) => {
                databases.get(reader).zip(databases.get(source)).is_some_and(|(own, other)| own.is_same_as(other))
            }
            MessageSource::Kafka { .. } => false,
        }
    }

    /// Reads messages behind these positions from the stream's tables.
    pub(super) async fn read(
        &self,
        source: &str,
        from: &[(StreamPartition, i64)],
        data_sql: &str,
        limit: i64,
    ) -> Result<Vec<Vec<log::StoredMessage>>, Fault> {
        match self {
            MessageSource::Tables(databases) => match databases.get(source) {
                Some(db) => Ok(log::read(&mut *db.reader().await?, source, from, data_sql, limit).await?),
                None => Err(Fault::Source(format!("the database of {source} is not known here"))),
            },
            MessageSource::Kafka { .. } => Err(Fault::Bug("a Kafka message source without a consumer".into())),
        }
    }

    pub(super) fn open_consumer(&self) -> Result<Option<Consumer>, Fault> {
        match self {
            MessageSource::Tables(_) => Ok(None),
            MessageSource::Kafka { cluster, .. } => cluster.consumer().map(Some).map_err(kafka_fault),
        }
    }
}

pub(super) fn kafka_fault(error: kafka::KafkaError) -> Fault {
    Fault::Source(error.to_string())
}
