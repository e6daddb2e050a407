//! The topics of a process: made, and looked at, before anything is published to them or read from them.
//!
//! Brokers may be away when a process starts. It starts all the same and goes on asking; until each of its topics is there, with the right
//! number of partitions, it publishes and reads nothing, so that no broker is led to make one by itself.

use super::{Cluster, KafkaError};
use crate::tasks::{self, Shutdown};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Between two tries: doubled from the first to the second, for a broker that restarts is soon back.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What somebody has to repair is looked at, and said, this often.
const REPAIR_PAUSE: Duration = Duration::from_secs(30);

/// Whether all topics of a process are there, as they must be. Clones share it; at first they are not.
#[derive(Clone, Debug, Default)]
pub struct Topics(Arc<AtomicBool>);

impl Topics {
    /// For who knows it from elsewhere.
    pub fn ready() -> Topics {
        Topics(Arc::new(AtomicBool::new(true)))
    }

    pub fn are_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Makes and checks the topics of these services. When no broker answers, that is done in the background until `shutdown`.
    ///
    /// # Errors
    /// What waiting does not mend, such as [`KafkaError::OtherPartitions`]. Found in the background it is said again and again, and the
    /// topics stay unready until it is repaired.
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
                tracing::warn!(reason, "Kafka does not answer: messages wait in the outbox tables, and nothing is read, until it does");
                set_unready_gauge(true);
                tasks::spawn("topics", required.ensure_in_background(self.clone(), shutdown.clone()));
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
    /// The first that fails decides: while brokers are away each would take its time.
    async fn ensure_all(&self) -> Result<(), KafkaError> {
        for service in &self.services {
            self.cluster.ensure_topic(service, self.partitions).await?;
        }
        Ok(())
    }

    async fn ensure_in_background(self, topics: Topics, mut shutdown: Shutdown) {
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
                    tracing::error!(%error, "a topic cannot be used: nothing is published or read here until it is repaired");
                    REPAIR_PAUSE
                }
            };
        }
        topics.0.store(true, Ordering::Release);
        set_unready_gauge(false);
        tracing::warn!("Kafka answers, and all topics are there: messages go on");
    }
}

fn set_unready_gauge(is_unready: bool) {
    metrics::gauge!("onrush_topics_unready").set(if is_unready { 1.0 } else { 0.0 });
}
