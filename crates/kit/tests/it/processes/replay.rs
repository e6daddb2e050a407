//! Replays all streams from the beginning, in a copy of the mall.

use super::world::{Mall, TRANSPORTS};
use uuid::Uuid;

/// State of the services, without the number of deliveries.
async fn state(mall: &Mall) -> Vec<String> {
    let mut found = vec![format!("left: {}", mall.number("select units from stock_shelf").await)];
    for sql in [
        "select id, state || ' ' || laps from orders_asks order by 1",
        "select order_id, cast(quantity as text) from stock_reservations order by 1",
        "select order_id, '' from coupons_holds order by 1",
        "select distinct s.key, s.source from wallet_seen s order by 1, 2",
    ] {
        found.extend(mall.rows::<(Uuid, String)>(sql).await.into_iter().map(|(key, value)| format!("{key}: {value}")));
    }
    found
}

// F21, I-M9: every reader starts again with the first message and reaches the same state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_from_zero_reaches_the_same_state() {
    for transport in TRANSPORTS {
        let mall = Mall::new(transport, 2).await;
        let instance = mall.join().await;
        instance.ask_all(30).await;
        mall.eventually("select count(*) from orders_asks where state='HELD'", 30).await;
        mall.check().await;
        instance.stop().await;
        let (mall, copy) = mall.copy().await;
        let before = state(&mall).await;
        assert!(before.len() > 90, "{before:?}");
        for service in ["orders", "stock", "coupons", "wallet"] {
            copy.execute(&format!("update {service}_positions set seq=0, feed_offset=null")).await;
            copy.execute(&format!("delete from {service}_deliveries")).await;
            // The copy has its own topics, which are still empty.
            copy.execute(&format!("delete from {service}_relay")).await;
        }
        // The wallet only records, so its table can be rebuilt.
        copy.execute("delete from wallet_seen").await;
        let instance = copy.join().await;
        copy.eventually(&super::world::lag(&copy.db), 0).await;
        copy.eventually("select count(*) from wallet_seen where source='stock'", 60).await;
        assert_eq!(state(&copy).await, before, "{transport:?}");
        // The copy then continues.
        instance.ask_all(3).await;
        copy.eventually("select count(*) from orders_asks where state='HELD'", 33).await;
        instance.stop().await;
    }
}
