//! Plants in the streams: messages, positions, deliveries, dead letters.

use super::{Plant, plant};

pub fn plants() -> Vec<Plant> {
    [said(), order_of_steps(), readers()].into_iter().flatten().collect()
}

/// Changes that were made and not said.
fn said() -> Vec<Plant> {
    let unsaid = |source: &str, kind: &str| format!("update {source}_outbox set kind='nothing' where kind='{kind}'");
    vec![
        plant("I-M1", &[], unsaid("orders", "order.paid"), "order.paid {paid}"),
        plant("I-M1", &[], unsaid("orders", "order.cancelled"), "order.cancelled {ended}"),
        plant("I-M1", &[], "update orders_orders set state='FAILED' where id={ended}", "order.failed {ended}"),
        plant("I-M1", &[], "update orders_orders set state='EXPIRED' where id={ended}", "order.expired {ended}"),
        plant("I-M1", &[], unsaid("coupons", "coupon.issued"), "coupon.issued {coupon}"),
        plant("I-M2", &[], "delete from orders_outbox where seq=2", "orders 1 0 1"),
        plant("I-M2", &[], "delete from coupons_outbox where seq=2", "coupons 1 0 1"),
    ]
}

/// Every pair of a step and what must come after it.
fn order_of_steps() -> Vec<Plant> {
    const PAIRS: [(&str, &str); 7] = [
        ("stock.reserve", "stock.release"),
        ("stock.reserve", "stock.commit"),
        ("coupon.hold", "coupon.unhold"),
        ("coupon.hold", "coupon.use"),
        ("points.hold", "points.unhold"),
        ("points.hold", "points.use"),
        ("payment.request", "payment.cancel"),
    ];
    let late = |step: &str| format!("update orders_outbox set seq=seq+100000 where kind='{step}'");
    PAIRS.into_iter().map(|(step, after)| plant("I-M3", &[], late(step), after)).collect()
}

fn readers() -> Vec<Plant> {
    const DELIVERIES: &[&str] = &["stock_deliveries"];
    let last = "source='orders' and from_seq=(select max(from_seq) from stock_deliveries where source='orders')";
    let second = "source='orders' and from_seq=(select min(from_seq) from stock_deliveries where source='orders' and from_seq>1)";
    vec![
        plant("I-M4", DELIVERIES, format!("insert into stock_deliveries select * from stock_deliveries where {last}"), "stock orders"),
        // Overlapping without being equal.
        plant("I-M4", DELIVERIES, format!("update stock_deliveries set from_seq=from_seq-1 where {last}"), "stock orders"),
        plant("I-M5", DELIVERIES, format!("delete from stock_deliveries where {second}"), "stock orders"),
        plant("I-M6", &[], format!("update stock_deliveries set to_seq=to_seq+1 where {last}"), "stock orders"),
        plant("I-M6", &[], "update stock_positions set seq=seq-1 where source='orders'", "stock orders"),
        plant("I-M7", &[], "update stock_positions set seq=seq+1 where source='orders'", "stock orders"),
        plant("I-M7", &[], "delete from orders_outbox where seq=(select max(seq) from orders_outbox)", "orders"),
        plant(
            "I-M8",
            &[],
            "insert into stock_dead_letters select 'orders', epoch, partition, seq, key, kind, data, at, trace, 'no', 'dead', at, null
             from orders_outbox where key={paid} and kind='stock.reserve'",
            "stock orders {paid}",
        ),
    ]
}
