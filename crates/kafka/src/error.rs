use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};

/// Errors between this process and Kafka.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KafkaError {
    /// The settings are invalid.
    #[error("Kafka settings: {0}")]
    Settings(String),
    /// The brokers do not answer in time. A message in flight may or may not have been published. A retry may succeed.
    #[error("Kafka does not answer: {0}")]
    Unreachable(String),
    /// The topic or this partition of it does not exist. It may be created later.
    #[error("there is no topic {topic} with this partition")]
    NoTopic { topic: String },
    /// The topic has another number of partitions. With it keys would change partitions, and lose their order.
    #[error("topic {topic} has {found} partitions, not {wanted}")]
    PartitionCountMismatch { topic: String, found: i32, wanted: i32 },
    /// Kafka rejects this message, and will reject it again.
    #[error("topic {topic}, partition {partition}: message {seq} is refused: {reason}")]
    Refused { topic: String, partition: i64, seq: i64, reason: String },
    /// Kafka no longer holds the next message of a reader. The reader must stop and an operator must look into it. `offset` is the
    /// missing one. The error repeats until the partition is assigned again, which is safe to try.
    #[error("{service}, partition {partition}: offset {offset} is lost: {reason}")]
    OffsetLost { service: &'static str, partition: i64, offset: i64, reason: String },
    /// The partition is not assigned to this consumer.
    #[error("{service}, partition {partition}, is not assigned")]
    NotAssigned { service: &'static str, partition: i64 },
    /// Any other error, such as a missing permission.
    #[error("Kafka: {0}")]
    Client(ClientError),
}

impl From<ClientError> for KafkaError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::ClientConfig(..) => KafkaError::Settings(error.to_string()),
            ClientError::Canceled => KafkaError::Unreachable(error.to_string()),
            _ if error.rdkafka_error_code().is_some_and(is_transient) => KafkaError::Unreachable(error.to_string()),
            _ => KafkaError::Client(error),
        }
    }
}

/// Errors of the network, or of brokers that change roles. They pass by themselves.
pub(super) fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::MessageTimedOut
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            | Code::NetworkException
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::NotController
            | Code::PurgeQueue
            | Code::PurgeInflight
            | Code::QueueFull
    )
}

/// The brokers do not know the topic, or this partition of it.
pub(super) fn is_unknown_topic(code: Code) -> bool {
    matches!(code, Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::UnknownTopicId)
}
