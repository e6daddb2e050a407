//! Faults in orders and their sagas.

use super::{PlantedFault, fault};

pub fn planted_faults() -> Vec<PlantedFault> {
    [amounts(), points(), waiting(), without_order(), open_keys(), leftovers(), states(), sagas()].into_iter().flatten().collect()
}

fn amounts() -> Vec<PlantedFault> {
    vec![
        fault("I-O1", &[], "update orders_orders set total=total+1 where id={paid}", "{paid}"),
        fault("I-O1", &[], "update orders_lines set unit_price=unit_price+1 where order_id={paid}", "{paid}"),
        fault("I-O1", &[], "update orders_lines set line_discount=line_discount+1 where order_id={paid}", "{paid}"),
        fault("I-O1", &[], "delete from orders_lines where order_id={paid}", "{paid}"),
        fault("I-O2", &[], "update payments_payments set state='FAILED', code='x' where order_id={paid}", "{paid}"),
        fault("I-O2", &[], "update payments_payments set amount=amount-1 where order_id={tested}", "{tested}"),
        fault(
            "I-O2",
            &["payments_payments"],
            "insert into payments_payments select * from payments_payments where order_id={paid}",
            "{paid}",
        ),
        fault("I-O3", &[], "delete from stock_movements where kind='SALE' and order_id={paid} and line_no=1", "{paid} 1"),
        fault(
            "I-O3",
            &[],
            "update stock_movements set quantity=quantity-1 where kind='SALE' and order_id={paid} and line_no=1",
            "{paid} 1",
        ),
        fault("I-O4", &[], "update coupons_issued set state='HELD', used_at=null where order_id={paid}", "{paid}"),
        fault("I-O4", &[], "update coupons_issued set order_id={tested} where order_id={paid}", "{paid}"),
        fault("I-O4", &[], "delete from coupons_issued where order_id={paid}", "{paid}"),
    ]
}

// finding 10
fn points() -> Vec<PlantedFault> {
    vec![
        // The prices add up, but the wallet has spent less than the order says.
        fault(
            "I-O2b",
            &[],
            "update orders_orders set points_used=points_used+100, discount=discount-100 where id={paid};
             update orders_lines set line_discount=line_discount-100 where order_id={paid} and line_no=1;
             update orders_coupons set discount=discount-100 where order_id={paid}",
            "{paid} 600 500",
        ),
        fault("I-O2b", &[], "delete from wallet_holds where order_id={paid}", "{paid} 500 –"),
        // Left behind by a lost `points.use`, and consistent in the wallet.
        fault(
            "I-O2b",
            &["wallet_accounts"],
            "update wallet_holds set state='HELD' where order_id={paid};
             update wallet_accounts set held=held+500, balance=balance+500 where owner_id={buyer} and kind='REWARD'",
            "{paid} 500 – 500",
        ),
        fault("I-O2b", &["wallet_transactions"], "delete from wallet_transactions where kind='use' and order_id={paid}", "{paid} 500 500"),
    ]
}

// finding 10: an order that awaits its payment. The healthy one has neither points nor coupons.
fn waiting() -> Vec<PlantedFault> {
    vec![
        fault("I-O3b", &[], "delete from stock_holds where order_id={unpaid}", "{unpaid} stock 1 –"),
        fault("I-O3b", &[], "update stock_holds set quantity=quantity+1 where order_id={unpaid}", "{unpaid} stock 1 2"),
        fault("I-O3b", &[], "update orders_orders set points_used=300, total=total-300 where id={unpaid}", "{unpaid} points 300 –"),
        fault("I-O3b", &[], "insert into wallet_holds values ({unpaid}, {buyer}, 70, 'HELD', null, null, 1)", "{unpaid} points 0 70"),
        fault(
            "I-O3b",
            &[],
            "insert into orders_coupons select {unpaid}, issued_coupon_id, name, scope, store_id, base, discount from orders_coupons
             where order_id={paid}",
            "{unpaid} coupon",
        ),
    ]
}

// finding 10, finding 1: effects of orders that do not exist, as after a restore of the database of orders.
fn without_order() -> Vec<PlantedFault> {
    const GHOST: &str = "x'0123456789abcdef0123456789abcdef'";
    let plant = |table: &'static str, change: &str, shows: &'static str| fault("I-O15", &[], format!("update {table} set {change}"), shows);
    let ghost = |condition: &str| format!("order_id={GHOST} where {condition}");
    vec![
        plant("payments_payments", &ghost("order_id={tested}"), "payment 01234567-89ab"),
        plant("payments_refunds", &ghost("order_id={ended_tested}"), "refund 01234567-89ab"),
        plant("stock_movements", &ghost("order_id={paid} and kind='SALE'"), "stock movement 01234567-89ab"),
        plant("stock_holds", &ghost("order_id={unpaid}"), "stock hold 01234567-89ab"),
        plant("stock_reservations", &ghost("order_id={unpaid}"), "stock reservation 01234567-89ab"),
        plant("wallet_holds", &ghost("order_id={paid}"), "points hold 01234567-89ab"),
        fault(
            "I-O15",
            &["wallet_transactions"],
            format!("update wallet_transactions set {}", ghost("order_id={paid} and kind='pay'")),
            "ledger transaction 01234567-89ab",
        ),
        plant("coupons_issued", &ghost("order_id={paid}"), "coupon 01234567-89ab"),
        fault(
            "I-O15",
            &[],
            format!("update coupons_issued set state='HELD', used_at=null, order_id={GHOST} where order_id={{paid}}"),
            "coupon 01234567-89ab",
        ),
    ]
}

// finding 10: a key that answers 409 for ever.
fn open_keys() -> Vec<PlantedFault> {
    let insert = |service: &str, operation: &str| {
        format!("insert into {service}_idempotency values ({{buyer}}, '{operation}', 'lost', zeroblob(32), null, null, null, 1)")
    };
    vec![
        fault("I-A3b", &[], insert("orders", "orders.create"), "orders orders.create lost no open answer"),
        fault("I-A3b", &[], insert("wallet", "wallet.charge"), "wallet wallet.charge lost open"),
        fault(
            "I-A3b",
            &[],
            "insert into orders_open_answers values ({unpaid}, 'orders.create', {buyer}, 'lost', zeroblob(16))",
            "orders orders.create lost no open key",
        ),
    ]
}

/// Holds that an ended order must not leave.
fn leftovers() -> Vec<PlantedFault> {
    let coupon = |state: &str| {
        format!(
            "update coupons_issued set state='{state}', order_id={{ended}} where id in
             (select issued_coupon_id from orders_coupons where order_id={{ended}})"
        )
    };
    vec![
        fault("I-O5", &[], "insert or replace into stock_holds values ({ended}, 1, {sku}, 2, 'ACTIVE')", "{ended} CANCELLED stock held"),
        fault("I-O5", &[], coupon("HELD"), "{ended} CANCELLED coupon held"),
        fault("I-O5", &[], coupon("USED"), "{ended} CANCELLED coupon held"),
        fault("I-O5", &[], "update wallet_holds set state='HELD' where order_id={ended}", "{ended} CANCELLED points held"),
        fault("I-O5", &[], "update wallet_holds set state='USED' where order_id={ended}", "{ended} CANCELLED points held"),
        fault(
            "I-O5",
            &[],
            "delete from stock_movements where kind='RETURN' and order_id={ended} and line_no=1",
            "{ended} CANCELLED stock gone",
        ),
        fault("I-O6", &[], "update payments_refunds set state='PENDING' where order_id={ended}", "{ended}"),
        fault("I-O6", &[], "delete from payments_refunds where order_id={ended_tested}", "{ended_tested}"),
        fault("I-O6", &[], "update payments_refunds set amount=amount-1 where order_id={ended}", "{ended}"),
        fault(
            "I-O7",
            &["wallet_transactions"],
            "update wallet_transactions set order_id=null where order_id={ended} and kind='refund'",
            "{ended}",
        ),
        fault(
            "I-O7",
            &["wallet_transactions"],
            "update wallet_transactions set order_id=null where order_id={ended} and kind='return'",
            "{ended}",
        ),
    ]
}

fn states() -> Vec<PlantedFault> {
    let last = "order_id={paid} and n=(select events from orders_orders where id={paid})";
    vec![
        fault("I-O8", &[], format!("update orders_events set to_state='CONFIRMED' where {last}"), "CONFIRMED"),
        fault("I-O8", &[], format!("update orders_events set from_state='PENDING' where {last}"), "{paid}"),
        fault("I-O8", &[], "update orders_events set to_state='PAYING' where order_id={paid} and n=1", "{paid} 1"),
        fault("I-O8", &[], "update orders_events set n=n+1 where order_id={unpaid} and n=2", "{unpaid} 3"),
        fault("I-O8", &[], "delete from orders_events where order_id={unpaid}", "{unpaid}"),
        fault("I-O8", &[], "update orders_orders set state='PREPARING' where id={paid}", "PREPARING"),
        fault("I-O8", &[], "update orders_orders set events=events+1 where id={paid}", "{paid}"),
        fault(
            "I-O13",
            &[],
            "update orders_orders set (member_id, idempotency_key)=(select member_id, idempotency_key from orders_orders where id={paid})
             where id={tested}",
            "{buyer}",
        ),
    ]
}

fn sagas() -> Vec<PlantedFault> {
    const STEPS: &[&str] = &["orders_steps"];
    let again = |n: &str, kind: &str| {
        format!(
            "insert into orders_steps select order_id, {n}, step, kind, state, code, detail, started_at, ended_at from orders_steps
             where order_id={{ended}} and kind='{kind}' and step='stock.reserve'"
        )
    };
    let undone = |order: &str| format!("delete from orders_steps where order_id={order} and kind='UNDO' and step='stock.reserve'");
    vec![
        fault("I-O9", &[], "update orders_orders set saga_state='RUNNING', due_at=1 where id={unpaid}", "{unpaid} RUNNING"),
        fault("I-O9", &[], "update orders_orders set saga_state='UNDOING', due_at=1 where id={unpaid}", "{unpaid} UNDOING"),
        // An unanswered undo is requested again and again, so it never ends either.
        fault(
            "I-O9",
            &[],
            "update orders_orders set saga_state='UNDOING', due_at=9000000000000000 where id={unpaid};
             update orders_events set at=1 where order_id={unpaid}; update orders_steps set ended_at=1 where order_id={unpaid}",
            "{unpaid} UNDOING",
        ),
        fault("I-O10", STEPS, again("n+100", "DO"), "{ended} stock.reserve DO"),
        fault("I-O10", STEPS, again("n+100", "UNDO"), "{ended} stock.reserve UNDO"),
        fault(
            "I-O11",
            STEPS,
            format!("{}; {}", again("n+100", "DO"), "delete from orders_steps where kind='DO' and n<100"),
            "{ended} stock.reserve",
        ),
        fault("I-O12", &[], undone("{ended}"), "{ended} stock.reserve"),
        fault(
            "I-O12",
            &[],
            "update orders_steps set state='TIMED_OUT' where order_id={ended} and kind='UNDO' and step='payment.request'",
            "{ended} payment.request",
        ),
    ]
}
