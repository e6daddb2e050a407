//! Readers with their own transactions.

use super::world::{Failure, World, check_log, commit, hold, new_order, queued, release, reserve};
use std::sync::atomic::Ordering;

#[tokio::test]
async fn a_lagging_reader_catches_up_in_batches() {
    let world = World::start().await;
    world.app.faults.hold("stock", "stock.commit");
    let order = new_order();
    world.app.emit_all("orders", order, vec![commit(order); 1_200]).await;
    let calls = world.stock.calls.load(Ordering::SeqCst);
    world.app.faults.release("stock", "stock.commit");
    world.app.eventually("select seq from stock_positions where source='orders'", 1_200).await;
    assert_eq!(world.stock.calls.load(Ordering::SeqCst) - calls, 3, "500, 500 and 200");
    assert_eq!(world.seen_by_stock().await, (1..=1_200).collect::<Vec<_>>());
    check_log(&world, true).await;
}

#[tokio::test]
async fn commands_are_answered_while_a_reader_catches_up() {
    let world = World::start().await;
    world.app.faults.hold("stock", "stock.release");
    for _ in 0..10 {
        let order = new_order();
        world.app.emit_all("orders", order, vec![release(order); 1_000]).await;
    }
    let blocked = world.block_writer().await;
    let count = queued([world.submit(super::world::Count::by(1))]).await.remove(0);
    world.app.faults.release("stock", "stock.release");
    blocked.resume().await;
    super::world::answer(count.await);
    assert!(world.position("stock", "orders").await < 10_000, "the command waited for the whole backlog");
    world.app.wait_until_quiescent().await;
    world.app.eventually("select seq from stock_positions where source='orders'", 10_000).await;
    world.app.eventually("select seq from orders_positions where source='stock'", 10_000).await;
    check_log(&world, true).await;
}

#[tokio::test]
async fn a_transient_failure_is_retried() {
    for world in World::in_each_mode().await {
        world.app.faults.fail("stock", "stock.reserve", 2);
        world.ask().await;
        world.app.eventually("select count(*) from orders_asks where state='HELD'", 1).await;
        assert_eq!(world.app.faults.times_applied("stock", "stock.reserve"), 2);
        assert_eq!(world.app.sql_i64("select count(*) from stock_dead_letters").await, 0);
        assert_eq!(world.units_left().await, super::world::STOCK - 1);
        world.app.eventually("select seq from orders_positions where source='coupons'", 1).await;
        world.app.eventually("select seq from wallet_positions where source='coupons'", 1).await;
        world.app.eventually("select seq from coupons_positions where source='orders'", 2).await;
        world.app.eventually("select seq from stock_positions where source='orders'", 2).await;
        check_log(&world, true).await;
    }
}

// I-M3: within a key, messages keep their order across failures.
#[tokio::test]
async fn messages_of_a_key_arrive_in_order() {
    let world = World::unfolded().await;
    let orders: Vec<_> = (0..5).map(|_| new_order()).collect();
    world.app.faults.fail("stock", "stock.release", 2);
    world.app.faults.repeat("stock", "stock.reserve", 3);
    for order in &orders {
        world.app.emit_all("orders", *order, vec![reserve(*order, 1), release(*order), commit(*order)]).await;
    }
    world.app.eventually("select seq from stock_positions where source='orders'", 15).await;
    let mut seen = world.seen_by_stock().await;
    assert_eq!(
        (world.app.faults.times_applied("stock", "stock.release"), world.app.faults.times_applied("stock", "stock.reserve")),
        (2, 3)
    );
    seen.dedup();
    assert_eq!(seen, (1..=15).collect::<Vec<_>>());
}

// Stock lags. After it catches up, its answer makes coupons fail. The message of stock itself must not be dead-lettered.
#[tokio::test]
async fn a_downstream_failure_does_not_dead_letter_upstream() {
    let world = World::start().await;
    let order = new_order();
    world.app.faults.hold("stock", "stock.reserve");
    world.app.faults.fail("coupons", "coupon.hold", u32::MAX);
    world.submit(super::world::Ask::one(order)).await.unwrap();
    world.app.faults.release("stock", "stock.reserve");
    world.app.eventually("select count(*) from coupons_dead_letters where state='dead'", 1).await;
    assert_eq!(world.app.sql_i64("select count(*) from stock_dead_letters").await, 0);
    assert_eq!(world.app.sql_i64("select count(*) from orders_dead_letters").await, 0);
    assert_eq!(world.app.sql_i64("select count(*) from orders_asks where state='RESERVED'").await, 1);
    check_log(&world, true).await;
}

#[tokio::test]
async fn a_failing_reader_does_not_stop_others() {
    let world = World::unfolded().await;
    let (broken, other) = (new_order(), new_order());
    world.fail_for(broken, Failure::Fault);
    world.app.emit_all("orders", broken, vec![reserve(broken, 1)]).await;
    world.emit_for_orders(hold(other)).await;
    world.app.eventually("select count(*) from coupons_holds", 1).await;
    world.app.eventually("select count(*) from stock_dead_letters", 1).await;
    check_log(&world, true).await;
}
