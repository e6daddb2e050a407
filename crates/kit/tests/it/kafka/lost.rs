//! A consumer stops at a lost message and never skips it.

use crate::kafka::world::{World, is_silent, numbers, partition_error, read, read_records, record, records, until};
use kit::kafka::{Consumer, KafkaError};

#[track_caller]
fn assert_lost(error: &KafkaError, wanted: i64) {
    assert!(matches!(error, KafkaError::OffsetLost { service: "orders", partition: 0, offset, .. } if *offset == wanted), "{error}");
}

/// Asserts that the consumer still reports the loss after further messages.
async fn assert_stopped(world: &World, consumer: &mut Consumer, wanted: i64) {
    world.producer().unwrap().publish("orders", &[record(0, 1_000)]).await.unwrap();
    for _ in 0..5 {
        consumer.poll(std::time::Duration::from_millis(100)).unwrap();
        assert_lost(&consumer.peek("orders", 0, 500).unwrap_err(), wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_unread_messages_are_lost() {
    let world = World::with_orders().await;
    world.producer().unwrap().publish("orders", &records(0, 1, 100)).await.unwrap();
    world.forget_before("orders", 0, 50).await;
    let mut consumer = world.consumer().unwrap();
    // A new consumer, too, has missed messages.
    for (position, wanted) in [(None, 0), (Some(10), 11), (Some(48), 49)] {
        consumer.assign("orders", 0, position).unwrap();
        assert_lost(&partition_error(&mut consumer, 0), wanted);
    }
    assert_stopped(&world, &mut consumer, 49).await;
    // From the first remaining record on, nothing is missing.
    consumer.assign("orders", 0, Some(49)).unwrap();
    assert_eq!(numbers(&read_records(&mut consumer, 0, 50)), (51..=100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_past_the_end_is_lost() {
    let world = World::with_orders().await;
    world.producer().unwrap().publish("orders", &records(0, 1, 10)).await.unwrap();
    let mut consumer = world.consumer().unwrap();
    consumer.assign("orders", 0, Some(9)).unwrap();
    assert!(is_silent(&mut consumer, 0), "the end of the log is not a gap");
    consumer.assign("orders", 0, Some(10)).unwrap();
    assert_lost(&partition_error(&mut consumer, 0), 11);
    assert_stopped(&world, &mut consumer, 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_topic_is_lost() {
    let world = World::with_orders().await;
    world.producer().unwrap().publish("orders", &records(0, 1, 10)).await.unwrap();
    let mut consumer = world.consumer().unwrap();
    consumer.assign("orders", 0, None).unwrap();
    read(&mut consumer, 0, 10);
    world.drop_topic("orders").await;
    world.ensure_topic("orders", 4).await.unwrap();
    world.producer().unwrap().publish("orders", &records(0, 1, 5)).await.unwrap();
    assert_lost(&partition_error(&mut consumer, 0), 10);
    // After a decision to start again, the new topic can be read.
    consumer.assign("orders", 0, None).unwrap();
    assert_eq!(numbers(&read_records(&mut consumer, 0, 5)), [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_topic_a_position_is_lost() {
    let world = World::with_orders().await;
    world.producer().unwrap().publish("orders", &records(0, 1, 3)).await.unwrap();
    let mut running = world.consumer().unwrap();
    running.assign("orders", 0, None).unwrap();
    read(&mut running, 0, 3);
    world.drop_topic("orders").await;
    assert_lost(&partition_error(&mut running, 0), 3);

    let mut starting = world.consumer().unwrap();
    starting.assign("orders", 0, Some(2)).unwrap();
    assert_lost(&partition_error(&mut starting, 0), 3);
}

/// Processes start in any order, so a consumer may start before its topic exists.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_reader_waits_for_its_topic() {
    let mut world = World::empty();
    let mut consumer = world.consumer().unwrap();
    consumer.assign("orders", 0, None).unwrap();
    let missing = partition_error(&mut consumer, 0);
    assert!(matches!(&missing, KafkaError::NoTopic { topic } if *topic == world.topic("orders")), "{missing}");
    let missing = consumer.assign_latest("orders", 1).unwrap_err();
    assert!(matches!(missing, KafkaError::NoTopic { .. }), "{missing}");

    world.topic_of("orders", 2).await;
    world.producer().unwrap().publish("orders", &records(0, 1, 3)).await.unwrap();
    let first = until(&mut consumer, "message", |consumer| match consumer.peek("orders", 0, 10) {
        Ok(found) => found.first().map(kit::kafka::Arrival::offset),
        Err(KafkaError::NoTopic { .. }) => None,
        Err(error) => panic!("{error}"),
    });
    assert_eq!(first, 0);
    assert_eq!(numbers(&read_records(&mut consumer, 0, 3)), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_partition_is_reported() {
    let world = World::with_orders().await;
    let mut consumer = world.consumer().unwrap();
    consumer.assign("orders", 4, None).unwrap();
    assert!(matches!(partition_error(&mut consumer, 4), KafkaError::NoTopic { .. }));
    assert!(matches!(consumer.assign("orders", i64::MAX, None), Err(KafkaError::NoTopic { .. })));
    assert!(matches!(consumer.assign("orders", -1, None), Err(KafkaError::NoTopic { .. })));
}
