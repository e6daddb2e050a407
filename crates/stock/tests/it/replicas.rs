//! Several processes on one database: together they never oversell.

use crate::world::{World, services};
use contracts::{
    Message, OrderId, Sku,
    calls::{GetAvailability, GetStockVersion, StoreCard},
    messages::StepCommand,
};
use futures::future::join_all;
use kit::ports::new_id;
use serde_json::json;
use std::time::Duration;
use testkit::{App, TestResponse};

/// Two processes, each with some of the partitions.
async fn two_processes() -> (World, World) {
    let one = World::with(App::builder().on_postgres().partitions(4)).await;
    let store = StoreCard { store_id: one.store_id, name: "Cellar".into(), seller_id: Some(one.seller_id) };
    let app = one.app.start_another_process(|kit| services(kit, store.clone())).await;
    let other = World { app, store_id: one.store_id, seller_id: one.seller_id };
    (one, other)
}

async fn adjust(world: &World, sku: Sku, delta: i64, key: &str) -> TestResponse {
    let body = json!({"delta": delta, "reason": "counted"});
    world.app.post(format!("/v1/stock/{sku}/adjustments")).bearer(&world.seller()).key(key).json(&body).send().await
}

async fn available(world: &World, sku: Sku) -> Option<i64> {
    let found = world.app.kit().links.call(GetAvailability { skus: vec![sku] }).await.expect("stock answers");
    found.get(&sku).copied()
}

// S1, S2, I-S1: two processes read 60 orders for 20 units of two SKUs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_orders_compete_for_twenty_units() {
    let (one, other) = two_processes().await;
    let (a, b) = (one.sku(20).await, one.sku(20).await);
    let orders: Vec<OrderId> = (0..60).map(|_| OrderId(new_id())).collect();
    join_all(orders.iter().enumerate().map(|(n, order)| {
        let world = if n % 2 == 0 { &one } else { &other };
        // The lines come in both orders.
        let lines = if n % 3 == 0 { [(a, 1), (b, 1)] } else { [(b, 1), (a, 1)] };
        world.send(*order, vec![world.reserve(*order, &lines)])
    }))
    .await;
    let mut held = Vec::new();
    for order in &orders {
        match one.answer_kinds(*order).await.as_slice() {
            ["stock.reserved"] => held.push(*order),
            ["stock.refused"] => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(held.len(), 20);
    // Half are paid, half undone, through either process.
    join_all(held.iter().enumerate().map(|(n, order)| {
        let step = StepCommand { order_id: *order };
        let message = if n % 2 == 0 { Message::StockCommit(step) } else { Message::StockRelease(step) };
        if n % 4 < 2 { one.send(*order, vec![message]) } else { other.send(*order, vec![message]) }
    }))
    .await;
    one.app.eventually("select count(*) from stock_holds where state='ACTIVE'", 0).await;
    let level = async |sku: Sku| {
        let sql = format!("select on_hand, reserved, sold from stock_items where sku=x'{}'", sku.0.simple());
        one.app.rows::<(i64, i64, i64)>(&sql).await[0]
    };
    for sku in [a, b] {
        assert_eq!(level(sku).await, (10, 0, 10));
    }
    assert_eq!(one.app.sql_i64("select count(*) from stock_dead_letters").await, 0);
    one.audit().await;
}

// S6: changes of one SKU on two processes add up, and each key counts once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_on_two_processes_add_up() {
    let (one, other) = two_processes().await;
    let sku = one.sku(100).await;
    join_all((0..30).map(|n| {
        let (one, other) = (&one, &other);
        async move {
            let (key, of_other) = (format!("k{n}"), format!("o{n}"));
            let (first, again, second) =
                tokio::join!(adjust(one, sku, -1, &key), adjust(other, sku, -1, &key), adjust(other, sku, 2, &of_other));
            let (first, again, _) = (first.expect(200), again.expect(200), second.expect(200));
            assert_eq!(first.bytes, again.bytes, "both get the same answer");
        }
    }))
    .await;
    assert_eq!(one.app.sql_i64("select on_hand from stock_items").await, 130);
    one.audit().await;
}

// S1: a sale on one process reaches the other within moments, and changes its version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_on_another_process_becomes_visible() {
    let (one, other) = two_processes().await;
    let sku = one.sku(9).await;
    for world in [&one, &other] {
        assert_eq!(available(world, sku).await, Some(9));
    }
    let version = async || other.app.kit().links.call(GetStockVersion {}).await.expect("stock answers");
    let before = version().await;
    let _ = adjust(&one, sku, -4, "k").await.expect(200);
    for _ in 0..300 {
        if available(&other, sku).await == Some(5) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(available(&other, sku).await, Some(5));
    assert_ne!(version().await, before);
}
