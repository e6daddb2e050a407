//! Writes the client library's messages to our log, under the target `librdkafka`. The library retries by itself, so hardly any message
//! is worse than a warning. Callers that need the cluster get an error of their own.

use super::error::is_transient;
use parking_lot::Mutex;
use rdkafka::{ClientContext, Statistics, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError as ClientError};
use std::{collections::HashMap, sync::Arc};

#[derive(Default)]
pub(super) struct ClientLog {
    pub end_offsets: EndOffsets,
}

/// End offsets of partitions: the offset of the next message, as last reported by the brokers.
#[derive(Clone, Default)]
pub(super) struct EndOffsets(Arc<Mutex<HashMap<(String, i32), i64>>>);

impl EndOffsets {
    pub fn of(&self, topic: &str, partition: i32) -> Option<i64> {
        self.0.lock().get(&(topic.to_owned(), partition)).copied()
    }

    fn update(&self, statistics: Statistics) {
        let mut end_offsets = self.0.lock();
        for (topic, known) in statistics.topics {
            // Unknown offsets are negative.
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
            // Each producer says that a setting is experimental. We rely on that setting and test it.
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
        // During an outage this comes several times a second. The log line about the lost connection comes as well, and is rate limited.
        if error.rdkafka_error_code().is_some_and(is_transient) {
            tracing::debug!(target: "librdkafka", %error, "{reason}");
            return;
        }
        tracing::warn!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for ClientLog {}
