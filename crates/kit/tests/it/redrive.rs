//! Redrive of dead letters.

use super::world::{Failure, World, check_log, commit, new_order, release, reserve};
use contracts::OrderId;
use kit::engine::request_redrive;
use std::time::Duration;
use uuid::Uuid;

async fn redrive(world: &World, key: Option<OrderId>) -> u64 {
    request_redrive(&mut world.second_writer().await, "stock", key.map(Uuid::from)).await.unwrap()
}

async fn states(world: &World) -> Vec<String> {
    world.app.rows::<(String,)>("select state from stock_dead_letters order by seq").await.into_iter().map(|(state,)| state).collect()
}

async fn wait_until_tried(world: &World) {
    world.app.eventually("select count(*) from stock_dead_letters where state='redrive'", 0).await;
}

/// An order whose reservation is a dead letter, with two messages parked behind it.
async fn with_dead_letters() -> (World, OrderId) {
    let world = World::start().await;
    let bad = new_order();
    world.fail_for(bad, Failure::Fault);
    for message in [reserve(bad, 1), release(bad), commit(bad)] {
        world.emit_for_orders(message).await;
    }
    world.app.eventually("select count(*) from stock_dead_letters", 3).await;
    (world, bad)
}

#[tokio::test]
async fn letters_are_redriven_in_order() {
    let (world, bad) = with_dead_letters().await;
    world.stop_failing(bad);
    assert_eq!(redrive(&world, None).await, 3);
    world.app.eventually("select count(*) from stock_dead_letters where state='resolved' and resolved_at is not null", 3).await;
    assert_eq!(world.seen_by_stock().await, [1, 2, 3]);
    // The messages that the letters emitted are read, and the key flows again.
    world.app.eventually("select count(*) from orders_seen", 2).await;
    world.emit_for_orders(release(bad)).await;
    assert_eq!(world.seen_by_stock().await, [1, 2, 3, 4]);
    assert_eq!(world.units_left().await, super::world::STOCK - 1);
    check_log(&world, true).await;
    assert_eq!(redrive(&world, None).await, 0, "resolved letters are not redriven");
}

#[tokio::test]
async fn a_letter_that_fails_again_stays_with_those_behind_it() {
    let (world, bad) = with_dead_letters().await;
    assert_eq!(redrive(&world, None).await, 3);
    wait_until_tried(&world).await;
    assert_eq!(states(&world).await, ["dead", "parked", "parked"]);
    assert_eq!(world.seen_by_stock().await, [0_i64; 0]);
    world.emit_for_orders(reserve(bad, 1)).await;
    assert_eq!(states(&world).await, ["dead", "parked", "parked", "parked"]);
    check_log(&world, true).await;
    world.stop_failing(bad);
    redrive(&world, Some(bad)).await;
    world.app.eventually("select count(*) from stock_dead_letters where state='resolved'", 4).await;
    assert_eq!(world.seen_by_stock().await, [1, 2, 3, 4]);
    check_log(&world, true).await;
}

#[tokio::test]
async fn only_letters_of_the_named_key_are_redriven() {
    let (world, bad) = with_dead_letters().await;
    let other = new_order();
    world.fail_for(other, Failure::Panic);
    world.emit_for_orders(reserve(other, 1)).await;
    world.app.eventually("select count(*) from stock_dead_letters where state='dead'", 2).await;
    world.stop_failing(bad);
    world.stop_failing(other);
    assert_eq!(redrive(&world, Some(other)).await, 1);
    world.app.eventually("select count(*) from stock_dead_letters where state='resolved'", 1).await;
    assert_eq!(states(&world).await, ["dead", "parked", "parked", "resolved"]);
    assert_eq!(world.seen_by_stock().await, [4]);
    check_log(&world, true).await;
}

#[tokio::test]
async fn a_failing_key_does_not_block_another() {
    let (world, bad) = with_dead_letters().await;
    let other = new_order();
    world.fail_for(other, Failure::Fault);
    world.emit_for_orders(reserve(other, 1)).await;
    world.app.eventually("select count(*) from stock_dead_letters where state='dead'", 2).await;
    world.stop_failing(other);
    assert_eq!(redrive(&world, None).await, 4);
    world.app.eventually("select count(*) from stock_dead_letters where state='resolved'", 1).await;
    wait_until_tried(&world).await;
    assert_eq!(states(&world).await, ["dead", "parked", "parked", "resolved"]);
    world.stop_failing(bad);
    redrive(&world, None).await;
    world.app.eventually("select count(*) from stock_dead_letters where state='resolved'", 4).await;
    assert_eq!(world.seen_by_stock().await, [4, 1, 2, 3]);
}

// One more message is parked between the operator's mark and the redrive.
#[tokio::test]
async fn messages_parked_behind_marked_letters_are_redriven() {
    let (world, bad) = with_dead_letters().await;
    world.stop_failing(bad);
    world.emit_for_orders(release(bad)).await;
    world.execute("update stock_dead_letters set state='redrive' where seq<=3").await;
    world.app.eventually("select count(*) from stock_dead_letters where state='resolved'", 4).await;
    assert_eq!(world.seen_by_stock().await, [1, 2, 3, 4]);
    check_log(&world, true).await;
}

#[tokio::test]
async fn letters_marked_offline_are_redriven_at_start() {
    let (world, bad) = with_dead_letters().await;
    world.stop_failing(bad);
    redrive(&world, None).await;
    let world = world.restart().await;
    world.app.eventually("select count(*) from stock_dead_letters where state='resolved'", 3).await;
    assert_eq!(world.seen_by_stock().await, [1, 2, 3]);
    check_log(&world, true).await;
}

// Handlers depend on a message's time and trace, so a letter must keep both.
#[tokio::test]
async fn a_dead_letter_keeps_its_time_and_trace() {
    let world = World::start().await;
    let (bad, trace) = (new_order(), Uuid::from_u128(77));
    let written = world.app.clock_now();
    world.fail_for(bad, Failure::Fault);
    world.submit(super::world::Ask { trace: Some(trace), ..super::world::Ask::one(bad) }).await.unwrap();
    world.app.eventually("select count(*) from stock_dead_letters", 1).await;
    world.app.clock.advance(Duration::from_secs(300));
    world.stop_failing(bad);
    redrive(&world, None).await;
    world.app.eventually("select count(*) from orders_asks where state='HELD'", 1).await;
    let seen = world.app.rows::<(i64, Option<Uuid>)>("select at, trace from stock_seen").await;
    assert_eq!(seen, [(written.0, Some(trace))]);
    let traces = world.app.rows::<(Option<Uuid>,)>("select trace from stock_outbox union all select trace from coupons_outbox").await;
    assert_eq!(traces, [(Some(trace),), (Some(trace),)]);
}

// Redrive must not wait for an idle moment.
#[tokio::test]
async fn letters_are_redriven_under_load() {
    let (world, bad) = with_dead_letters().await;
    world.stop_failing(bad);
    redrive(&world, None).await;
    for n in 0..20_000 {
        super::world::answer(world.submit(super::world::Count::by(1)).await);
        if n % 20 == 0 && world.app.sql_i64("select count(*) from stock_dead_letters where state='resolved'").await == 3 {
            return;
        }
    }
    panic!("not redriven under load: {:?}", states(&world).await);
}
