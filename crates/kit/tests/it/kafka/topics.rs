use crate::kafka::world::{BOUND, World, admin_options};
use kit::{
    kafka::{Cluster, KafkaError, Topics},
    ports::Stopwatch,
    tasks,
};
use rdkafka::admin::ResourceSpecifier;
use std::{net::SocketAddr, time::Duration};
use testkit::CapturedLog;
use tokio::net::{TcpListener, TcpStream};

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_made_once() {
    let mut world = World::empty();
    world.topic_of("orders", 3).await;
    world.ensure_topic("orders", 3).await.unwrap();
    for wanted in [2, 4] {
        let refused = world.ensure_topic("orders", wanted).await.unwrap_err();
        let KafkaError::PartitionCountMismatch { topic, found: 3, wanted: told } = refused else { panic!("{refused}") };
        assert_eq!((topic, told), (world.topic("orders"), wanted));
    }
    world.ensure_topic("orders", 3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_may_be_created_concurrently() {
    let mut world = World::empty();
    let made = futures::future::join_all((0..4).map(|_| world.ensure_topic("orders", 4))).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    world.topic_of("orders", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_deletes_by_age_and_never_compacts() {
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
async fn a_failed_topic_creation_is_reported() {
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
    // This port was free a moment ago, so no broker listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = Cluster::new(&format!("127.0.0.1:{port}"), "onrush").unwrap();
    assert!(matches!(nobody.check().await, Err(KafkaError::Unreachable(_))));
    assert!(matches!(nobody.ensure_topic("orders", 1).await, Err(KafkaError::Unreachable(_))));
}

/// An address at which a broker answers later.
fn future_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// From now on, forwards this address to the broker.
async fn open_proxy(at: SocketAddr, bootstrap: String) {
    let listener = TcpListener::bind(at).await.unwrap();
    tasks::spawn("door to the broker", async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let bootstrap = bootstrap.clone();
            tasks::spawn("through the door", async move {
                if let Ok(mut broker) = TcpStream::connect(bootstrap).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
                }
            });
        }
    });
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let time = Stopwatch::start();
    while !is_so() {
        assert!(time.elapsed() < BOUND, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

// F17: no broker answers when the process starts. The outage and its end are logged once each.
#[tokio::test]
async fn topics_are_made_in_the_background_when_no_broker_answers() {
    let (mut world, at, log) = (World::empty(), future_address(), CapturedLog::default());
    let _listening = tracing::subscriber::set_default(log.subscriber(tracing::Level::INFO));
    let cluster = Cluster::new(&at.to_string(), world.topic("").trim_end_matches('.')).unwrap();
    let ((_trigger, shutdown), topics) = (tasks::shutdown(), Topics::default());
    topics.ensure(&cluster, vec!["orders", "stock"], 3, &shutdown).await.unwrap();
    assert!(!topics.are_ready());
    open_proxy(at, world.bootstrap.clone()).await;
    eventually("the topics are not made", || topics.are_ready()).await;
    world.topic_of("orders", 3).await;
    world.topic_of("stock", 3).await;
    assert_eq!((log.count("Kafka does not answer"), log.count("Kafka answers"), log.count("ERROR")), (1, 1, 0));
}

// F22: an error found in the background is logged, and nothing is read or published meanwhile
#[tokio::test]
async fn a_wrong_topic_found_in_the_background_is_an_error() {
    let (world, at, log) = (World::with_orders().await, future_address(), CapturedLog::default());
    let _listening = tracing::subscriber::set_default(log.subscriber(tracing::Level::INFO));
    let cluster = Cluster::new(&at.to_string(), world.topic("").trim_end_matches('.')).unwrap();
    let ((trigger, shutdown), topics) = (tasks::shutdown(), Topics::default());
    topics.ensure(&cluster, vec!["orders"], 5, &shutdown).await.unwrap();
    open_proxy(at, world.bootstrap.clone()).await;
    eventually("the error is not logged", || log.count("has 4 partitions, not 5") == 1).await;
    assert!(log.count("ERROR") == 1 && !topics.are_ready());
    trigger.stop();
    // If the broker answers at once, the error is returned at once.
    let refused = Topics::default().ensure(&world, vec!["orders"], 5, &shutdown).await.unwrap_err();
    assert!(matches!(refused, KafkaError::PartitionCountMismatch { .. }), "{refused}");
}
