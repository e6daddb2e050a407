use crate::world::{World, admin_options};
use kit::kafka::{Cluster, KafkaError};
use rdkafka::admin::ResourceSpecifier;

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_made_once() {
    let mut world = World::empty();
    world.topic_of("orders", 3).await;
    world.ensure_topic("orders", 3).await.unwrap();
    for wanted in [2, 4] {
        let refused = world.ensure_topic("orders", wanted).await.unwrap_err();
        let KafkaError::OtherPartitions { topic, found: 3, wanted: told } = refused else { panic!("{refused}") };
        assert_eq!((topic, told), (world.topic("orders"), wanted));
    }
    world.ensure_topic("orders", 3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_may_make_it_at_once() {
    let mut world = World::empty();
    let made = futures::future::join_all((0..4).map(|_| world.ensure_topic("orders", 4))).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    world.topic_of("orders", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_drops_by_age_since_arrival_and_never_by_key() {
    let world = World::with_orders().await;
    let topic = world.topic("orders");
    let admin = world.admin();
    let found = admin.describe_configs([&ResourceSpecifier::Topic(&topic)], &admin_options()).await.unwrap().remove(0).unwrap();
    let setting = |name: &str| found.get(name).and_then(|entry| entry.value.clone()).unwrap();
    assert_eq!(setting("cleanup.policy"), "delete");
    assert_eq!(setting("message.timestamp.type"), "LogAppendTime");
    assert_eq!(setting("retention.ms"), (7 * 24 * 3_600 * 1_000).to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_cannot_be_made_is_told() {
    let world = World::empty();
    for partitions in [0, -5] {
        let refused = world.ensure_topic("orders", partitions).await.unwrap_err();
        assert!(matches!(refused, KafkaError::Client(_)), "{refused:?}");
    }
    let refused = world.ensure_topic("no such name", 1).await.unwrap_err();
    assert!(matches!(refused, KafkaError::Client(_)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_whether_a_broker_answers() {
    World::empty().check().await.unwrap();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = Cluster::new(&format!("127.0.0.1:{port}"), "onrush").unwrap();
    assert!(matches!(nobody.check().await, Err(KafkaError::Unreachable(_))));
    assert!(matches!(nobody.ensure_topic("orders", 1).await, Err(KafkaError::Unreachable(_))));
}
