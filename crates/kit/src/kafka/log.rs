//! What the client library has to say, in our log, under the target `librdkafka`. It retries by itself, so that hardly anything it meets is
//! worse than a warning: who needs the cluster gets an error of his own.

use super::error::is_transient;
use rdkafka::{ClientContext, Statistics, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError as ClientError};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

#[derive(Default)]
pub(super) struct ClientLog {
    pub end_offsets: EndOffsets,
}

/// Where partitions end: the offset that comes next, as the brokers said last.
#[derive(Clone, Default)]
pub(super) struct EndOffsets(Arc<Mutex<HashMap<(String, i32), i64>>>);

impl EndOffsets {
    pub fn of(&self, topic: &str, partition: i32) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(topic.to_owned(), partition)).copied()
    }

    fn update(&self, statistics: Statistics) {
        let mut end_offsets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (topic, known) in statistics.topics {
            // What is not known yet is negative.
            let partitions = known.partitions.into_iter().filter(|(_, partition)| partition.hi_offset >= 0);
            end_offsets.extend(partitions.map(|(number, partition)| ((topic.clone(), number), partition.hi_offset)));
        }
    }
}

impl ClientContext for ClientLog {
    fn stats(&self, statistics: Statistics) {
        self.end_offsets.update(statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            // Said of each producer: that a setting we rely on, and test, is called experimental.
            _ if facility == "CONFWARN" => tracing::debug!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Notice => tracing::info!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: ClientError, reason: &str) {
        // During an outage this comes several times a second; the log line of the lost connection comes, too, and is kept rare.
        if error.rdkafka_error_code().is_some_and(is_transient) {
            tracing::debug!(target: "librdkafka", %error, "{reason}");
            return;
        }
        tracing::warn!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for ClientLog {}
