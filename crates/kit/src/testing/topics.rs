//! Topics for tests on a Kafka broker.

use crate::process::KafkaSettings;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use std::time::Duration;

/// How long the broker may take to remove them.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Topics with a prefix of their own, gone with the value.
#[derive(Debug)]
pub struct TestTopics {
    bootstrap: String,
    prefix: String,
}

impl TestTopics {
    /// Nothing is made yet: processes make the topics they need.
    pub fn new(bootstrap: &str, prefix: &str) -> TestTopics {
        TestTopics { bootstrap: bootstrap.to_owned(), prefix: prefix.to_owned() }
    }

    /// How a process is told of them.
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
    /// Failing that, the broker keeps topics nobody uses.
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
        // A thread of its own: whoever drops it may be inside a runtime.
        std::thread::scope(|scope| {
            scope.spawn(|| futures::executor::block_on(admin.delete_topics(&topics, &options)).is_ok());
        });
    }
}
