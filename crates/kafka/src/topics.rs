//! Creates and checks the topics of a process before it publishes or reads.
//!
//! Brokers may be away when a process starts. The process starts all the same and keeps trying. It publishes and reads nothing until each
//! of its topics exists with the right number of partitions. Otherwise a broker could create a topic by itself.

use super::{Cluster, KafkaError};
use futures::future::join_all;
use runtime::tasks::{self, Shutdown};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Pauses between two attempts. They double from the first to the longest, because a restarting broker is soon back.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Interval of checks and log lines for a problem that an operator must repair.
const REPAIR_PAUSE: Duration = Duration::from_secs(30);

/// Tells whether all topics of a process exist and are valid. Clones share the state, which is `false` at first.
#[derive(Clone, Debug, Default)]
pub struct Topics(Arc<AtomicBool>);

impl Topics {
    /// Topics that the caller knows to be ready.
    pub fn ready() -> Topics {
        Topics(Arc::new(AtomicBool::new(true)))
    }

    pub fn are_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Creates and checks the topics of these services. If no broker answers, a background task continues until `shutdown`.
    ///
    /// # Errors
    /// A problem that waiting does not repair, such as [`KafkaError::PartitionCountMismatch`]. The background task logs such a problem
    /// repeatedly, and the topics stay unready until it is repaired.
    pub async fn ensure(
        &self,
        cluster: &Cluster,
        services: Vec<&'static str>,
        partitions: i32,
        shutdown: &Shutdown,
    ) -> Result<(), KafkaError> {
        let required = RequiredTopics { cluster: cluster.clone(), services, partitions };
        match required.ensure_all().await {
            Ok(()) => self.0.store(true, Ordering::Release),
            Err(KafkaError::Unreachable(reason)) => {
                tracing::warn!(reason, "Kafka does not answer: messages wait in the outbox tables and readers wait until it does");
                set_unready_gauge(true);
                tasks::spawn_vital("topics", required.ensure_in_background(self.clone(), shutdown.clone()));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

struct RequiredTopics {
    cluster: Cluster,
    services: Vec<&'static str>,
    partitions: i32,
}

impl RequiredTopics {
    /// All topics concurrently, because each waits for the brokers several times. `Err`: an error that needs repair, if there is one,
    /// before unreachable brokers.
    async fn ensure_all(&self) -> Result<(), KafkaError> {
        let topics = self.services.iter().map(|service| self.cluster.ensure_topic(service, self.partitions));
        let errors = join_all(topics).await.into_iter().filter_map(Result::err);
        errors.min_by_key(|error| matches!(error, KafkaError::Unreachable(_))).map_or(Ok(()), Err)
    }

    async fn ensure_in_background(self, topics: Topics, shutdown: Shutdown) {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.stopping() => return,
            }
            pause = match self.ensure_all().await {
                Ok(()) => break,
                Err(KafkaError::Unreachable(_)) => LONGEST_PAUSE.min(pause * 2),
                Err(error) => {
                    tracing::error!(%error, "a topic cannot be used: publishing and reading stopped here until it is repaired");
                    REPAIR_PAUSE
                }
            };
        }
        topics.0.store(true, Ordering::Release);
        set_unready_gauge(false);
        tracing::warn!("Kafka answers and all topics are ready: publishing and reading resumed");
    }
}

fn set_unready_gauge(is_unready: bool) {
    metrics::gauge!("onrush_topics_unready").set(if is_unready { 1.0 } else { 0.0 });
}
