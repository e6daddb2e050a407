//! Brokers that are down or reject requests. Uses the mock, because breaking the real broker would break other tests.

use crate::kafka::world::{is_silent, mock, numbers, partition_error, publish, read_records, record, records, until};
use kit::kafka::{Consumer, KafkaError};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Error};
use std::time::Duration;

/// Reads until `last`. Every number follows the smaller ones; repeats are fine.
fn read_up_to(consumer: &mut Consumer, last: i64) {
    let mut seen = 0;
    while seen < last {
        for number in numbers(&read_records(consumer, 0, 1)) {
            assert!(number <= seen + 1, "{number} comes after {seen}");
            seen = seen.max(number);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_waits_for_brokers_until_a_timeout() {
    let (mock, cluster) = mock();
    let producer = cluster.producer().unwrap();
    producer.publish("orders", &records(0, 1, 10)).await.unwrap();
    mock.broker_down(-1).unwrap();
    for _ in 0..2 {
        let failed = producer.publish("orders", &records(0, 11, 500)).await.unwrap_err();
        assert!(matches!(failed, KafkaError::Unreachable(_)), "{failed}");
    }
    mock.broker_up(-1).unwrap();
    publish(&producer, "orders", &records(0, 11, 500)).await;
    let mut consumer = cluster.consumer().unwrap();
    consumer.assign("orders", 0, None).unwrap();
    read_up_to(&mut consumer, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_survives_a_broker_outage() {
    let (mock, cluster) = mock();
    let producer = cluster.producer().unwrap();
    producer.publish("orders", &records(0, 1, 10)).await.unwrap();
    let mut consumer = cluster.consumer().unwrap();
    consumer.assign("orders", 0, None).unwrap();
    assert_eq!(numbers(&read_records(&mut consumer, 0, 10)).len(), 10);
    mock.broker_down(-1).unwrap();
    for _ in 0..5 {
        assert!(is_silent(&mut consumer, 0));
    }
    mock.broker_up(-1).unwrap();
    publish(&producer, "orders", &records(0, 11, 20)).await;
    let found = numbers(&read_records(&mut consumer, 0, 10));
    assert_eq!(found[0], 11);
}

/// The client restarts partitions that stay silent for ten seconds after an outage. Each must resume at its position. F17
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_partition_skips_and_repeats_nothing() {
    let (mock, cluster) = mock();
    let producer = cluster.producer().unwrap();
    producer.publish("orders", &records(0, 1, 10)).await.unwrap();
    let (mut one, mut oldest) = (cluster.consumer().unwrap(), cluster.consumer().unwrap());
    one.assign("orders", 0, None).unwrap();
    oldest.assign_oldest("orders", 0).unwrap();
    for consumer in [&mut one, &mut oldest] {
        assert_eq!(numbers(&read_records(consumer, 0, 10)).len(), 10);
    }
    let mut late = cluster.consumer().unwrap();
    mock.broker_down(-1).unwrap();
    late.assign("orders", 0, Some(4)).unwrap();
    for consumer in [&mut one, &mut oldest, &mut late] {
        assert!(is_silent(consumer, 0));
    }
    let silent = kit::ports::Stopwatch::start();
    while silent.elapsed() < Duration::from_secs(12) {
        for consumer in [&mut one, &mut oldest, &mut late] {
            let _ = consumer.poll(Duration::from_millis(50)).unwrap();
        }
    }
    mock.broker_up(-1).unwrap();
    publish(&producer, "orders", &records(0, 11, 20)).await;
    for (consumer, first) in [(&mut one, 11), (&mut oldest, 11), (&mut late, 6)] {
        let found = numbers(&read_records(consumer, 0, usize::try_from(21 - first).unwrap()));
        assert_eq!(found, (first..=20).collect::<Vec<i64>>());
    }
}

/// No broker answers when the process starts.
#[tokio::test(flavor = "multi_thread")]
async fn starting_needs_no_broker() {
    let (mock, cluster) = mock();
    mock.broker_down(-1).unwrap();
    let producer = cluster.producer().unwrap();
    let mut consumer = cluster.consumer().unwrap();
    consumer.assign("orders", 0, None).unwrap();
    assert!(matches!(consumer.assign_latest("orders", 1), Err(KafkaError::Unreachable(_))));
    assert!(matches!(producer.publish("orders", &[record(0, 1)]).await, Err(KafkaError::Unreachable(_))));
    assert!(is_silent(&mut consumer, 0));
    mock.broker_up(-1).unwrap();
    publish(&producer, "orders", &[record(0, 1)]).await;
    assert_eq!(numbers(&read_records(&mut consumer, 0, 1)), [1]);
}

/// The broker refuses the first batch for good while later batches are in flight. None of them may overtake it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_blocks_the_batches_behind_it() {
    let (mock, cluster) = mock();
    let producer = cluster.producer().unwrap();
    producer.publish("orders", &[record(0, 1)]).await.unwrap();
    mock.broker_round_trip_time(-1, Duration::from_millis(50)).unwrap();
    for error in [Error::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED] {
        mock.request_errors(Api::Produce, &[error]);
        // Large records, so that they need several batches.
        let mut many = records(0, 2, 60);
        many.iter_mut().for_each(|record| record.data = "x".repeat(100_000));
        let refused = producer.publish("orders", &many).await.unwrap_err();
        assert!(matches!(refused, KafkaError::Refused { partition: 0, .. }), "{refused}");
    }
    producer.publish("orders", &records(0, 2, 60)).await.unwrap();
    let mut consumer = cluster.consumer().unwrap();
    consumer.assign("orders", 0, None).unwrap();
    read_up_to(&mut consumer, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_errors_are_retried() {
    let (mock, cluster) = mock();
    let producer = cluster.producer().unwrap();
    let passing = [
        Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Error::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Error::RD_KAFKA_RESP_ERR__TRANSPORT,
        Error::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    ];
    mock.request_errors(Api::Produce, &passing);
    publish(&producer, "orders", &records(0, 1, 100)).await;
    let mut consumer = cluster.consumer().unwrap();
    consumer.assign("orders", 0, None).unwrap();
    read_up_to(&mut consumer, 100);
}

/// An error on one stream only makes others publish again.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_stream_does_not_affect_others() {
    let (mock, cluster) = mock();
    mock.create_topic("onrush.coupons", 4, 3).unwrap();
    let producer = cluster.producer().unwrap();
    let coupons = async {
        for seq in 1..=200 {
            publish(&producer, "coupons", &[record(1, seq)]).await;
        }
    };
    let orders = async {
        for _ in 0..10 {
            let mut large = record(0, 1);
            large.data = "x".repeat(1_000_001);
            let refused = producer.publish("orders", &[large]).await.unwrap_err();
            assert!(matches!(refused, KafkaError::Refused { seq: 1, .. }), "{refused}");
            tokio::task::yield_now().await;
        }
    };
    futures::join!(coupons, orders);
    let mut consumer = cluster.consumer().unwrap();
    consumer.assign("coupons", 1, None).unwrap();
    let mut seen = 0;
    until(&mut consumer, "200 coupons", |consumer| {
        for arrival in consumer.peek("coupons", 1, 5_000).unwrap() {
            let kit::kafka::Arrival::Record(_, found) = arrival else { panic!("{arrival:?}") };
            assert!(found.seq <= seen + 1, "{} comes after {seen}", found.seq);
            seen = seen.max(found.seq);
        }
        (seen == 200).then_some(())
    });
}

/// The mock answers a fetch as a broker answers for an offset that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_offset_out_of_range_is_lost() {
    let (mock, cluster) = mock();
    cluster.producer().unwrap().publish("orders", &records(0, 1, 10)).await.unwrap();
    mock.request_errors(Api::Fetch, &[Error::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE; 3]);
    let mut consumer = cluster.consumer().unwrap();
    consumer.assign("orders", 0, Some(3)).unwrap();
    let lost = partition_error(&mut consumer, 0);
    assert!(matches!(lost, KafkaError::OffsetLost { service: "orders", partition: 0, offset: 4, .. }), "{lost}");
}
