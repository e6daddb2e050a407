//! A gap on Kafka stops its reader and is never skipped. After the repair the reader resumes by itself (F22).

use super::{
    broker,
    world::{Instance, Mall, Transport},
};
use kit::{
    engine::{publish_again, reset_offsets},
    telemetry,
};
use std::time::Duration;

/// Long enough for a reader to poll and to receive.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// Stalls of the reader `stock` so far, in all tests of this process.
fn stall_count() -> f64 {
    let line = |line: &&str| line.starts_with("onrush_reader_stops_total") && line.contains(r#"reader="stock""#);
    let text = telemetry::metrics_text();
    text.lines().filter(line).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

async fn with_five_orders() -> (Mall, Instance) {
    telemetry::install_metrics();
    let mall = Mall::new(Transport::Kafka, 1).await;
    let instance = mall.join().await;
    instance.ask_all(5).await;
    mall.eventually("select count(*) from orders_asks where state='HELD'", 5).await;
    mall.check().await;
    mall.published("orders").await;
    (mall, instance)
}

/// Asserts that the reader reported a stall and did not move.
async fn assert_stopped(mall: &Mall, stalls_before: f64) {
    let position = "select seq from stock_positions where source='orders'";
    let (before, seen) = (mall.number(position).await, mall.number("select count(*) from stock_seen").await);
    for _ in 0..100 {
        if stall_count() > stalls_before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(stall_count() > stalls_before, "the reader did not report a stall");
    tokio::time::sleep(SETTLE_TIME).await;
    assert_eq!(
        (mall.number(position).await, mall.number("select count(*) from stock_seen").await),
        (before, seen),
        "the reader skipped messages"
    );
    assert_eq!(mall.number("select count(*) from stock_dead_letters").await, 0);
}

/// Publishes the outbox again, and makes the readers find their offsets by sequence number.
async fn repair(mall: &Mall) {
    let mut tx = mall.second_writer().await;
    publish_again(&mut tx, "orders").await.unwrap();
    for reader in ["stock", "coupons"] {
        reset_offsets(&mut tx, reader, "orders").await.unwrap();
    }
}

async fn assert_resumes(mall: &Mall, instance: Instance, asked: i64) {
    mall.eventually("select count(*) from orders_asks where state='HELD'", asked).await;
    instance.ask_all(3).await;
    mall.eventually("select count(*) from orders_asks where state='HELD'", asked + 3).await;
    mall.check().await;
    instance.stop().await;
}

// F22: messages were deleted before they were read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_log_stops_its_readers() {
    let (mall, instance) = with_five_orders().await;
    mall.faults.hold("stock", "stock.reserve");
    instance.ask_all(5).await;
    mall.published("orders").await;
    instance.stop().await;
    // 10 reservations and 5 holds. Stock has read half of them.
    broker::forget_before(&mall.cluster(), "orders", 0, 12).await;
    mall.faults.release("stock", "stock.reserve");
    let before = stall_count();
    let instance = mall.join().await;
    assert_stopped(&mall, before).await;
    // The rest cannot be read in order, so the topic is created anew.
    broker::drop_topic(&mall.cluster(), "orders").await;
    mall.cluster().ensure_topic("orders", 1).await.unwrap();
    repair(&mall).await;
    assert_resumes(&mall, instance, 10).await;
}

// F22: a topic is created anew under a running reader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recreated_topic_stops_its_readers() {
    let (mall, instance) = with_five_orders().await;
    let before = stall_count();
    broker::drop_topic(&mall.cluster(), "orders").await;
    mall.cluster().ensure_topic("orders", 1).await.unwrap();
    instance.ask_all(2).await;
    assert_stopped(&mall, before).await;
    repair(&mall).await;
    assert_resumes(&mall, instance, 7).await;
}

// F22: the reader's offset is past the end, as after a log that lost its tail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_past_the_end_stops_its_reader() {
    let (mall, instance) = with_five_orders().await;
    instance.stop().await;
    assert_eq!(mall.execute("update stock_positions set feed_offset=feed_offset+1000 where source='orders'").await, 1);
    let before = stall_count();
    let instance = mall.join().await;
    instance.ask_all(2).await;
    assert_stopped(&mall, before).await;
    repair(&mall).await;
    assert_resumes(&mall, instance, 7).await;
}
