//! Topics for tests on a Kafka broker.

use kit::process::KafkaSettings;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use std::time::Duration;

/// Maximum time for the broker to remove the topics.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Topics with a prefix of their own, removed with this value.
#[derive(Debug)]
pub struct TestTopics {
    bootstrap: String,
    prefix: String,
}

impl TestTopics {
    /// Creates nothing yet: processes create the topics they need.
    pub fn new(bootstrap: &str, prefix: &str) -> TestTopics {
        TestTopics { bootstrap: bootstrap.to_owned(), prefix: prefix.to_owned() }
    }

    /// The Kafka settings of a process that uses these topics.
    pub fn settings(&self) -> KafkaSettings {
        KafkaSettings { bootstrap: self.bootstrap.clone(), prefix: self.prefix.clone() }
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl Drop for TestTopics {
    /// If it fails, unused topics remain on the broker.
    fn drop(&mut self) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        let Ok(admin) = config.create::<AdminClient<DefaultClientContext>>() else { return };
        let topics: Vec<String> = contracts::SERVICES
            .iter()
            .chain(contracts::messages::REQUEST_LOGS)
            .map(|service| format!("{}.{service}", self.prefix))
            .collect();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
        // On a thread of its own, because the caller may be inside a runtime.
        std::thread::scope(|scope| {
            scope.spawn(|| futures::executor::block_on(admin.delete_topics(&topics, &options)).is_ok());
        });
    }
}
