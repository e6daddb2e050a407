//! Streams with a new epoch, and new readers.

use super::world::{Failure, World, commit, new_order, release, reserve};
use kit::engine::{StreamPartition, begin_at, request_redrive};
use std::time::Duration;

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const UPKEEP_INTERVAL: Duration = Duration::from_secs(600);

/// Restarts with a new epoch, as after a move to another database. All messages were read before.
async fn with_new_epoch(world: World) -> World {
    world
        .execute("insert into orders_stream (epoch, started_at, partitions, fence) select 2, started_at, 1, fence from orders_stream")
        .await;
    world.execute("insert into orders_heads (epoch, partition, seq) values (2, 0, 0)").await;
    world.restart().await
}

#[tokio::test]
async fn old_messages_of_an_older_epoch_are_pruned() {
    let world = World::start().await;
    for _ in 0..3 {
        world.ask().await;
    }
    world.app.eventually("select seq from stock_positions where source='orders'", 6).await;
    let world = with_new_epoch(world).await;
    world.ask().await;
    world.app.eventually("select count(*) from orders_asks where state='HELD'", 4).await;
    assert_eq!(world.app.sql_i64("select max(seq) from orders_outbox where epoch=2").await, 2);
    assert_eq!(world.app.sql_i64("select count(*) from orders_outbox where epoch=1").await, 6);
    world.app.clock.advance(WEEK + UPKEEP_INTERVAL);
    // The last message of each partition stays, because it holds the highest sequence number.
    world.app.eventually("select count(*) from orders_outbox where epoch=1", 1).await;
    world.app.eventually("select seq from orders_outbox where epoch=1", 6).await;
    world.app.eventually("select count(*) from stock_deliveries where epoch=1", 0).await;
    world.app.eventually("select count(*) from coupons_deliveries where epoch=1", 0).await;
    world.ask().await;
    world.app.eventually("select count(*) from orders_asks where state='HELD'", 5).await;
}

// I-M3, I-M8: a dead letter of the old epoch blocks all later messages of its key.
#[tokio::test]
async fn letters_of_an_older_epoch_come_first() {
    let world = World::start().await;
    let bad = new_order();
    world.fail_for(bad, Failure::Fault);
    world.emit_for_orders(reserve(bad, 1)).await;
    world.emit_for_orders(release(bad)).await;
    world.app.eventually("select count(*) from stock_dead_letters", 2).await;
    let world = with_new_epoch(world).await;
    world.emit_for_orders(commit(bad)).await;
    world.emit_for_orders(commit(new_order())).await;
    world.app.eventually("select count(*) from stock_dead_letters where epoch=2 and state='parked'", 1).await;
    // Redriven while the first still fails. The later letters must not overtake it, now or at a later poll.
    let mut tx = world.second_writer().await;
    assert_eq!(request_redrive(&mut tx, "stock", None).await.unwrap(), 3);
    world.app.eventually("select count(*) from stock_dead_letters where state='redrive'", 0).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let states = "select epoch, seq, state from stock_dead_letters order by epoch, seq";
    let states = world.app.rows::<(i64, i64, String)>(states).await;
    assert_eq!(states, [(1, 1, "dead".to_owned()), (1, 2, "parked".to_owned()), (2, 1, "parked".to_owned())]);
    // An operator's mistake: only the last letter is marked.
    world.execute("update stock_dead_letters set state='redrive' where epoch=2").await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(world.app.sql_i64("select count(*) from stock_seen where kind='stock.reserve'").await, 0);
    assert_eq!(world.app.sql_i64("select count(*) from stock_seen").await, 1, "only the other key's");
    world.stop_failing(bad);
    request_redrive(&mut tx, "stock", None).await.unwrap();
    world.app.eventually("select count(*) from stock_dead_letters where state='resolved'", 3).await;
    let kinds = world.app.rows::<(String,)>("select kind from stock_seen order by n").await;
    assert_eq!(
        kinds.iter().map(|(kind,)| kind.as_str()).collect::<Vec<_>>(),
        ["stock.commit", "stock.reserve", "stock.release", "stock.commit"]
    );
}

// F22, I-M5: a reader of a new version finds that the beginning of the stream was pruned. It stops until an operator sets its position.
// The skipped range stays on record.
#[tokio::test]
async fn a_new_reader_of_a_pruned_stream_stops_until_told_where() {
    let world = World::start().await;
    for _ in 0..3 {
        world.ask().await;
    }
    world.app.eventually("select count(*) from orders_asks where state='HELD'", 3).await;
    world.app.clock.advance(WEEK + UPKEEP_INTERVAL);
    world.app.eventually("select count(*) from orders_outbox", 1).await;
    // No trace is left that stock ever read this stream.
    world.execute("delete from stock_positions where source='orders'").await;
    world.execute("delete from stock_deliveries where source='orders'").await;
    world.execute("delete from stock_seen").await;
    let world = world.restart().await;
    world.expect_stall();
    let order = world.ask().await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(world.app.sql_i64("select count(*) from stock_seen").await, 0, "the reader skipped messages");
    assert_eq!(world.app.sql_i64("select count(*) from stock_positions where source='orders'").await, 0);
    let stream_partition = StreamPartition { source: "orders", epoch: 1, partition: 0 };
    let mut tx = world.second_writer().await;
    begin_at(&mut tx, "stock", stream_partition, 6, world.app.clock_now()).await.unwrap();
    assert!(begin_at(&mut tx, "stock", stream_partition, 7, world.app.clock_now()).await.is_err(), "a position is never changed");
    world.app.eventually("select count(*) from orders_asks where state='HELD'", 4).await;
    assert_eq!(world.app.sql_i64("select count(*) from orders_asks where state='ASKED'").await, 0, "{order}");
    world.app.eventually("select seq from stock_positions where source='orders'", 8).await;
    let moves = "select from_seq, to_seq from stock_deliveries where source='orders' order by from_seq";
    let first = world.app.rows::<(i64, i64)>(moves).await[0];
    assert_eq!(first, (0, 5), "the skipped range stays on record");
}
