use crate::kafka::world::{World, numbers, read, read_records, record, records};
use contracts::Timestamp;
use kit::kafka::{Arrival, KafkaError, Record};
use rdkafka::{
    Message as _,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
    producer::{FutureProducer, FutureRecord},
};
use std::{collections::HashMap, time::Duration};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn published_messages_are_read_back() {
    let world = World::with_orders().await;
    let producer = world.producer().unwrap();
    producer.publish("orders", &[]).await.unwrap();
    let mut mixed: Vec<Record> = (1..=50).flat_map(|seq| (0..4).map(move |partition| record(partition, seq))).collect();
    mixed[7].data = format!(r#""{}""#, "원".repeat(100_000));
    producer.publish("orders", &mixed).await.unwrap();

    let mut consumer = world.consumer().unwrap();
    for partition in 0..4 {
        consumer.assign("orders", partition, None).unwrap();
    }
    for partition in 0..4 {
        let expected: Vec<Record> = mixed.iter().filter(|record| record.partition == partition).cloned().collect();
        let found = read(&mut consumer, partition, 50);
        let offsets: Vec<i64> = found.iter().map(Arrival::offset).collect();
        assert_eq!(offsets, (0..50).collect::<Vec<_>>());
        for (found, expected) in found.into_iter().zip(expected) {
            assert_eq!(found, Arrival::Record(expected.seq - 1, expected));
        }
    }
}

/// External data platforms read the topics with their own client and group.
#[tokio::test(flavor = "multi_thread")]
async fn an_outside_reader_sees_cloud_events() {
    let world = World::with_orders().await;
    let published = Record {
        epoch: 3,
        partition: 2,
        seq: 1,
        key: Uuid::from_u128(0xabc),
        kind: "order.placed".to_owned(),
        data: r#"{"amount":1000}"#.to_owned(),
        at: Timestamp(1_700_000_000_000_000),
        trace: Some(Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0001)),
    };
    world.producer().unwrap().publish("orders", &[published]).await.unwrap();

    let topic = world.topic("orders");
    let reader: BaseConsumer = world.outsider().set("group.id", &topic).set("auto.offset.reset", "earliest").create().unwrap();
    reader.subscribe(&[&topic]).unwrap();
    let message = (0..300).find_map(|_| reader.poll(Duration::from_millis(100))).expect("a message within 30 seconds").unwrap();
    assert_eq!((message.topic(), message.partition(), message.offset()), (topic.as_str(), 2, 0));
    assert_eq!(message.key(), Some(b"00000000-0000-0000-0000-000000000abc".as_slice()));
    assert_eq!(message.payload(), Some(br#"{"amount":1000}"#.as_slice()));
    let headers = message.headers().unwrap();
    let headers: HashMap<&str, &str> = headers.iter().map(|h| (h.key, std::str::from_utf8(h.value.unwrap()).unwrap())).collect();
    let expected = HashMap::from([
        ("ce_specversion", "1.0"),
        ("ce_id", "orders:3:2:1"),
        ("ce_source", "/onrush/orders"),
        ("ce_type", "order.placed"),
        ("ce_subject", "00000000-0000-0000-0000-000000000abc"),
        ("ce_time", "2023-11-14T22:13:20.000000Z"),
        ("ce_epoch", "3"),
        ("ce_sequence", "1"),
        ("content-type", "application/json"),
        ("traceparent", "00-01980000000070008000000000000001-0198000000007000-01"),
    ]);
    assert_eq!(headers, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_keep_their_order() {
    let world = World::with_orders().await;
    let mixed: Vec<Record> = (1..=5_000).flat_map(|seq| [record(0, seq), record(3, seq)]).collect();
    world.producer().unwrap().publish("orders", &mixed).await.unwrap();
    let mut consumer = world.consumer().unwrap();
    consumer.assign("orders", 0, None).unwrap();
    consumer.assign("orders", 3, None).unwrap();
    for partition in [0, 3] {
        assert_eq!(numbers(&read_records(&mut consumer, partition, 5_000)), (1..=5_000).collect::<Vec<_>>());
    }
}

/// A relay that crashes before it stores its mark publishes again.
#[tokio::test(flavor = "multi_thread")]
async fn messages_published_twice_are_read_twice() {
    let world = World::with_orders().await;
    for _ in 0..2 {
        world.producer().unwrap().publish("orders", &records(0, 1, 3)).await.unwrap();
    }
    let mut consumer = world.consumer().unwrap();
    consumer.assign("orders", 0, None).unwrap();
    let found = read_records(&mut consumer, 0, 6);
    assert_eq!(numbers(&found), [1, 2, 3, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_concurrent_relays_make_no_gap() {
    let world = World::with_orders().await;
    let (one, two) = (world.producer().unwrap(), world.producer().unwrap());
    let relay = async |producer: &kit::kafka::Producer| {
        for from in (1..=2_000).step_by(100) {
            producer.publish("orders", &records(1, from, from + 99)).await.unwrap();
        }
    };
    futures::join!(relay(&one), relay(&two));
    let mut consumer = world.consumer().unwrap();
    consumer.assign("orders", 1, None).unwrap();
    let found = numbers(&read_records(&mut consumer, 1, 4_000));
    let mut seen = 0;
    for number in &found {
        assert!(*number <= seen + 1, "{number} comes after {seen}");
        seen = seen.max(*number);
    }
    assert_eq!(seen, 2_000);
    for number in 1..=2_000 {
        assert_eq!(found.iter().filter(|found| **found == number).count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_large_is_refused_and_leaves_no_gap() {
    let world = World::with_orders().await;
    let producer = world.producer().unwrap();
    let mut some = records(0, 1, 5);
    some[3].data = "x".repeat(1_000_001);
    let refused = producer.publish("orders", &some).await.unwrap_err();
    assert!(matches!(refused, KafkaError::Refused { partition: 0, seq: 4, .. }), "{refused}");

    producer.publish("orders", &records(0, 1, 3)).await.unwrap();
    let mut consumer = world.consumer().unwrap();
    consumer.assign("orders", 0, None).unwrap();
    // The first attempt may have written a prefix.
    let mut found = Vec::new();
    while found.len() < 3 || found[found.len() - 3..] != [1, 2, 3] {
        found.extend(numbers(&read_records(&mut consumer, 0, 1)));
    }
    assert!(found.iter().all(|number| *number <= 3), "{found:?}");
    assert!(found.starts_with(&[1]), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_topic_or_partition_nothing_is_published() {
    let world = World::with_orders().await;
    let producer = world.producer().unwrap();
    let missing = producer.publish("coupons", &[record(0, 1)]).await.unwrap_err();
    assert!(matches!(&missing, KafkaError::NoTopic { topic } if *topic == world.topic("coupons")), "{missing}");
    let missing = producer.publish("orders", &[record(4, 1)]).await.unwrap_err();
    assert!(matches!(missing, KafkaError::NoTopic { .. }), "{missing}");
    // Kafka would choose a partition itself for -1.
    for nowhere in [-1, i64::from(i32::MAX) + 1] {
        let refused = producer.publish("orders", &[record(nowhere, 1)]).await.unwrap_err();
        assert!(matches!(refused, KafkaError::Refused { .. }), "{refused}");
    }
    producer.publish("orders", &[record(0, 1)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_records_are_reported_and_skipped() {
    let world = World::with_orders().await;
    let producer = world.producer().unwrap();
    let other: FutureProducer = world.outsider().create().unwrap();
    producer.publish("orders", &[record(0, 1)]).await.unwrap();
    let topic = world.topic("orders");
    let junk = FutureRecord::to(&topic).partition(0).key("somebody").payload("hello");
    other.send(junk, Duration::from_secs(30)).await.unwrap();
    producer.publish("orders", &[record(0, 2)]).await.unwrap();

    let mut consumer = world.consumer().unwrap();
    consumer.assign("orders", 0, None).unwrap();
    let found = read(&mut consumer, 0, 3);
    assert!(matches!(&found[0], Arrival::Record(0, record) if record.seq == 1));
    assert!(matches!(&found[2], Arrival::Record(2, record) if record.seq == 2));
    let Arrival::Foreign { offset: 1, reason, data } = &found[1] else { panic!("{:?}", found[1]) };
    assert_eq!(*reason, format!("{topic}, partition 0, offset 1: ce_specversion is missing"));
    assert_eq!(data, "hello");
}
