//! Publishes a stream, in order and without gaps.
//!
//! A gap would appear if one message failed and a later one got through. So no message fails alone. Messages wait without a timeout in
//! the client library. When no acknowledgement comes for too long, or a message is refused, the producer discards the client with all its
//! waiting messages. The brokers then hold a beginning of them. The next client continues with the first unacknowledged message.

use super::{
    Cluster, KafkaError, LoggedRequest, Record,
    error::{is_transient, is_unknown_topic},
    log::ClientLog,
    wire,
};
use parking_lot::Mutex;
use rdkafka::{
    error::{KafkaError as ClientError, RDKafkaErrorCode},
    message::OwnedHeaders,
    producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _, PurgeConfig},
};
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// Messages that may wait in the client library, for all streams of a process. Faster publishers wait.
const QUEUED_MESSAGES: &str = "20000";
const QUEUED_KIB: &str = "65536";
/// Fits the default limit of a broker (1,048,588 including its own bytes). No request body comes near it.
const MAX_MESSAGE_BYTES: &str = "1000000";
/// Pause before the next attempt to enqueue, if other publishers have filled the queue.
const QUEUE_PAUSE: Duration = Duration::from_millis(10);

type ProducerClient = FutureProducer<ClientLog>;

/// Publishes to the topics of any service. Shared by reference. Several publishers may run at the same time, in no order among each
/// other.
pub struct Producer {
    cluster: Cluster,
    client: Mutex<Option<Arc<ProducerClient>>>,
}

impl Producer {
    pub(super) fn new(cluster: &Cluster) -> Result<Producer, KafkaError> {
        let client = create_client(cluster)?;
        Ok(Producer { cluster: cluster.clone(), client: Mutex::new(Some(Arc::new(client))) })
    }

    /// Publishes records in order, many at a time. Returns when all in-sync replicas have all of them. Needs a Tokio runtime. If this
    /// future is dropped, records already enqueued may still be published.
    ///
    /// # Errors
    /// The first record without an acknowledgement decides. [`KafkaError::Refused`] names it. [`KafkaError::NoTopic`]: the topic is
    /// missing. [`KafkaError::Unreachable`]: no acknowledgement came within the cluster's timeout. Some or all records may have been
    /// published, always a beginning of each partition: publish all again. Concurrent publishers then fail as unreachable, too.
    pub async fn publish(&self, service: &str, records: &[Record]) -> Result<(), KafkaError> {
        if records.is_empty() {
            return Ok(());
        }
        let client = self.client()?;
        let topic = self.cluster.topic(service);
        let published = self.publish_run(&client, &topic).publish_all(service, records).await;
        self.keep_or_discard(client, published)
    }

    /// Appends a caller's request to a log. Returns when all in-sync replicas have it. Until then it may or may not be there.
    ///
    /// # Errors
    /// As for [`publish`](Self::publish).
    pub async fn append_request(&self, log: &str, partition: i64, request: &LoggedRequest) -> Result<(), KafkaError> {
        let client = self.client()?;
        let topic = self.cluster.topic(log);
        let headers = wire::request_headers(log, request);
        let message = Outgoing { partition, seq: 0, key: request.key.to_string(), data: &request.data, headers };
        let published = self.publish_run(&client, &topic).publish_one(message).await;
        self.keep_or_discard(client, published)
    }

    fn publish_run<'p>(&self, client: &'p ProducerClient, topic: &'p str) -> PublishRun<'p> {
        PublishRun { client, topic, ack_timeout: self.cluster.ack_timeout, unacknowledged: VecDeque::new() }
    }

    fn keep_or_discard(&self, client: Arc<ProducerClient>, published: Result<(), KafkaError>) -> Result<(), KafkaError> {
        if published.is_err() {
            self.discard(&client);
        }
        if !self.is_current(&client) {
            // This may be the last reference, and dropping the client waits for its threads.
            drop(tokio::task::spawn_blocking(move || drop(client)));
        }
        published
    }

    fn client(&self) -> Result<Arc<ProducerClient>, KafkaError> {
        let mut slot = self.client.lock();
        if let Some(client) = &*slot {
            return Ok(client.clone());
        }
        let client = Arc::new(create_client(&self.cluster)?);
        *slot = Some(client.clone());
        Ok(client)
    }

    fn is_current(&self, client: &Arc<ProducerClient>) -> bool {
        let slot = self.client.lock();
        slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, client))
    }

    fn discard(&self, client: &Arc<ProducerClient>) {
        let mut slot = self.client.lock();
        slot.take_if(|current| Arc::ptr_eq(current, client));
        // Concurrent publishers on this client fail at once.
        client.purge(PurgeConfig::default().queue().inflight());
    }
}

fn create_client(cluster: &Cluster) -> Result<ProducerClient, KafkaError> {
    let mut config = cluster.config();
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        // A refused batch ends this client, so that no later batch passes it.
        .set("enable.gapless.guarantee", "true")
        // No timeout: a message that times out alone would leave a gap. `ack_timeout` bounds the wait for all of them.
        .set("delivery.timeout.ms", "0")
        .set("request.timeout.ms", "10000")
        .set("compression.type", "lz4")
        .set("linger.ms", "2")
        .set("queue.buffering.max.messages", QUEUED_MESSAGES)
        .set("queue.buffering.max.kbytes", QUEUED_KIB)
        .set("message.max.bytes", MAX_MESSAGE_BYTES);
    Ok(config.create_with_context(ClientLog::default())?)
}

/// A message to enqueue.
struct Outgoing<'m> {
    partition: i64,
    seq: i64,
    key: String,
    data: &'m str,
    headers: OwnedHeaders,
}

/// An enqueued message without an acknowledgement.
struct Unacknowledged {
    partition: i64,
    seq: i64,
    acknowledged: DeliveryFuture,
}

struct PublishRun<'p> {
    client: &'p ProducerClient,
    topic: &'p str,
    ack_timeout: Duration,
    unacknowledged: VecDeque<Unacknowledged>,
}

impl PublishRun<'_> {
    async fn publish_all(mut self, service: &str, records: &[Record]) -> Result<(), KafkaError> {
        for record in records {
            let headers = wire::headers(service, record);
            let Record { partition, seq, key, data, .. } = record;
            self.enqueue(Outgoing { partition: *partition, seq: *seq, key: key.to_string(), data, headers }).await?;
        }
        self.wait_for_all_acks().await
    }

    async fn publish_one(mut self, message: Outgoing<'_>) -> Result<(), KafkaError> {
        self.enqueue(message).await?;
        self.wait_for_all_acks().await
    }

    async fn wait_for_all_acks(mut self) -> Result<(), KafkaError> {
        while let Some(first) = self.unacknowledged.pop_front() {
            self.wait_for_ack(first).await?;
        }
        Ok(())
    }

    async fn enqueue(&mut self, outgoing: Outgoing<'_>) -> Result<(), KafkaError> {
        let Outgoing { partition, seq, key, data, headers } = outgoing;
        let number =
            wire::kafka_partition(partition).ok_or_else(|| self.refusal_of(partition, seq, "no partition has this number".to_owned()))?;
        let mut message = FutureRecord::to(self.topic).partition(number).key(&key).payload(data).headers(headers);
        let mut waited = Duration::ZERO;
        loop {
            match self.client.send_result(message) {
                Ok(acknowledged) => {
                    self.unacknowledged.push_back(Unacknowledged { partition, seq, acknowledged });
                    return Ok(());
                }
                Err((ClientError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    message = back;
                    match self.unacknowledged.pop_front() {
                        Some(first) => self.wait_for_ack(first).await?,
                        None if waited >= self.ack_timeout => return Err(KafkaError::Unreachable("the queue stays full".to_owned())),
                        None => {
                            tokio::time::sleep(QUEUE_PAUSE).await;
                            waited += QUEUE_PAUSE;
                        }
                    }
                }
                Err((error, _)) => return Err(self.error_of(partition, seq, error)),
            }
        }
    }

    async fn wait_for_ack(&self, unacknowledged: Unacknowledged) -> Result<(), KafkaError> {
        let Unacknowledged { partition, seq, acknowledged } = unacknowledged;
        match tokio::time::timeout(self.ack_timeout, acknowledged).await {
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err((error, _)))) => Err(self.error_of(partition, seq, error)),
            Ok(Err(_)) => Err(KafkaError::Unreachable("the client has ended".to_owned())),
            Err(_) => Err(KafkaError::Unreachable(format!("nothing was acknowledged for {} seconds", self.ack_timeout.as_secs()))),
        }
    }

    fn error_of(&self, partition: i64, seq: i64, error: ClientError) -> KafkaError {
        match error.rdkafka_error_code() {
            Some(code) if is_unknown_topic(code) => KafkaError::NoTopic { topic: self.topic.to_owned() },
            // The client ended because of another message.
            Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::GaplessGuarantee) => KafkaError::Unreachable(error.to_string()),
            Some(code) if is_transient(code) => KafkaError::Unreachable(error.to_string()),
            _ => self.refusal_of(partition, seq, error.to_string()),
        }
    }

    fn refusal_of(&self, partition: i64, seq: i64, reason: String) -> KafkaError {
        KafkaError::Refused { topic: self.topic.to_owned(), partition, seq, reason }
    }
}
