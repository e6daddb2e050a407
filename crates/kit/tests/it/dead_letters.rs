//! Poison messages: a message that always fails is dead-lettered, later messages of its key are parked, and all others flow.

use super::world::{Ask, Failure, World, check_log, commit, new_order, release, reserve, submit_together};
use contracts::OrderId;
use kit::Reply;
use std::{sync::atomic::Ordering, time::Duration};
use testkit::App;

/// Longer than a test.
const NEVER: Duration = Duration::from_secs(3_600);
/// Failing keys of a service from which on its readers wait.
const BURST: i64 = 16;

async fn letters(world: &World, reader: &str) -> Vec<(i64, String)> {
    world.app.rows(&format!("select seq, state from {reader}_dead_letters order by seq")).await
}

fn rows(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
    expected.iter().map(|(seq, state)| (*seq, (*state).to_owned())).collect()
}

// F23, I-M8
#[tokio::test]
async fn a_message_that_always_fails_is_dead_lettered_by_key() {
    for (how, says) in [(Failure::Fault, "bug: planned fault on stock.reserve"), (Failure::Panic, "panic: planned panic on stock.reserve")]
    {
        let world = World::unfolded().await;
        let (bad, good) = (new_order(), new_order());
        world.fail_for(bad, how);
        for message in [reserve(bad, 1), reserve(good, 1), commit(bad), commit(good), release(bad)] {
            world.emit_for_orders(message).await;
        }
        world.app.eventually("select seq from stock_positions where source='orders'", 5).await;
        assert_eq!(letters(&world, "stock").await, rows(&[(1, "dead"), (3, "parked"), (5, "parked")]));
        assert_eq!(world.seen_by_stock().await, [2, 4]);
        let errors = world.app.rows::<(String,)>("select error from stock_dead_letters order by seq").await;
        assert_eq!(errors[0].0, says);
        assert!(errors[1].0.contains("waits behind"), "{}", errors[1].0);
        assert_eq!(world.units_left().await, super::world::STOCK - 1);
        check_log(&world, false).await;
    }
}

// Finding 18: an undo behind a dead letter is repeated for hours.
#[tokio::test]
async fn a_repeat_of_the_last_parked_message_is_not_parked() {
    let world = World::unfolded().await;
    let (bad, other) = (new_order(), new_order());
    world.fail_for(bad, Failure::Fault);
    for message in [reserve(bad, 1), release(bad), release(bad), commit(bad), commit(bad), release(bad), release(other)] {
        world.emit_for_orders(message).await;
    }
    world.app.eventually("select seq from stock_positions where source='orders'", 7).await;
    assert_eq!(letters(&world, "stock").await, rows(&[(1, "dead"), (2, "parked"), (4, "parked"), (6, "parked")]));
    check_log(&world, false).await;
}

#[tokio::test]
async fn a_message_is_tried_three_times_before_dead_lettering() {
    let world = World::unfolded().await;
    let bad = new_order();
    world.fail_for(bad, Failure::Fault);
    world.emit_for_orders(reserve(bad, 1)).await;
    world.app.eventually("select count(*) from stock_dead_letters", 1).await;
    assert_eq!(world.stock.calls.load(std::sync::atomic::Ordering::SeqCst), 3);
}

#[tokio::test]
async fn folded_messages_of_a_dead_key_are_parked() {
    let world = World::start().await;
    let bad = new_order();
    world.fail_for(bad, Failure::Fault);
    world.emit_for_orders(reserve(bad, 1)).await;
    world.app.eventually("select count(*) from stock_dead_letters where state='dead'", 1).await;
    // The cause is gone, but no message may overtake the dead letter.
    world.stop_failing(bad);
    world.emit_for_orders(commit(bad)).await;
    assert_eq!(letters(&world, "stock").await, rows(&[(1, "dead"), (2, "parked")]));
    let other = world.ask().await;
    assert_eq!(world.app.sql_i64("select count(*) from orders_asks where state='HELD'").await, 1, "{other}");
    assert_eq!(world.seen_by_stock().await, [3]);
    check_log(&world, true).await;
}

// F24
#[tokio::test]
async fn one_bad_message_of_five_hundred_fails_alone() {
    let world = World::start().await;
    let orders: Vec<OrderId> = (0..500).map(|_| new_order()).collect();
    world.fail_for(orders[321], Failure::Panic);
    world.app.faults.hold("stock", "stock.reserve");
    let results = submit_together(&world, orders.iter().map(|order| Ask::one(*order))).await;
    assert!(results.iter().all(|result| matches!(result, Ok(Reply::Pending(_)))));
    world.app.faults.release("stock", "stock.reserve");
    world.app.eventually("select count(*) from stock_dead_letters", 1).await;
    world.app.eventually("select count(*) from orders_asks where state='HELD'", 499).await;
    assert_eq!(letters(&world, "stock").await, rows(&[(322, "dead")]));
    assert_eq!(world.units_left().await, super::world::STOCK - 499);
    let seen: Vec<i64> = world.seen_by_stock().await;
    assert_eq!(seen, (1..=500).filter(|seq| *seq != 322).collect::<Vec<_>>());
    world.app.eventually("select seq from stock_positions where source='orders'", 999).await;
    world.app.eventually("select seq from coupons_positions where source='orders'", 999).await;
    check_log(&world, false).await;
}

#[tokio::test]
async fn undecodable_messages_are_dead_lettered() {
    for (change, says) in [
        ("data='{\"order_id\":7}'", "data does not fit its type"),
        ("data='not json'", "data does not fit its type"),
        // A kind of a newer version. Dropping it would lose it.
        ("kind='stock.vanish'", "unknown message type stock.vanish"),
    ] {
        let world = World::unfolded().await;
        world.app.faults.hold("stock", "stock.reserve");
        let (bad, good) = (new_order(), new_order());
        world.emit_for_orders(reserve(bad, 1)).await;
        world.emit_for_orders(reserve(good, 1)).await;
        world.emit_for_orders(commit(bad)).await;
        assert_eq!(world.execute(&format!("update orders_outbox set {change} where seq=1")).await, 1);
        world.app.faults.release("stock", "stock.reserve");
        world.app.eventually("select seq from stock_positions where source='orders'", 3).await;
        assert_eq!(letters(&world, "stock").await, rows(&[(1, "dead"), (3, "parked")]), "{change}");
        let (error,) = world.app.rows::<(String,)>("select error from stock_dead_letters").await.remove(0);
        assert!(error.contains(says), "{error}");
        assert_eq!(world.seen_by_stock().await, [2]);
        assert_eq!(world.app.sql_i64("select count(*) from stock_reservations").await, 1);
    }
}

#[tokio::test]
async fn an_unhandled_kind_is_skipped_without_decoding() {
    let world = World::start().await;
    world.app.faults.hold("stock", "stock.reserve");
    let (first, second) = (new_order(), new_order());
    world.emit_for_orders(reserve(first, 1)).await;
    world.emit_for_orders(super::world::hold(second)).await;
    world.execute("update orders_outbox set data='not json' where seq=2").await;
    world.app.faults.release("stock", "stock.reserve");
    world.app.eventually("select seq from stock_positions where source='orders'", 2).await;
    assert_eq!(letters(&world, "stock").await, []);
}

#[tokio::test]
async fn parked_keys_are_still_parked_after_a_restart() {
    let world = World::start().await;
    let bad = new_order();
    world.fail_for(bad, Failure::Fault);
    world.emit_for_orders(reserve(bad, 1)).await;
    world.app.eventually("select count(*) from stock_dead_letters", 1).await;
    world.stop_failing(bad);
    let world = world.restart().await;
    world.emit_for_orders(release(bad)).await;
    world.emit_for_orders(reserve(new_order(), 1)).await;
    assert_eq!(letters(&world, "stock").await, rows(&[(1, "dead"), (2, "parked")]));
    assert_eq!(world.seen_by_stock().await, [3]);
    check_log(&world, true).await;
}

// The listing has everything that an operator needs to judge a dead letter.
#[tokio::test]
async fn a_dead_letter_lists_its_message_and_state() {
    let world = World::start().await;
    let bad = new_order();
    world.fail_for(bad, Failure::Fault);
    world.emit_for_orders(reserve(bad, 3)).await;
    world.app.eventually("select count(*) from stock_dead_letters", 1).await;
    let mut reader = world.app.kit().db.reader().await.unwrap();
    let letters = kit::engine::list_dead_letters(&mut reader, "stock").await.unwrap();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((letter.reader.as_str(), letter.source.as_str(), letter.seq, letter.key), ("stock", "orders", 1, bad.into()));
    assert_eq!((letter.kind.as_str(), letter.state.as_str()), ("stock.reserve", "dead"));
    assert_eq!(contracts::Message::decode(&letter.kind, &letter.data).unwrap(), reserve(bad, 3));
}

async fn retrying(dead_letter_after: Duration) -> World {
    World::with(App::builder().fold(false).dead_letter_after(dead_letter_after)).await
}

// finding 3: failures within a moment are no dead letter, and other keys continue meanwhile.
#[tokio::test]
async fn a_failed_message_is_set_aside_and_retried() {
    for failure in [Failure::Fault, Failure::Conflict, Failure::Slow] {
        let world = retrying(NEVER).await;
        let (bad, good) = (new_order(), new_order());
        world.fail_for(bad, failure);
        for message in [reserve(bad, 1), reserve(good, 1), commit(bad)] {
            world.emit_for_orders(message).await;
        }
        world.app.eventually("select seq from stock_positions where source='orders'", 3).await;
        assert_eq!(letters(&world, "stock").await, rows(&[(1, "redrive"), (3, "parked")]));
        assert_eq!(world.seen_by_stock().await, [2]);
        world.stop_failing(bad);
        world.app.eventually("select count(*) from stock_dead_letters where state='resolved'", 2).await;
        assert_eq!(world.seen_by_stock().await, [2, 1, 3]);
        world.emit_for_orders(release(bad)).await;
        world.app.eventually("select count(*) from stock_seen", 4).await;
        check_log(&world, true).await;
    }
}

// finding 3
#[tokio::test]
async fn a_message_that_fails_for_its_time_is_dead() {
    let world = retrying(Duration::from_secs(1)).await;
    let bad = new_order();
    world.fail_for(bad, Failure::Fault);
    world.emit_for_orders(reserve(bad, 1)).await;
    world.app.eventually("select count(*) from stock_dead_letters where state='redrive'", 1).await;
    world.app.eventually("select count(*) from stock_dead_letters where state='dead'", 1).await;
    let calls = world.stock.calls.load(Ordering::SeqCst);
    assert!(calls > 4, "{calls} tries");
    check_log(&world, true).await;
}

// finding 3: a burst of failing keys is an outage. The seventeenth key waits in the stream.
#[tokio::test]
async fn a_burst_of_failing_keys_stops_the_reader() {
    let world = retrying(NEVER).await;
    let orders: Vec<OrderId> = (0..BURST + 2).map(|_| new_order()).collect();
    orders.iter().for_each(|order| world.fail_for(*order, Failure::Fault));
    world.expect_stall();
    for order in &orders {
        world.emit_for_orders(reserve(*order, 1)).await;
    }
    world.app.eventually("select count(*) from stock_dead_letters where state='redrive'", BURST).await;
    world.app.eventually("select seq from stock_positions where source='orders'", BURST).await;
    // Longer than the reader's first pause.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(world.app.sql_i64("select count(*) from stock_dead_letters").await, BURST);
    orders.iter().for_each(|order| world.stop_failing(*order));
    world.app.eventually("select count(*) from stock_seen", BURST + 2).await;
    world.app.eventually("select count(*) from stock_dead_letters where state<>'resolved'", 0).await;
    check_log(&world, true).await;
}

// finding 3: passing trouble is waited for, although the plan gives up after three tries.
#[tokio::test]
async fn an_outage_makes_no_dead_letter() {
    let world = World::unfolded().await;
    let bad = new_order();
    world.fail_for(bad, Failure::Outage);
    world.expect_stall();
    world.emit_for_orders(reserve(bad, 1)).await;
    while world.stock.calls.load(Ordering::SeqCst) < 5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(letters(&world, "stock").await, []);
    world.stop_failing(bad);
    world.app.eventually("select seq from stock_positions where source='orders'", 1).await;
    assert_eq!(world.units_left().await, super::world::STOCK - 1);
}

// finding 3: a statement that always takes too long does not block its reader for ever.
#[tokio::test]
async fn a_message_that_is_always_slow_is_dead_lettered() {
    let world = World::unfolded().await;
    let (slow, good) = (new_order(), new_order());
    world.fail_for(slow, Failure::Slow);
    world.emit_for_orders(reserve(slow, 1)).await;
    world.emit_for_orders(reserve(good, 1)).await;
    world.app.eventually("select seq from stock_positions where source='orders'", 2).await;
    assert_eq!(letters(&world, "stock").await, rows(&[(1, "dead")]));
    assert_eq!(world.seen_by_stock().await, [2]);
    check_log(&world, false).await;
}
