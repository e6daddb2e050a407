//! Logs of callers' requests, written before the requests are processed. Once the replicas have a request, it will be processed, even if
//! this process fails. The processing service reads the log like any stream, from the position in its own database.

use super::{Cluster, KafkaError, LoggedRequest, Producer, Topics};
use contracts::streams::Stream;
use runtime::{
    breaker::{Breaker, BreakerSettings},
    failpoints::crash_point,
    ports::Clock,
};
use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// Time that a caller waits for the replicas. A healthy cluster needs some milliseconds.
const ACK_TIMEOUT: Duration = Duration::from_secs(3);

/// Writes to the request logs. Cheap to clone. Connects on first use.
#[derive(Clone)]
pub struct RequestLogs(Arc<Inner>);

struct Inner {
    cluster: Cluster,
    partitions: i64,
    topics: Topics,
    producer: OnceLock<Producer>,
    breaker: Breaker,
}

impl RequestLogs {
    /// Logs have as many partitions as streams. Writing starts once the topics are ready.
    pub fn new(cluster: &Cluster, partitions: i64, topics: &Topics, clock: Arc<dyn Clock>) -> RequestLogs {
        let breaker = Breaker::new("kafka requests", BreakerSettings::default(), clock);
        RequestLogs(Arc::new(Inner {
            cluster: cluster.clone().ack_timeout(ACK_TIMEOUT),
            partitions,
            topics: topics.clone(),
            producer: OnceLock::new(),
            breaker,
        }))
    }

    /// Writes a request to the partition of its key. Returns when it is durable.
    ///
    /// # Errors
    /// The log may or may not hold the request. The caller must process it in another way, under the same id, so that a later reader
    /// finds it done. After several failures in a row this returns an error at once, for a while.
    pub async fn write(&self, log: &'static str, request: &LoggedRequest) -> Result<(), KafkaError> {
        if !self.0.topics.are_ready() {
            return Err(KafkaError::Unreachable("its topics are not checked yet".to_owned()));
        }
        let permit = self.0.breaker.acquire().map_err(|open| KafkaError::Unreachable(open.to_string()))?;
        let partition = Stream { epoch: 1, partitions: self.0.partitions }.partition_of(request.key);
        crash_point(&format!("{log}.before_write"));
        let written = match self.producer() {
            Ok(producer) => producer.append_request(log, partition, request).await,
            Err(error) => Err(error),
        };
        crash_point(&format!("{log}.after_write"));
        if written.is_ok() {
            permit.succeeded()
        } else {
            permit.failed()
        }
        written
    }

    fn producer(&self) -> Result<&Producer, KafkaError> {
        if let Some(producer) = self.0.producer.get() {
            return Ok(producer);
        }
        let new = self.0.cluster.producer()?;
        Ok(self.0.producer.get_or_init(|| new))
    }
}

impl fmt::Debug for RequestLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLogs").field("cluster", &self.0.cluster).finish_non_exhaustive()
    }
}
