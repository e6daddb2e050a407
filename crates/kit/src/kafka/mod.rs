//! Streams over Kafka, for services whose databases are apart: topic `<prefix>.<service>`, partition = partition of the stream, one
//! CloudEvent per message. Topics are also what outside systems read.
//!
//! What a topic holds. A [`Producer`] writes in order and never leaves one out: in front of each number of an (epoch, partition) stand all
//! smaller ones. Repeats are normal: whoever is unsure publishes again, and so may two at once. Readers drop what they have seen, by number.
//!
//! What a reader knows. Kafka keeps no position for us: a reader's lies in its own database, and [`Consumer::assign`] starts right behind
//! it. When Kafka no longer holds what comes next, the reader is told [`KafkaError::OffsetLost`] and gets nothing more: it never skips. One
//! loss cannot be seen from here: a topic that was made anew and has grown past the position meanwhile. Then the next message has another
//! number than the one expected, and whoever reads must check that each number follows the one before.
//!
//! This module knows no engine, no database and no type of message, and joins no consumer group.

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
pub use requests::Requests;
pub use topics::Topics;
pub use wakeup::Waker;
pub use wire::{Arrival, Record, Request};

use log::ClientLog;
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    config::{ClientConfig, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError as ClientError, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};
use std::time::Duration;

/// How long one question to the cluster may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a producer waits for the next acknowledgement before it gives up.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);
/// How often, and how far apart, to look for a topic that was just made: brokers learn of it one after the other.
const TOPIC_POLLS: u32 = 50;
const TOPIC_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A week, like the outbox. A reader that stays away longer than this loses its place.
const RETENTION_MS: &str = "604800000";
/// Kafka's own limit for the name of a topic.
const MAX_TOPIC: usize = 249;

/// Where the brokers are and how topics are named. Connects to nothing by itself.
#[derive(Clone, Debug)]
pub struct Cluster {
    bootstrap: String,
    prefix: String,
    client_id: String,
    ack_timeout: Duration,
}

impl Cluster {
    /// `bootstrap` is a comma-separated list of `host:port`; `prefix` stands before the dot in the name of every topic (`onrush`).
    ///
    /// # Errors
    /// [`KafkaError::Settings`] when either cannot be right. Nothing is asked over the network.
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

    /// The name brokers show for this process in their logs and quotas; `onrush` when not told.
    #[must_use]
    pub fn client_id(mut self, client_id: &str) -> Cluster {
        client_id.clone_into(&mut self.client_id);
        self
    }

    /// How long a producer waits for the next acknowledgement before it gives up; 30 seconds when not told.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Cluster {
        self.ack_timeout = patience;
        self
    }

    /// The topic of a service's stream.
    pub fn topic(&self, service: &str) -> String {
        format!("{}.{service}", self.prefix)
    }

    /// Makes the topic of a service when it is missing, with the broker's default of replicas. A topic that is there is left as it is.
    /// Call it before publishing or reading: brokers that make topics by themselves would make it with another number of partitions.
    ///
    /// # Errors
    /// [`KafkaError::OtherPartitions`] when it exists with another number of partitions; otherwise why it cannot be made or seen.
    pub async fn ensure_topic(&self, service: &str, partitions: i32) -> Result<(), KafkaError> {
        let topic = self.topic(service);
        // Asked first, a broker that makes topics by itself would make this one; so it is made first and looked at afterwards.
        let made = self.create_topic(topic.clone(), partitions).await;
        if let Err(KafkaError::Unreachable(_) | KafkaError::Settings(_)) = made {
            return made;
        }
        for _ in 0..TOPIC_POLLS {
            match self.count_partitions(topic.clone()).await? {
                Some(found) if found == partitions => return Ok(()),
                Some(found) => return Err(KafkaError::OtherPartitions { topic, found, wanted: partitions }),
                None if made.is_err() => return made,
                None => tokio::time::sleep(TOPIC_POLL_INTERVAL).await,
            }
        }
        Err(KafkaError::NoTopic { topic })
    }

    /// Removes the topics of these services, with all that is in them: the end of a mall that was made for a while.
    ///
    /// # Errors
    /// [`KafkaError::Unreachable`] when no broker answers. A topic that is not there is no error.
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

    /// Asks a broker something, to see that one answers.
    ///
    /// # Errors
    /// [`KafkaError::Unreachable`] when none does within five seconds.
    pub async fn check(&self) -> Result<(), KafkaError> {
        self.count_partitions(self.topic("check")).await.map(|_| ())
    }

    /// A producer; its connections are made in the background.
    ///
    /// # Errors
    /// When the client library cannot start (threads, memory).
    pub fn producer(&self) -> Result<Producer, KafkaError> {
        Producer::new(self)
    }

    /// A consumer with nothing assigned; its connections are made in the background.
    ///
    /// # Errors
    /// When the client library cannot start (threads, memory).
    pub fn consumer(&self) -> Result<Consumer, KafkaError> {
        Consumer::new(self)
    }

    async fn create_topic(&self, topic: String, partitions: i32) -> Result<(), KafkaError> {
        let config = self.config();
        run_blocking(move || {
            let admin: AdminClient<ClientLog> = config.create_with_context(ClientLog::default())?;
            let new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(-1))
                // A compacted topic has holes, and a hole stops a reader.
                .set("cleanup.policy", "delete")
                .set("retention.ms", RETENTION_MS)
                // By the time of arrival: a message published late must not be dropped at once for its age.
                .set("message.timestamp.type", "LogAppendTime");
            let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT)).request_timeout(Some(REQUEST_TIMEOUT));
            match futures::executor::block_on(admin.create_topics([&new], &options))?.pop() {
                None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
                Some(Err((_, code))) => Err(ClientError::AdminOp(code).into()),
            }
        })
        .await
    }

    /// None: there is no such topic, or it is not ready yet.
    async fn count_partitions(&self, topic: String) -> Result<Option<i32>, KafkaError> {
        let config = self.reader_config();
        run_blocking(move || {
            // A client for one question: one that stays would need someone to serve its queue.
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
            // Bounds how long a topic that was made, dropped or moved stays unnoticed.
            .set("topic.metadata.refresh.interval.ms", "5000")
            .set("topic.metadata.propagation.max.ms", "10000")
            // Tells the brokers nothing about this process that was not asked for.
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

/// The client library's calls of this module block.
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
    fn settings_that_cannot_be_right_are_refused() {
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
