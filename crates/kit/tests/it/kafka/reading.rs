use crate::kafka::world::{BOUND, World, is_silent, numbers, read, read_records, record, records, until};
use kit::kafka::{Arrival, KafkaError};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_resumes_after_its_position() {
    let world = World::with_orders().await;
    let producer = world.producer().unwrap();
    producer.publish("orders", &records(0, 1, 1_000)).await.unwrap();
    let mut consumer = world.consumer().unwrap();
    consumer.assign("orders", 0, None).unwrap();
    let position = read(&mut consumer, 0, 637).last().unwrap().offset();
    drop(consumer);

    let mut consumer = world.consumer().unwrap();
    consumer.assign("orders", 0, Some(position)).unwrap();
    assert_eq!(numbers(&read_records(&mut consumer, 0, 363)), (638..=1_000).collect::<Vec<_>>());
    // Moves back and forth in one consumer, with more records fetched than taken.
    for position in [4, 999, 0, 700, 12] {
        consumer.assign("orders", 0, Some(position)).unwrap();
        if position < 999 {
            let found = read(&mut consumer, 0, 3);
            let offsets: Vec<i64> = found.iter().map(Arrival::offset).collect();
            assert_eq!(offsets, [position + 1, position + 2, position + 3]);
        } else {
            assert!(is_silent(&mut consumer, 0));
            producer.publish("orders", &[record(0, 1_001)]).await.unwrap();
            assert_eq!(numbers(&read_records(&mut consumer, 0, 1)), [1_001]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsettled_messages_are_seen_again() {
    let world = World::with_orders().await;
    world.producer().unwrap().publish("orders", &records(0, 1, 10)).await.unwrap();
    let mut consumer = world.consumer().unwrap();
    consumer.assign("orders", 0, None).unwrap();
    let seen = |consumer: &mut kit::kafka::Consumer, limit| {
        let offsets: Vec<i64> = consumer.peek("orders", 0, limit).unwrap().iter().map(Arrival::offset).collect();
        offsets
    };
    until(&mut consumer, "four messages", |consumer| (seen(consumer, 4) == [0, 1, 2, 3]).then_some(()));
    assert_eq!(seen(&mut consumer, 4), [0, 1, 2, 3]);
    assert_eq!(seen(&mut consumer, 2), [0, 1]);
    assert!(seen(&mut consumer, 0).is_empty());
    consumer.advance_past("orders", 0, 1);
    assert_eq!(seen(&mut consumer, 2), [2, 3]);
    // Already settled, and of another partition: the position does not move.
    consumer.advance_past("orders", 0, 0);
    consumer.advance_past("orders", 1, 9);
    until(&mut consumer, "the rest", |consumer| (seen(consumer, 100) == (2..10).collect::<Vec<_>>()).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_assigned_partitions_can_be_read() {
    let world = World::with_orders().await;
    let mut consumer = world.consumer().unwrap();
    let refused = consumer.peek("orders", 0, 1).unwrap_err();
    assert!(matches!(refused, KafkaError::NotAssigned { service: "orders", partition: 0 }));
    consumer.unassign("orders", 0);
    consumer.assign("orders", 0, None).unwrap();
    world.producer().unwrap().publish("orders", &[record(0, 1), record(1, 1)]).await.unwrap();
    assert_eq!(read(&mut consumer, 0, 1).len(), 1);
    assert!(matches!(consumer.peek("orders", 1, 1), Err(KafkaError::NotAssigned { partition: 1, .. })));
    consumer.unassign("orders", 0);
    assert!(matches!(consumer.peek("orders", 0, 1), Err(KafkaError::NotAssigned { .. })));
}

/// 20 MB in a partition that is not read: more than the client fetches ahead.
#[tokio::test(flavor = "multi_thread")]
async fn an_unread_partition_does_not_block_others() {
    let world = World::with_orders().await;
    let producer = world.producer().unwrap();
    let filling = |from: i64| {
        let mut some = records(0, from, from + 999);
        some.iter_mut().for_each(|record| record.data = format!(r#""{}""#, incompressible_text(2_000)));
        some
    };
    for from in (1..=9_001).step_by(1_000) {
        producer.publish("orders", &filling(from)).await.unwrap();
    }
    let mut consumer = world.consumer().unwrap();
    consumer.assign("orders", 0, None).unwrap();
    consumer.assign("orders", 1, None).unwrap();
    until(&mut consumer, "something in partition 0", |consumer| (!consumer.peek("orders", 0, 1).unwrap().is_empty()).then_some(()));
    producer.publish("orders", &records(1, 1, 10)).await.unwrap();
    assert_eq!(numbers(&read_records(&mut consumer, 1, 10)), (1..=10).collect::<Vec<_>>());
    assert_eq!(numbers(&read_records(&mut consumer, 0, 10_000)), (1..=10_000).collect::<Vec<_>>());
}

/// Text that does not compress.
fn incompressible_text(length: usize) -> String {
    let mut noise = String::with_capacity(length + 32);
    while noise.len() < length {
        let bytes: [u8; 16] = kit::ports::random_bytes();
        noise.extend(bytes.iter().map(|byte| format!("{byte:02x}")));
    }
    noise
}

#[tokio::test(flavor = "multi_thread")]
async fn assign_latest_reads_only_later_messages() {
    let world = World::with_orders().await;
    let producer = world.producer().unwrap();
    producer.publish("orders", &records(0, 1, 100)).await.unwrap();
    let mut consumer = world.consumer().unwrap();
    consumer.assign_latest("orders", 0).unwrap();
    // Published before the first poll. The call itself fixes the offset.
    producer.publish("orders", &records(0, 101, 103)).await.unwrap();
    assert_eq!(numbers(&read_records(&mut consumer, 0, 3)), [101, 102, 103]);
    consumer.assign_latest("orders", 1).unwrap();
    producer.publish("orders", &[record(1, 1)]).await.unwrap();
    assert_eq!(numbers(&read_records(&mut consumer, 1, 1)), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_consumer_is_woken() {
    let world = World::with_orders().await;
    let mut consumer = world.consumer().unwrap();
    let (told, teller) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let tell = teller.clone();
    assert!(consumer.on_arrival(move || tell.store(true, Ordering::SeqCst)));
    let other = told.clone();
    assert!(!consumer.on_arrival(move || other.store(true, Ordering::SeqCst)));

    // No partition is assigned, so only the waker can end this poll.
    let waker = consumer.waker();
    let sleeper = std::thread::spawn(move || {
        let arrived = consumer.poll(BOUND).unwrap();
        (consumer, arrived)
    });
    waker.wake();
    let (mut consumer, arrived) = sleeper.join().unwrap();
    assert!(!arrived && !teller.load(Ordering::SeqCst));

    consumer.assign("orders", 0, None).unwrap();
    until(&mut consumer, "silence", |consumer| (!consumer.poll(Duration::from_millis(300)).unwrap()).then_some(()));
    teller.store(false, Ordering::SeqCst);
    let sleeper = std::thread::spawn(move || {
        assert!(consumer.poll(BOUND).unwrap());
        consumer
    });
    world.producer().unwrap().publish("orders", &[record(0, 1)]).await.unwrap();
    let mut consumer = sleeper.join().unwrap();
    assert!(teller.load(Ordering::SeqCst) && !told.load(Ordering::SeqCst));
    assert_eq!(numbers(&read_records(&mut consumer, 0, 1)), [1]);
    assert!(!consumer.poll(Duration::ZERO).unwrap(), "nothing new");
}

/// Engines run on plain threads, without a runtime.
#[test]
fn a_thread_without_a_runtime_can_read() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::with_orders());
    runtime.block_on(world.producer().unwrap().publish("orders", &records(0, 1, 3))).unwrap();
    drop(runtime);
    let mut consumer = world.consumer().unwrap();
    consumer.assign("orders", 0, None).unwrap();
    assert_eq!(numbers(&read_records(&mut consumer, 0, 3)), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_a_reader_is_known_within_seconds() {
    let world = World::with_orders().await;
    let producer = world.producer().unwrap();
    producer.publish("orders", &records(0, 1, 30)).await.unwrap();
    let mut consumer = world.consumer().unwrap();
    assert_eq!(consumer.lag("orders", 0), None, "the partition is not assigned");
    consumer.assign("orders", 0, None).unwrap();
    until(&mut consumer, "all of them", |consumer| (consumer.peek("orders", 0, 100).unwrap().len() == 30).then_some(()));
    until(&mut consumer, "their end", |consumer| (consumer.lag("orders", 0) == Some(30)).then_some(()));
    consumer.advance_past("orders", 0, 19);
    assert_eq!(consumer.lag("orders", 0), Some(10));
    consumer.advance_past("orders", 0, 29);
    assert_eq!(consumer.lag("orders", 0), Some(0));
    // Records not fetched yet count, too.
    producer.publish("orders", &records(0, 31, 35)).await.unwrap();
    until(&mut consumer, "the new end", |consumer| (consumer.lag("orders", 0) == Some(5)).then_some(()));
}
