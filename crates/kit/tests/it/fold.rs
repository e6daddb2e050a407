//! Folded hops, which share the writing transaction, and the same hops in separate transactions.
//!
//! Only SQLite has one transaction for several services. PostgreSQL must reach the same result.

use super::world::{Ask, Submitted, World, answer, check_log, commit, dump, hold, new_order, release, reserve, submit_together};
use contracts::OrderId;
use kit::Reply;
use uuid::Uuid;

fn status(submitted: &Submitted) -> u16 {
    match submitted {
        Ok(Reply::Answer(answer)) => answer.status,
        Ok(Reply::Pending(_)) => 202,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_whole_exchange_is_one_commit() {
    let world = World::on_sqlite().await;
    let before = world.orders.committed();
    let order = new_order();
    let held = answer(world.submit(Ask::one(order)).await);
    assert_eq!((held.status, held.location), (201, Some(format!("/v1/asks/{order}"))));
    assert_eq!(world.orders.committed() - before, 1);
    // Every reader moved once: one commit wrote and read the messages.
    let deliveries = "select source, from_seq, to_seq from";
    assert_eq!(world.app.rows::<(String, i64, i64)>(&format!("{deliveries} stock_deliveries")).await, [("orders".into(), 1, 2)]);
    assert_eq!(world.app.rows::<(String, i64, i64)>(&format!("{deliveries} coupons_deliveries")).await, [("orders".into(), 1, 2)]);
    check_log(&world, true).await;
}

#[tokio::test]
async fn unfolded_hops_commit_separately() {
    let world = World::unfolded().await;
    let before = world.orders.committed();
    let order = new_order();
    assert_eq!(world.submit(Ask::one(order)).await, Ok(Reply::Pending(order.into())));
    world.app.eventually("select count(*) from orders_asks where state='HELD'", 1).await;
    world.app.eventually("select seq from wallet_positions where source='coupons'", 1).await;
    // On SQLite the counter includes the transactions of all services. On PostgreSQL it has those of orders: asked, reserved, held.
    assert!(world.orders.committed() - before >= if world.app.is_postgres() { 3 } else { 5 });
    check_log(&world, true).await;
}

/// Mixed work: stock that runs out, several messages of one key, and keys without an ask.
async fn run(world: &World, orders: &[OrderId]) -> Vec<u16> {
    world.execute("update stock_shelf set units=10").await;
    let asks = orders.iter().zip(0..).map(|(order, n)| Ask { quantity: 1 + n % 3, ..Ask::one(*order) });
    let statuses = submit_together(world, asks).await.iter().map(status).collect();
    world.app.wait_until_quiescent().await;
    for order in orders {
        for message in [commit(*order), release(*order), reserve(*order, 1), hold(*order)] {
            world.emit_for_orders(message).await;
        }
    }
    world.app.eventually("select count(*) from orders_asks where state in ('HELD','REFUSED')", orders.len().try_into().unwrap()).await;
    for (reader, source) in [("stock", "orders"), ("coupons", "orders"), ("orders", "stock"), ("wallet", "coupons")] {
        let behind =
            format!("select (select max(seq) from {source}_outbox) - (select seq from {reader}_positions where source='{source}')");
        world.app.eventually(&behind, 0).await;
    }
    check_log(world, true).await;
    statuses
}

// The unfolded world uses the database of the environment.
#[tokio::test]
async fn folding_does_not_change_the_result() {
    let orders: Vec<OrderId> = (1..=12).map(|n| OrderId(Uuid::from_u128(n))).collect();
    let (folded, unfolded) = (World::on_sqlite().await, World::unfolded().await);
    let statuses = run(&folded, &orders).await;
    assert!(statuses.contains(&201) && statuses.contains(&409), "{statuses:?}");
    assert!(run(&unfolded, &orders).await.iter().all(|status| *status == 202));
    let (one, other) = (dump(&folded.app.kit().db).await, dump(&unfolded.app.kit().db).await);
    assert!(one.len() > 40, "{one:?}");
    assert_eq!(one, other);
}

#[tokio::test]
async fn a_batch_of_exchanges_reads_the_hot_row_once() {
    let world = World::on_sqlite().await;
    let loads = world.stock.loads.load(std::sync::atomic::Ordering::SeqCst);
    let results = submit_together(&world, (0..200).map(|_| Ask::one(new_order()))).await;
    assert!(results.iter().all(|result| status(result) == 201));
    assert_eq!(world.stock.loads.load(std::sync::atomic::Ordering::SeqCst) - loads, 1);
    assert_eq!(world.units_left().await, super::world::STOCK - 200);
    check_log(&world, true).await;
}

#[tokio::test]
async fn a_held_reader_does_not_stop_others() {
    let world = World::on_sqlite().await;
    world.app.faults.hold("stock", "stock.reserve");
    let first = new_order();
    assert_eq!(status(&world.submit(Ask::one(first)).await), 202);
    // Not held itself, but behind a held message.
    world.emit_for_orders(commit(first)).await;
    world.emit_for_orders(hold(new_order())).await;
    assert_eq!(world.app.sql_i64("select count(*) from coupons_holds").await, 1);
    assert_eq!((world.position("stock", "orders").await, world.position("coupons", "orders").await), (0, 3));
    check_log(&world, false).await;
    world.app.faults.release("stock", "stock.reserve");
    world.app.eventually("select count(*) from orders_asks where state='HELD'", 1).await;
    assert_eq!(world.seen_by_stock().await, [1, 2]);
    check_log(&world, true).await;
    assert_eq!(status(&world.submit(Ask::one(new_order())).await), 201, "folded again after the release");
}

#[tokio::test]
async fn a_repeated_message_has_one_effect() {
    for world in World::in_each_mode().await {
        world.app.faults.repeat("stock", "stock.reserve", 1);
        let order = world.ask().await;
        world.app.eventually("select count(*) from orders_asks where state='HELD'", 1).await;
        assert_eq!(world.app.faults.times_applied("stock", "stock.reserve"), 1);
        assert_eq!(world.seen_by_stock().await, [1, 1]);
        assert_eq!(world.units_left().await, super::world::STOCK - 1);
        world.app.eventually("select seq from orders_positions where source='stock'", 2).await;
        let answers = world.app.messages("stock").await;
        assert_eq!(answers.len(), 2);
        assert!(answers.iter().all(|(key, message)| *key == order.0 && *message == answers[0].1));
    }
}

// A reader of several streams gets the messages of one round in the order they were written, each as often as planned.
#[tokio::test]
async fn a_round_of_several_streams_keeps_order_and_repeats() {
    let world = World::on_sqlite().await;
    let order = new_order();
    world.app.faults.repeat("wallet", "stock.reserved", 1);
    let both = vec![reserve(order, 1), hold(order)];
    world.app.emit_all("orders", order, both).await;
    let heard = world.app.rows::<(i64, String, i64)>("select call, source, seq from wallet_seen order by n").await;
    let expected = [(1, "coupons", 1), (1, "stock", 1), (1, "stock", 1)];
    assert_eq!(heard, expected.map(|(call, source, seq)| (call, source.to_owned(), seq)));
}
