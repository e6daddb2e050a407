//! Streams over Kafka, for services in separate databases: topic `<prefix>.<service>`, partition = partition of the stream, one
//! CloudEvent for each message. Outside systems read the same topics.
//!
//! Content of a topic: a [`Producer`] writes in order and without gaps. Before each number of an (epoch, partition) the topic holds all
//! smaller ones. Repeats are normal. A publisher that is unsure publishes again, and two may do so at the same time. Readers drop repeats
//! by number.
//!
//! Positions of readers: Kafka stores none for us. A reader's position lies in its own database, and [`Consumer::assign`] starts right
//! after it. If Kafka no longer holds the next message, the reader gets [`KafkaError::OffsetLost`] and nothing more: it never skips. The
//! consumer cannot see one kind of loss: a topic that was recreated and has grown past the position. Then the next message has an
//! unexpected number. So readers must check that each number follows the one before.
//!
//! This crate knows no engine, no database and no message type, and joins no consumer group. It never decides when a position moves.

mod consumer;
mod error;
mod log;
mod producer;
mod requests;
mod topics;
mod wakeup;
mod wire;

pub use consumer::Consumer;
pub use error::KafkaError;
pub use producer::Producer;
pub use requests::RequestLogs;
pub use topics::Topics;
pub use wakeup::Waker;
pub use wire::{Arrival, LoggedRequest, Record};

use log::ClientLog;
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    config::{ClientConfig, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError as ClientError, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};
use std::time::Duration;

/// Timeout of one request to the cluster.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Time a producer waits for the next acknowledgement before it gives up.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);
/// Number and interval of checks for a new topic, because the brokers learn of it one after the other.
const TOPIC_POLLS: u32 = 50;
const TOPIC_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A week, like the outbox. A reader that is away for longer loses its position.
const RETENTION_MS: &str = "604800000";
/// Kafka's limit for the length of a topic name.
const MAX_TOPIC: usize = 249;

/// Addresses of the brokers and names of the topics. Connects to nothing by itself.
#[derive(Clone, Debug)]
pub struct Cluster {
    bootstrap: String,
    prefix: String,
    client_id: String,
    ack_timeout: Duration,
}

impl Cluster {
    /// `bootstrap` is a comma-separated list of `host:port`. `prefix` is the part before the dot in every topic name (`onrush`).
    ///
    /// # Errors
    /// [`KafkaError::Settings`]: one of them is invalid. This call does not use the network.
    pub fn new(bootstrap: &str, prefix: &str) -> Result<Cluster, KafkaError> {
        let is_address = |address: &str| {
            let Some((host, port)) = address.trim().rsplit_once(':') else { return false };
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        };
        if !bootstrap.split(',').all(is_address) {
            return Err(KafkaError::Settings(format!("{bootstrap:?} is not a list of host:port")));
        }
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if prefix.is_empty() || prefix.len() > MAX_TOPIC / 2 || !prefix.bytes().all(is_allowed) {
            return Err(KafkaError::Settings(format!("topics cannot be named {prefix:?}.<service>")));
        }
        Ok(Cluster { bootstrap: bootstrap.to_owned(), prefix: prefix.to_owned(), client_id: "onrush".to_owned(), ack_timeout: ACK_TIMEOUT })
    }

    /// The name of this process in the brokers' logs and quotas. Default: `onrush`.
    #[must_use]
    pub fn client_id(mut self, client_id: &str) -> Cluster {
        client_id.clone_into(&mut self.client_id);
        self
    }

    /// Time a producer waits for the next acknowledgement before it gives up. Default: 30 seconds.
    #[must_use]
    pub fn ack_timeout(mut self, ack_timeout: Duration) -> Cluster {
        self.ack_timeout = ack_timeout;
        self
    }

    /// The topic of a service's stream.
    pub fn topic(&self, service: &str) -> String {
        format!("{}.{service}", self.prefix)
    }

    /// Creates the topic of a service if it is missing, with the broker's default number of replicas. An existing topic stays unchanged.
    /// Call this before publishing or reading: brokers that create topics by themselves may choose another number of partitions.
    ///
    /// # Errors
    /// [`KafkaError::PartitionCountMismatch`]: it exists with another number of partitions. Others: the reason why it cannot be created or
    /// checked.
    pub async fn ensure_topic(&self, service: &str, partitions: i32) -> Result<(), KafkaError> {
        let topic = self.topic(service);
        // Created first and checked afterwards: a check alone could make a broker create the topic by itself.
        let made = self.create_topic(topic.clone(), partitions).await;
        if let Err(KafkaError::Unreachable(_) | KafkaError::Settings(_)) = made {
            return made;
        }
        for _ in 0..TOPIC_POLLS {
            match self.count_partitions(topic.clone()).await? {
                Some(found) if found == partitions => return Ok(()),
                Some(found) => return Err(KafkaError::PartitionCountMismatch { topic, found, wanted: partitions }),
                None if made.is_err() => return made,
                None => tokio::time::sleep(TOPIC_POLL_INTERVAL).await,
            }
        }
        Err(KafkaError::NoTopic { topic })
    }

    /// Removes the topics of these services with all their messages, at the end of a temporary mall.
    ///
    /// # Errors
    /// [`KafkaError::Unreachable`]: no broker answers. A missing topic is no error.
    pub async fn remove_topics(&self, services: &[&str]) -> Result<(), KafkaError> {
        let (config, topics) = (self.config(), services.iter().map(|service| self.topic(service)).collect::<Vec<_>>());
        run_blocking(move || {
            let admin: AdminClient<ClientLog> = config.create_with_context(ClientLog::default())?;
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT)).request_timeout(Some(REQUEST_TIMEOUT));
            futures::executor::block_on(admin.delete_topics(&topics, &options))?;
            Ok(())
        })
        .await
    }

    /// Checks that a broker answers.
    ///
    /// # Errors
    /// [`KafkaError::Unreachable`]: none answers within five seconds.
    pub async fn check(&self) -> Result<(), KafkaError> {
        self.count_partitions(self.topic("check")).await.map(|_| ())
    }

    /// A producer. It connects in the background.
    ///
    /// # Errors
    /// The client library cannot start (threads, memory).
    pub fn producer(&self) -> Result<Producer, KafkaError> {
        Producer::new(self)
    }

    /// A consumer with nothing assigned. It connects in the background.
    ///
    /// # Errors
    /// The client library cannot start (threads, memory).
    pub fn consumer(&self) -> Result<Consumer, KafkaError> {
        Consumer::new(self)
    }

    async fn create_topic(&self, topic: String, partitions: i32) -> Result<(), KafkaError> {
        let config = self.config();
        run_blocking(move || {
            let admin: AdminClient<ClientLog> = config.create_with_context(ClientLog::default())?;
            let new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(-1))
                // A compacted topic has gaps, and a gap stops a reader.
                .set("cleanup.policy", "delete")
                .set("retention.ms", RETENTION_MS)
                // By the time of arrival: Kafka must not drop a message at once because it was published late.
                .set("message.timestamp.type", "LogAppendTime");
            let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT)).request_timeout(Some(REQUEST_TIMEOUT));
            match futures::executor::block_on(admin.create_topics([&new], &options))?.pop() {
                None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
                Some(Err((_, code))) => Err(ClientError::AdminOp(code).into()),
            }
        })
        .await
    }

    /// `None`: the topic does not exist or is not ready yet.
    async fn count_partitions(&self, topic: String) -> Result<Option<i32>, KafkaError> {
        let config = self.reader_config();
        run_blocking(move || {
            // A client for this one request: a lasting client would need a thread that serves its queue.
            let client: BaseConsumer<ClientLog> = config.create_with_context(ClientLog::default())?;
            let answer = client.fetch_metadata(Some(&topic), REQUEST_TIMEOUT)?;
            let Some(found) = answer.topics().first() else { return Ok(None) };
            match found.error() {
                None => Ok(Some(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX))),
                Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART | RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) => {
                    Ok(None)
                }
                Some(error) => Err(ClientError::MetadataFetch(error.into()).into()),
            }
        })
        .await
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.client_id)
            .set("socket.keepalive.enable", "true")
            .set("socket.timeout.ms", "10000")
            .set("reconnect.backoff.max.ms", "2000")
            // Bounds the time until a created, deleted or moved topic is noticed.
            .set("topic.metadata.refresh.interval.ms", "5000")
            .set("topic.metadata.propagation.max.ms", "10000")
            // Sends the brokers no metrics about this process.
            .set("enable.metrics.push", "false")
            .set_log_level(RDKafkaLogLevel::Warning);
        config
    }

    fn reader_config(&self) -> ClientConfig {
        let mut config = self.config();
        config.set("allow.auto.create.topics", "false");
        config
    }
}

/// Runs blocking calls of the client library on a blocking thread.
async fn run_blocking<T: Send + 'static>(ask: impl FnOnce() -> Result<T, KafkaError> + Send + 'static) -> Result<T, KafkaError> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(answer) => answer,
        Err(error) => Err(KafkaError::Unreachable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_settings_are_refused() {
        for bootstrap in ["", "broker", "broker:", ":9092", "broker:0", "broker:http", "a:1,,b:2", "a:1,"] {
            assert!(matches!(Cluster::new(bootstrap, "onrush"), Err(KafkaError::Settings(_))), "{bootstrap:?}");
        }
        for prefix in ["", "on rush", "on/rush", "größe", &"x".repeat(200)] {
            assert!(matches!(Cluster::new("broker:9092", prefix), Err(KafkaError::Settings(_))), "{prefix:?}");
        }
        let cluster = Cluster::new("one:9092, [::1]:9093", "onrush").unwrap();
        assert_eq!(cluster.topic("orders"), "onrush.orders");
    }
}
