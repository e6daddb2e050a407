//! Test clusters, records to publish, and reads with a time limit.

use crate::broker;
use contracts::Timestamp;
use futures::executor::block_on;
use kit::{
    kafka::{Arrival, Cluster, Consumer, KafkaError, Producer, Record},
    ports::{Stopwatch, new_id},
};
use rdkafka::{ClientConfig, admin::AdminClient, client::DefaultClientContext, mocking::MockCluster, producer::DefaultProducerContext};
use std::{ops::Deref, time::Duration};
use uuid::Uuid;

/// The real broker with its own topic prefix. Drops its topics at the end.
pub struct World {
    pub bootstrap: String,
    cluster: Cluster,
    topics: Vec<String>,
}

impl Deref for World {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl World {
    /// Without topics.
    pub fn empty() -> World {
        let bootstrap = broker::bootstrap();
        let cluster = Cluster::new(&bootstrap, &format!("test-{}", new_id().simple())).unwrap();
        World { bootstrap, cluster, topics: Vec::new() }
    }

    /// With the topic `orders` of four partitions.
    pub async fn with_orders() -> World {
        let mut world = World::empty();
        world.topic_of("orders", 4).await;
        world
    }

    pub async fn topic_of(&mut self, service: &str, partitions: i32) {
        self.ensure_topic(service, partitions).await.unwrap();
        self.topics.push(self.topic(service));
    }

    /// A plain Kafka client, without our code.
    pub fn outsider(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.outsider().create().unwrap()
    }

    /// Deletes the records before an offset, as retention would.
    pub async fn forget_before(&self, service: &str, partition: i32, offset: i64) {
        broker::forget_before(self, service, partition, offset).await;
    }

    pub async fn drop_topic(&self, service: &str) {
        broker::drop_topic(self, service).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        if !topics.is_empty() {
            // The test may have dropped the topic itself.
            let _ = block_on(self.admin().delete_topics(&topics, &admin_options()));
        }
    }
}

pub use crate::broker::{BOUND, admin_options};

/// A mock of three brokers with the topic `onrush.orders` of four partitions. Its clients time out early.
pub fn mock() -> (MockCluster<'static, DefaultProducerContext>, Cluster) {
    let mock = MockCluster::new(3).unwrap();
    mock.create_topic("onrush.orders", 4, 3).unwrap();
    let cluster = Cluster::new(&mock.bootstrap_servers(), "onrush").unwrap().ack_timeout(Duration::from_secs(2));
    (mock, cluster)
}

pub fn record(partition: i64, seq: i64) -> Record {
    Record {
        epoch: 1,
        partition,
        seq,
        key: Uuid::from_u128(seq.unsigned_abs().into()),
        kind: "order.placed".to_owned(),
        data: format!(r#"{{"number":{seq}}}"#),
        at: Timestamp(1_700_000_000_000_000 + seq),
        trace: (seq % 2 == 0).then(new_id),
    }
}

/// Records `from` to `to` of a partition.
pub fn records(partition: i64, from: i64, to: i64) -> Vec<Record> {
    (from..=to).map(|seq| record(partition, seq)).collect()
}

/// Publishes as a relay does: repeats until it succeeds.
pub async fn publish(producer: &Producer, service: &str, records: &[Record]) {
    let published = async {
        while let Err(failed) = producer.publish(service, records).await {
            assert!(matches!(failed, KafkaError::Unreachable(_)), "{failed}");
        }
    };
    tokio::time::timeout(BOUND, published).await.expect("published within 30 seconds");
}

/// Polls until `done` returns a value.
#[track_caller]
pub fn until<T>(consumer: &mut Consumer, what: &str, mut done: impl FnMut(&mut Consumer) -> Option<T>) -> T {
    let waiting = Stopwatch::start();
    loop {
        if let Some(found) = done(consumer) {
            return found;
        }
        assert!(waiting.elapsed() < BOUND, "no {what} within {BOUND:?}");
        consumer.poll(Duration::from_millis(200)).unwrap();
    }
}

/// Reads and settles `count` more records of a partition.
#[track_caller]
pub fn read(consumer: &mut Consumer, partition: i64, count: usize) -> Vec<Arrival> {
    let mut read = Vec::new();
    until(consumer, &format!("{count} messages in partition {partition}"), |consumer| {
        loop {
            let found = consumer.peek("orders", partition, 500.min(count - read.len())).unwrap().to_vec();
            let Some(last) = found.last() else { break };
            consumer.advance_past("orders", partition, last.offset());
            read.extend(found);
        }
        (read.len() == count).then_some(())
    });
    read
}

/// Reads records without their offsets.
#[track_caller]
pub fn read_records(consumer: &mut Consumer, partition: i64, count: usize) -> Vec<Record> {
    let ours = |arrival| match arrival {
        Arrival::Record(_, record) => record,
        Arrival::Foreign { reason, .. } => panic!("{reason}"),
    };
    read(consumer, partition, count).into_iter().map(ours).collect()
}

pub fn numbers(records: &[Record]) -> Vec<i64> {
    records.iter().map(|record| record.seq).collect()
}

/// The error that a partition reports.
#[track_caller]
pub fn partition_error(consumer: &mut Consumer, partition: i64) -> KafkaError {
    until(consumer, "error", |consumer| match consumer.peek("orders", partition, 500) {
        Ok([]) => None,
        Ok(found) => panic!("{found:?}"),
        Err(error) => Some(error),
    })
}

/// True: no further record arrives.
pub fn is_silent(consumer: &mut Consumer, partition: i64) -> bool {
    consumer.poll(Duration::from_millis(500)).unwrap();
    consumer.peek("orders", partition, 1).unwrap().is_empty()
}
