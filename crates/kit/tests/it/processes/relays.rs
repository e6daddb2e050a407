//! Relays from the outbox to Kafka: a message published twice has one effect.

use super::world::{Mall, Transport};
use kit::{kafka::Arrival, ports::Stopwatch};
use std::{collections::BTreeMap, time::Duration};

/// Copies of each message of the orders stream on Kafka, by partition and sequence number, once no more arrive.
fn published(mall: &Mall, partitions: i64) -> BTreeMap<(i64, i64), u32> {
    let mut consumer = mall.cluster().consumer().unwrap();
    for partition in 0..partitions {
        consumer.assign("orders", partition, None).unwrap();
    }
    let mut times = BTreeMap::new();
    let mut quiet = Stopwatch::start();
    while quiet.elapsed() < Duration::from_secs(1) || times.is_empty() {
        consumer.poll(Duration::from_millis(100)).unwrap();
        for partition in 0..partitions {
            let arrived = consumer.peek("orders", partition, 1_000).unwrap().to_vec();
            for arrival in &arrived {
                let Arrival::Record(_, record) = arrival else { panic!("{arrival:?}") };
                *times.entry((partition, record.seq)).or_default() += 1;
                quiet = Stopwatch::start();
            }
            if let Some(last) = arrived.last() {
                consumer.advance_past("orders", partition, last.offset());
            }
        }
    }
    times
}

// F18, I-M1 to I-M6: the relay crashed after publishing, before it moved its mark.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_crashes_before_its_mark_repeats_harmlessly() {
    let mall = Mall::new(Transport::Kafka, 2).await;
    let first = mall.join().await;
    first.ask_all(20).await;
    mall.eventually("select count(*) from orders_asks where state='HELD'", 20).await;
    first.stop().await;
    assert!(mall.execute("update orders_relay set seq=seq/2").await > 0);
    assert!(mall.execute("delete from stock_relay").await > 0);
    let second = mall.join().await;
    second.ask_all(20).await;
    mall.eventually("select count(*) from orders_asks where state='HELD'", 40).await;
    mall.published("orders").await;
    mall.check().await;
    second.stop().await;
    let times = published(&mall, 2);
    assert_eq!(i64::try_from(times.len()).unwrap(), mall.number("select count(*) from orders_outbox").await, "I-M1");
    assert!(times.values().any(|times| *times > 1), "nothing was published twice");
}

// F18: when a lease expires during publishing, two relays publish at once, repeatedly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_concurrent_relays_do_no_harm() {
    let mall = Mall::new(Transport::Kafka, 2).await;
    let (one, other) = (mall.join().await, mall.join().await);
    for round in 0..12 {
        // The lease expires under its holder, and the mark lags behind the published messages.
        mall.execute("update orders_leases set until=0 where name='relay'").await;
        if round % 3 == 2 {
            mall.execute("update orders_relay set seq=seq-seq/3").await;
        }
        futures::join!(one.ask_all(4), other.ask_all(4));
    }
    mall.eventually("select count(*) from orders_asks where state='HELD'", 96).await;
    mall.published("orders").await;
    mall.check().await;
    futures::join!(one.stop(), other.stop());
    let times = published(&mall, 2);
    assert_eq!(i64::try_from(times.len()).unwrap(), mall.number("select count(*) from orders_outbox").await, "I-M1");
    assert!(times.values().any(|times| *times > 1), "nothing was published twice");
}
