//! Poison messages between processes: dead-lettered by key, while all others flow. See also `dead_letters`.

use super::world::{Failure, Mall, TRANSPORTS, new_order};
use contracts::OrderId;
use kit::engine::request_redrive;
use testkit::START;

/// Writes a message of the orders service that this version cannot decode.
async fn write_undecodable(mall: &Mall, order: OrderId) {
    let sql = format!(
        "insert into orders_pending (partition, key, kind, data, at) values ({},'{}','stock.reserve','{{\"order_id\":7}}',{})",
        mall.partition_of(order),
        order.0,
        // An old message would be pruned as soon as it is read.
        START.0
    );
    assert_eq!(mall.execute(&sql).await, 1);
}

// F23, I-M5, I-M8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_dead_lettered_and_others_flow() {
    for transport in TRANSPORTS {
        let mall = Mall::new(transport, 2).await;
        let instance = mall.join().await;
        let plan = [(Failure::Fault, "bug: "), (Failure::Panic, "panic: "), (Failure::Conflict, "40001")];
        let mut bad: Vec<(OrderId, &str)> = Vec::new();
        for (how, says) in plan {
            let order = new_order();
            mall.fail_for(order, how);
            instance.ask_for(order).await;
            bad.push((order, says));
        }
        let nonsense = new_order();
        write_undecodable(&mall, nonsense).await;
        bad.push((nonsense, "data does not fit its type"));
        let good = instance.ask_all(40).await.len();
        mall.eventually("select count(*) from orders_asks where state='HELD'", good.try_into().unwrap()).await;
        mall.eventually("select count(*) from stock_dead_letters where state='dead'", 4).await;
        // The dead letter and the position commit together. Otherwise one would show without the other.
        mall.check().await;
        for (order, says) in &bad {
            let sql = format!("select error, state from stock_dead_letters where key='{}'", order.0);
            let letters: Vec<(String, String)> = mall.rows(&sql).await;
            assert!(
                matches!(letters.as_slice(), [(error, state)] if error.contains(says) && state == "dead"),
                "{transport:?}: {letters:?}"
            );
        }
        // Later messages of these keys are parked, although the cause is gone.
        for (order, _) in &bad[..3] {
            mall.stop_failing(*order);
            let again = format!(
                "insert into orders_pending (partition, key, kind, data, at) select {}, key, kind, data, at from orders_outbox where key='{}'",
                mall.partition_of(*order),
                order.0
            );
            assert_eq!(mall.execute(&again).await, 1);
        }
        mall.eventually("select count(*) from stock_dead_letters where state='parked'", 3).await;
        mall.check().await;
        let mut tx = mall.second_writer().await;
        for (order, _) in &bad {
            assert!(request_redrive(&mut tx, "stock", Some(order.0)).await.unwrap() > 0);
        }
        mall.eventually("select count(*) from orders_asks where state='HELD'", i64::try_from(good).unwrap() + 3).await;
        mall.eventually("select count(*) from stock_dead_letters where state='resolved'", 6).await;
        // The undecodable message stays a dead letter.
        mall.eventually("select count(*) from stock_dead_letters where state='dead'", 1).await;
        mall.eventually("select count(*) from stock_dead_letters where state='redrive'", 0).await;
        mall.check().await;
        instance.stop().await;
    }
}

// F24
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_message_of_five_hundred_fails_alone() {
    for transport in TRANSPORTS {
        let mall = Mall::new(transport, 1).await;
        let instance = mall.join().await;
        let orders: Vec<OrderId> = (0..500).map(|_| new_order()).collect();
        mall.fail_for(orders[321], Failure::Fault);
        mall.faults.hold("stock", "stock.reserve");
        futures::future::join_all(orders.iter().map(|order| instance.ask_for(*order))).await;
        mall.published_or_numbered("orders").await;
        mall.faults.release("stock", "stock.reserve");
        mall.eventually("select count(*) from orders_asks where state='HELD'", 499).await;
        mall.eventually("select count(*) from stock_dead_letters", 1).await;
        mall.check().await;
        assert_eq!(mall.number("select units from stock_shelf").await, super::world::STOCK - 499, "{transport:?}");
        let letters: Vec<(uuid::Uuid, String)> = mall.rows("select key, state from stock_dead_letters").await;
        assert_eq!(letters, [(orders[321].0, "dead".to_owned())]);
        instance.stop().await;
    }
}
