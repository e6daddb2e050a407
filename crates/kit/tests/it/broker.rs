//! Changes to topics that happen outside the code under test.

use kit::kafka::Cluster;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use std::time::Duration;

/// Time limit. A correct run needs far less.
pub const BOUND: Duration = Duration::from_secs(30);

pub fn bootstrap() -> String {
    std::env::var("ONRUSH_TEST_KAFKA")
        .expect("ONRUSH_TEST_KAFKA is not set. These tests need a broker: run `./scripts/services run -- cargo test -p kit`")
}

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", bootstrap()).create().unwrap()
}

pub fn admin_options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(BOUND)).request_timeout(Some(BOUND))
}

/// Deletes the records before an offset, as retention would.
pub async fn forget_before(cluster: &Cluster, service: &str, partition: i32, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&cluster.topic(service), partition, Offset::Offset(offset)).unwrap();
    let done = admin().delete_records(&list, &admin_options()).await.unwrap();
    for element in done.elements() {
        element.error().unwrap();
    }
}

pub async fn drop_topic(cluster: &Cluster, service: &str) {
    let done = admin().delete_topics(&[&cluster.topic(service)], &admin_options()).await.unwrap();
    assert!(done.iter().all(Result::is_ok), "{done:?}");
}
