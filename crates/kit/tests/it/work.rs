//! State of a transaction: loaded rows, flush, traces.

use super::world::{Ask, STOCK, World, answer, check_log, new_order, submit_together};
use contracts::OrderId;
use std::sync::atomic::Ordering;
use uuid::Uuid;

// Only SQLite has several rounds in one transaction.
#[tokio::test]
async fn flush_runs_once_per_transaction() {
    let world = World::on_sqlite().await;
    let tried = world.orders.tried();
    let calls = world.stock.calls.load(Ordering::SeqCst);
    answer(world.submit(super::world::Laps { order_id: new_order(), laps: 20 }).await);
    assert_eq!(world.stock.calls.load(Ordering::SeqCst) - calls, 21);
    assert_eq!(world.orders.tried() - tried, 1);
    check_log(&world, true).await;
}

// A row loaded by a rolled-back transaction must be read again.
#[tokio::test]
async fn loaded_rows_end_with_their_transaction() {
    let world = World::start().await;
    let orders: Vec<OrderId> = (0..8).map(|_| new_order()).collect();
    world.fail_for(orders[7], super::world::Failure::Fault);
    submit_together(&world, orders.iter().map(|order| Ask { quantity: 10, ..Ask::one(*order) })).await;
    world.app.eventually("select count(*) from orders_asks where state='HELD'", 7).await;
    world.app.eventually("select count(*) from stock_dead_letters", 1).await;
    assert_eq!(world.units_left().await, STOCK - 70);
    let loads = world.stock.loads.load(Ordering::SeqCst);
    world.ask().await;
    world.ask().await;
    assert_eq!(world.stock.loads.load(Ordering::SeqCst) - loads, 2);
    assert_eq!(world.units_left().await, STOCK - 72);
}

async fn traces(world: &World, order: OrderId) -> Vec<Option<Uuid>> {
    let mut found = Vec::new();
    for source in ["orders", "stock", "coupons"] {
        let sql = format!("select key, trace from {source}_outbox order by seq");
        let rows = world.app.rows::<(Uuid, Option<Uuid>)>(&sql).await;
        found.extend(rows.into_iter().filter(|(key, _)| *key == order.0).map(|(_, trace)| trace));
    }
    found
}

#[tokio::test]
async fn a_trace_follows_every_message_it_caused() {
    for world in World::in_each_mode().await {
        let orders: Vec<OrderId> = (0..3).map(|_| new_order()).collect();
        let trace_of = [Some(Uuid::from_u128(11)), None, Some(Uuid::from_u128(22))];
        let asks = orders.iter().zip(trace_of).map(|(order, trace)| Ask { trace, ..Ask::one(*order) });
        submit_together(&world, asks).await;
        world.app.eventually("select count(*) from orders_asks where state='HELD'", 3).await;
        for (order, trace) in orders.iter().zip(trace_of) {
            assert_eq!(traces(&world, *order).await, [trace; 4], "two of orders, one of stock, one of coupons");
        }
    }
}

#[tokio::test]
async fn a_trace_survives_a_restart() {
    let world = World::start().await;
    world.app.faults.hold("stock", "stock.reserve");
    let (order, trace) = (new_order(), Some(Uuid::from_u128(33)));
    world.submit(Ask { trace, ..Ask::one(order) }).await.unwrap();
    let world = world.restart().await;
    world.app.eventually("select count(*) from orders_asks where state='HELD'", 1).await;
    assert_eq!(traces(&world, order).await, [trace; 4]);
}
