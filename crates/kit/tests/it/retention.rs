//! Retention of streams and delivery records.

use super::world::{World, commit, new_order};
use contracts::Timestamp;
use kit::engine::{StreamPartition, prune, prune_deliveries};
use std::time::Duration;

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const INSTANT: Duration = Duration::from_micros(1);

async fn numbers(world: &World, stream: &str) -> Vec<i64> {
    world.app.rows::<(i64,)>(&format!("select seq from {stream}_outbox order by seq")).await.into_iter().map(|(seq,)| seq).collect()
}

/// Rows pruned from the orders stream and from its two readers' deliveries, after both read everything.
async fn pruned(world: &World, now: Timestamp, limit: i64) -> u64 {
    let stream_partition = StreamPartition { source: "orders", epoch: 1, partition: 0 };
    let mut tx = world.second_writer().await;
    let mut dropped = prune(&mut tx, stream_partition, i64::MAX, now, limit).await.unwrap();
    for reader in ["stock", "coupons"] {
        dropped += prune_deliveries(&mut tx, reader, stream_partition, now, limit).await.unwrap();
    }
    dropped
}

#[tokio::test]
async fn messages_are_kept_a_week_and_the_last_for_ever() {
    let world = World::start().await;
    let written = world.app.clock_now();
    for _ in 0..3 {
        world.ask().await;
    }
    assert_eq!(pruned(&world, written.after(WEEK), 100).await, 0);
    let recorded = "select (select count(*) from stock_deliveries) + (select count(*) from coupons_deliveries)";
    let recorded = world.app.sql_i64(recorded).await.unsigned_abs();
    assert!(recorded >= 6, "two readers, three exchanges");
    assert_eq!(pruned(&world, written.after(WEEK + INSTANT), 100).await, 5 + recorded);
    assert_eq!(numbers(&world, "orders").await, [6]);
    assert_eq!(pruned(&world, written.after(WEEK * 50), 100).await, 0);
}

#[tokio::test]
async fn a_call_drops_no_more_than_its_limit() {
    let world = World::start().await;
    for _ in 0..4 {
        world.ask().await;
    }
    let later = world.app.clock_now().after(WEEK * 2);
    for left in [6, 4, 2, 1, 1] {
        pruned(&world, later, 2).await;
        assert_eq!(numbers(&world, "orders").await.len(), left);
    }
    assert_eq!(numbers(&world, "orders").await, [8]);
}

#[tokio::test]
async fn pruning_keeps_messages_a_reader_has_not_read() {
    let world = World::start().await;
    for _ in 0..3 {
        world.ask().await;
    }
    world.app.faults.hold("stock", "stock.commit");
    let order = new_order();
    for _ in 0..3 {
        world.emit_for_orders(commit(order)).await;
    }
    world.app.clock.advance(WEEK + Duration::from_secs(600));
    world.app.eventually("select count(*) from orders_outbox", 3).await;
    world.app.eventually("select count(*) from stock_outbox", 1).await;
    world.app.eventually("select count(*) from stock_deliveries", 0).await;
    assert_eq!(numbers(&world, "orders").await, [7, 8, 9]);
    world.app.faults.release("stock", "stock.commit");
    world.app.eventually("select seq from stock_positions where source='orders'", 9).await;
    assert_eq!(world.seen_by_stock().await, [1, 3, 5, 7, 8, 9]);
    // Read by all and a week old: pruned at the next interval, except the last.
    world.app.clock.advance(Duration::from_secs(600));
    world.app.eventually("select count(*) from orders_outbox", 1).await;
    let world = world.restart().await;
    world.ask().await;
    assert_eq!(numbers(&world, "orders").await, [9, 10, 11], "sequence numbers continue");
    assert_eq!(numbers(&world, "stock").await, [3, 4]);
    assert_eq!(world.app.sql_i64("select count(*) from orders_asks where state='HELD'").await, 4);
}

/// A message that no service here handles.
fn message_without_reader() -> contracts::Message {
    contracts::Message::PointsUse(contracts::messages::StepCommand { order_id: new_order() })
}

#[tokio::test]
async fn pruning_repeats_while_more_is_left() {
    let world = World::start().await;
    let order = new_order();
    for _ in 0..2 {
        world.app.emit_all("orders", order, vec![message_without_reader(); 6_000]).await;
    }
    // The clock advances once. The limit of a pass must not leave the rest for the next interval.
    world.app.clock.advance(WEEK + Duration::from_secs(600));
    world.app.eventually("select count(*) from orders_outbox", 1).await;
}
