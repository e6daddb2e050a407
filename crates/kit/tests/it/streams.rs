//! Positions: durable across restarts, fenced, and stopped by a gap.

use super::world::{Ask, Failure, Laps, STOCK, World, check_log, hold, new_order, reserve};
use kit::process::DEFAULT_PARTITIONS;
use kit::{Reply, batch::SubmitError};
use std::sync::atomic::Ordering;
use testkit::App;

/// Orders whose messages stock has not read yet.
async fn with_unread_orders(count: usize) -> World {
    let world = World::start().await;
    world.app.faults.hold("stock", "stock.reserve");
    for _ in 0..count {
        assert!(matches!(world.submit(Ask::one(new_order())).await, Ok(Reply::Pending(_))));
    }
    world.app.wait_until_quiescent().await;
    world
}

/// Two commits of the writer. By then every deliverable message is delivered.
async fn two_commits(world: &World) {
    world.emit_for_orders(hold(new_order())).await;
    world.emit_for_orders(hold(new_order())).await;
}

#[tokio::test]
async fn a_restart_resumes_after_the_last_commit() {
    let world = World::start().await;
    world.ask().await;
    world.app.faults.hold("stock", "stock.reserve");
    for _ in 0..3 {
        world.ask().await;
    }
    let world = world.restart().await;
    world.app.eventually("select count(*) from orders_asks where state='HELD'", 4).await;
    assert_eq!(world.seen_by_stock().await, [1, 3, 4, 5]);
    world.ask().await;
    check_log(&world, true).await;
    let world = world.restart().await;
    world.ask().await;
    assert_eq!(world.app.sql_i64("select max(seq) from orders_outbox").await, 12);
    assert_eq!(world.app.sql_i64("select count(*) from orders_stream").await, 1, "the same epoch");
    assert_eq!(world.units_left().await, STOCK - 6);
    check_log(&world, true).await;
}

// Unfolded exchanges complete despite any number of restarts (F3).
#[tokio::test]
async fn restarts_lose_and_repeat_nothing() {
    let mut world = World::unfolded().await;
    let waiting: Vec<_> = (0..40).map(|_| world.submit(Ask::one(new_order()))).collect();
    for reply in futures::future::join_all(waiting).await {
        assert!(matches!(reply, Ok(Reply::Pending(_))));
    }
    for _ in 0..4 {
        world = world.restart().await;
        // A release. The test does not wait for its effects.
        world.submit(Laps { order_id: new_order(), laps: 0 }).await.unwrap();
    }
    world.app.eventually("select count(*) from orders_asks where state='HELD'", 40).await;
    world.app.eventually("select count(*) from orders_seen where kind='stock.released'", 4).await;
    assert_eq!(world.units_left().await, STOCK - 40);
    check_log(&world, true).await;
}

// I-M4, I-M7: another process advanced the reader, so work from the old position must not count. On SQLite this is a foreign write, and
// the reader waits. `processes::zombies` covers PostgreSQL.
#[tokio::test]
async fn a_reader_with_a_stale_position_has_no_effect() {
    for folded in [true, false] {
        let world = World::with(App::builder().on_sqlite().fold(folded)).await;
        world.ask().await;
        world.app.eventually("select count(*) from orders_asks where state='HELD'", 1).await;
        world.app.eventually("select seq from stock_positions where source='orders'", 2).await;
        assert_eq!(world.execute("update stock_positions set seq=seq+1 where source='orders'").await, 1);
        let calls = world.stock.calls.load(Ordering::SeqCst);
        let order = new_order();
        assert_eq!(world.submit(Ask::one(order)).await, Ok(Reply::Pending(order.into())));
        while world.stock.calls.load(Ordering::SeqCst) < calls + 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.app.sql_i64("select count(*) from stock_seen").await, 1);
        assert_eq!(world.app.sql_i64("select count(*) from stock_outbox").await, 1);
        assert_eq!(world.units_left().await, STOCK - 1);
        assert_eq!(world.position("stock", "orders").await, 3, "position of the other instance");
        assert_eq!(world.app.sql_i64("select count(*) from stock_dead_letters").await, 0, "a fenced reader writes no dead letter");
        // With its old position restored, the reader resumes.
        world.execute("update stock_positions set seq=seq-1 where source='orders'").await;
        world.app.eventually("select count(*) from orders_asks where state='HELD'", 2).await;
        world.app.eventually("select seq from stock_positions where source='orders'", 4).await;
        world.app.eventually("select seq from wallet_positions where source='coupons'", 2).await;
        check_log(&world, true).await;
    }
}

#[tokio::test]
async fn a_reader_without_a_position_is_fenced_too() {
    let world = World::start().await;
    world.app.faults.hold("stock", "stock.reserve");
    // After one command the engine of orders has loaded its positions, which are empty.
    world.ask().await;
    for partition in 0..DEFAULT_PARTITIONS {
        world.execute(&format!("insert into orders_positions (source, epoch, partition, seq) values ('stock',1,{partition},1)")).await;
    }
    world.app.faults.release("stock", "stock.reserve");
    world.app.eventually("select count(*) from stock_outbox", 1).await;
    world.app.wait_until_quiescent().await;
    assert_eq!(world.app.sql_i64("select count(*) from orders_seen where source='stock'").await, 0);
    assert_eq!(world.app.sql_i64("select count(*) from orders_deliveries where source='stock'").await, 0);
}

// Two writers can never use the same sequence number. On PostgreSQL the sequencer numbers; see `processes::zombies`.
#[tokio::test]
async fn a_duplicate_sequence_number_rolls_the_writer_back() {
    let world = World::on_sqlite().await;
    world
        .execute("insert into orders_outbox (epoch, partition, seq, key, kind, data, at) values (1,0,1,zeroblob(16),'stock.commit','{}',0)")
        .await;
    assert_eq!(world.submit(Ask::one(new_order())).await, Err(SubmitError::Failed));
    for table in ["orders_asks", "stock_seen", "stock_outbox", "coupons_holds"] {
        assert_eq!(world.app.sql_i64(&format!("select count(*) from {table}")).await, 0, "{table}");
    }
}

#[tokio::test]
async fn a_gap_stops_its_reader() {
    for missing in 1..=3 {
        let world = with_unread_orders(3).await;
        world.execute(&format!("create table kit_lost as select * from orders_outbox where seq={missing}")).await;
        assert_eq!(world.execute(&format!("delete from orders_outbox where seq={missing}")).await, 1);
        world.expect_stall();
        world.app.faults.release("stock", "stock.reserve");
        two_commits(&world).await;
        let readable: Vec<i64> = (1..missing).collect();
        world.app.eventually("select count(*) from stock_seen", missing - 1).await;
        two_commits(&world).await;
        assert_eq!(world.seen_by_stock().await, readable);
        assert_eq!(world.position("stock", "orders").await, missing - 1);
        assert_eq!(world.app.sql_i64("select count(*) from stock_dead_letters").await, 0);
        assert_eq!(world.app.sql_i64("select count(*) from coupons_holds").await - missing + 1, 4, "other readers continue");
        // After the message is restored, nothing is lost.
        world.execute("insert into orders_outbox select * from kit_lost").await;
        world.app.eventually("select count(*) from orders_asks where state='HELD'", 3).await;
        assert_eq!(world.seen_by_stock().await, [1, 2, 3]);
        check_log(&world, true).await;
    }
}

#[tokio::test]
async fn a_gap_still_stops_its_reader_after_a_restart() {
    let world = with_unread_orders(3).await;
    world.execute("delete from orders_outbox where seq=2").await;
    let world = world.restart().await;
    world.expect_stall();
    two_commits(&world).await;
    world.app.eventually("select count(*) from stock_seen", 1).await;
    two_commits(&world).await;
    assert_eq!((world.seen_by_stock().await, world.position("stock", "orders").await), (vec![1], 1));
}

// Positions belong to (reader, source), so a stall of one reader does not affect another.
#[tokio::test]
async fn readers_of_a_stream_have_positions_of_their_own() {
    let world = World::start().await;
    let bad = new_order();
    world.fail_for(bad, Failure::Fault);
    world.emit_for_orders(hold(new_order())).await;
    world.app.faults.hold("wallet", "coupon.held");
    world.emit_for_orders(hold(new_order())).await;
    world.emit_for_orders(reserve(bad, 1)).await;
    assert_eq!((world.position("wallet", "coupons").await, world.position("orders", "coupons").await), (1, 2));
    world.app.eventually("select count(*) from stock_dead_letters", 1).await;
    assert_eq!((world.position("stock", "orders").await, world.position("coupons", "orders").await), (3, 3));
    check_log(&world, false).await;
}
