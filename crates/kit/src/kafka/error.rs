use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};

/// What can go wrong between us and Kafka.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KafkaError {
    /// The settings cannot be right.
    #[error("Kafka settings: {0}")]
    Settings(String),
    /// No broker answers, or not in time. What was being published may be there or not. It may work the next time.
    #[error("Kafka does not answer: {0}")]
    Unreachable(String),
    /// There is no such topic, or no such partition of it. It may yet be made.
    #[error("there is no topic {topic} with this partition")]
    NoTopic { topic: String },
    /// The topic was made with another number of partitions: keys would move, and their order with them.
    #[error("topic {topic} has {found} partitions, not {wanted}")]
    OtherPartitions { topic: String, found: i32, wanted: i32 },
    /// A message that Kafka does not take. The same message will be refused again.
    #[error("topic {topic}, partition {partition}: message {seq} is refused: {reason}")]
    Refused { topic: String, partition: i64, seq: i64, reason: String },
    /// Kafka does not hold what comes next for a reader: the reader must stop and someone must look.
    /// `offset` is the one that should have come next. The same answer is given until the partition is assigned anew, which is safe to try.
    #[error("{service}, partition {partition}: offset {offset} is lost: {reason}")]
    OffsetLost { service: &'static str, partition: i64, offset: i64, reason: String },
    /// Asked for a partition that is not assigned.
    #[error("{service}, partition {partition}, is not assigned")]
    NotAssigned { service: &'static str, partition: i64 },
    /// Anything else, such as a missing permission.
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

/// Errors of the way to the brokers, or of brokers that are just changing: gone the next time.
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

/// The topic, or this partition of it, is not known to the brokers.
pub(super) fn is_unknown_topic(code: Code) -> bool {
    matches!(code, Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::UnknownTopicId)
}
