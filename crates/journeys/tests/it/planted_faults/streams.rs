//! Faults in the streams: messages, positions, deliveries, dead letters.

use super::{PlantedFault, fault};
use contracts::SERVICES;

pub fn planted_faults() -> Vec<PlantedFault> {
    [unsent_messages(), order_of_steps(), readers(), partitions(), epochs()].into_iter().flatten().collect()
}

/// Repeats the SQL for every service.
fn for_each_service(sql: &str) -> String {
    SERVICES.iter().map(|service| sql.replace("{service}", service)).collect::<Vec<_>>().join(";")
}

/// Faults in a partition other than the first, which no mall of these tests has.
fn partitions() -> Vec<PlantedFault> {
    let deliveries =
        |ranges: &str| format!("insert into stock_deliveries (source, epoch, partition, from_seq, to_seq, at) values {ranges}");
    let position = "insert into stock_positions (source, epoch, partition, seq) values ('orders',1,7,4)";
    vec![
        fault(
            "I-M2",
            &[],
            "insert into orders_outbox select epoch, 5, seq*2, key, kind, data, at, trace from orders_outbox
              where seq<3 and partition=(select partition from orders_outbox where seq=2 limit 1)",
            "orders 1 5 2 4 2",
        ),
        fault(
            "I-M3",
            &[],
            "insert into orders_outbox select epoch, 5, 1, key, kind, data, at, trace from orders_outbox where kind='order.paid' and key={paid}",
            "{paid} orders 2",
        ),
        fault("I-M4", &[], deliveries("('orders',1,5,1,3,0),('orders',1,5,3,4,0)"), "stock orders 3 3"),
        fault("I-M5", &[], deliveries("('orders',1,5,1,2,0),('orders',1,5,4,5,0)"), "stock orders 4 2"),
        fault("I-M6", &[], format!("{position};{}", deliveries("('orders',1,7,1,5,0)")), "stock orders 4 5"),
        fault("I-M7", &[], position, "stock orders 4 –"),
    ]
}

/// Faults after a stream got a new epoch.
fn epochs() -> Vec<PlantedFault> {
    let anew = for_each_service("insert into {service}_stream (epoch, started_at, partitions) values (2, 0, 1)");
    // The dead letter is the last of its key in its epoch, and all readers have read the later messages.
    let after_dead_letter = format!(
        "{anew};
         insert into stock_dead_letters select 'orders', epoch, partition, seq, key, kind, data, at, trace, 'no', 'dead', at, null
          from orders_outbox where key={{paid}} and kind='stock.commit';
         insert into orders_outbox select 2, 0, 1, key, kind, data, at, trace from orders_outbox where key={{paid}} and kind='stock.commit';
         {}",
        for_each_service("insert into {service}_positions (source, epoch, partition, seq) values ('orders', 2, 0, 1)")
    );
    vec![
        fault("I-M3", &[], "update orders_outbox set epoch=2 where kind='stock.reserve'", "stock.commit"),
        fault("I-M5", &[], format!("{anew}; delete from stock_positions where source='orders'"), "stock orders"),
        fault("I-M8", &[], after_dead_letter, "stock orders {paid} 1"),
    ]
}

/// Data with unread messages, in which no invariant is violated.
pub fn not_quiet() -> Vec<String> {
    let unread = "insert into orders_outbox values (1, 5, 1, x'00000000000070008000000000000001', 'nothing', '{}', 0, null)";
    vec![
        unread.to_owned(),
        // One reader lags in one partition, and another is as far ahead in its own.
        format!("{unread};{}; delete from wallet_positions where partition=5", passed(1)),
        "create table if not exists stock_pending (id BIGINT primary key); insert into stock_pending values (7)".to_owned(),
    ]
}

fn passed(seq: i64) -> String {
    for_each_service(&format!("insert into {{service}}_positions (source, epoch, partition, seq) values ('orders', 1, 5, {seq})"))
}

/// Unusual data without a violation.
pub fn harmless() -> Vec<String> {
    vec![
        // One partition was pruned to its last message, as after a week. In another the last message is much older.
        format!(
            "delete from orders_outbox where seq<(select max(o.seq) from orders_outbox o
              where o.epoch=orders_outbox.epoch and o.partition=orders_outbox.partition);
             insert into orders_outbox values (1, 5, 7, x'00000000000070008000000000000001', 'nothing', '{{}}', 0, null);
             {}",
            passed(7)
        ),
        // A new epoch, after every reader read the old one to its end.
        for_each_service("insert into {service}_stream (epoch, started_at, partitions) values (2, 0, 4)"),
    ]
}

/// Changes without their message.
fn unsent_messages() -> Vec<PlantedFault> {
    let hide = |source: &str, kind: &str| format!("update {source}_outbox set kind='nothing' where kind='{kind}'");
    vec![
        fault("I-M1", &[], hide("orders", "order.paid"), "order.paid {paid}"),
        fault("I-M1", &[], hide("orders", "order.cancelled"), "order.cancelled {ended}"),
        fault("I-M1", &[], "update orders_orders set state='FAILED' where id={ended}", "order.failed {ended}"),
        fault("I-M1", &[], "update orders_orders set state='EXPIRED' where id={ended}", "order.expired {ended}"),
        fault("I-M1", &[], hide("coupons", "coupon.issued"), "coupon.issued {coupon}"),
        fault("I-M2", &[], "delete from orders_outbox where seq=2", "orders 1 "),
        fault("I-M2", &[], "delete from coupons_outbox where seq=2", "coupons 1 "),
    ]
}

/// Every pair of a step and the message that must follow it.
fn order_of_steps() -> Vec<PlantedFault> {
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
    PAIRS.into_iter().map(|(step, after)| fault("I-M3", &[], late(step), after)).collect()
}

fn readers() -> Vec<PlantedFault> {
    const DELIVERIES: &[&str] = &["stock_deliveries"];
    let last = "source='orders' and from_seq=(select max(from_seq) from stock_deliveries where source='orders')";
    let inner = "source='orders' and from_seq=(select min(d.from_seq) from stock_deliveries d join stock_deliveries later
                  on later.source=d.source and later.epoch=d.epoch and later.partition=d.partition and later.from_seq>d.from_seq
                  where d.source='orders' and d.from_seq>1)";
    vec![
        fault("I-M4", DELIVERIES, format!("insert into stock_deliveries select * from stock_deliveries where {last}"), "stock orders"),
        // Overlapping, but not equal.
        fault("I-M4", DELIVERIES, format!("update stock_deliveries set from_seq=from_seq-1 where {last}"), "stock orders"),
        fault("I-M5", DELIVERIES, format!("delete from stock_deliveries where {inner}"), "stock orders"),
        fault("I-M6", &[], format!("update stock_deliveries set to_seq=to_seq+1 where {last}"), "stock orders"),
        fault("I-M6", &[], "update stock_positions set seq=seq-1 where source='orders'", "stock orders"),
        fault("I-M7", &[], "update stock_positions set seq=seq+1 where source='orders'", "stock orders"),
        fault("I-M7", &[], "delete from orders_outbox where seq=(select max(seq) from orders_outbox)", "orders"),
        fault(
            "I-M8",
            &[],
            "insert into stock_dead_letters select 'orders', epoch, partition, seq, key, kind, data, at, trace, 'no', 'dead', at, null
             from orders_outbox where key={paid} and kind='stock.reserve'",
            "stock orders {paid}",
        ),
    ]
}
