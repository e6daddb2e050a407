//! Effects without their order, such as payments and sales. A restored database of orders leaves them behind.

use kit::Invariant;

/// Tables with effects of orders: name of the effect, table, key to show, condition.
const EFFECTS: [(&str, &str, &str, &str); 8] = [
    ("payment", "payments_payments", "id", "true"),
    ("refund", "payments_refunds", "id", "true"),
    ("stock movement", "stock_movements", "sku", "x.order_id is not null"),
    ("stock hold", "stock_holds", "sku", "true"),
    ("stock reservation", "stock_reservations", "state", "true"),
    ("points hold", "wallet_holds", "state", "true"),
    ("ledger transaction", "wallet_transactions", "id", "x.order_id is not null"),
    ("coupon", "coupons_issued", "id", "x.state in ('HELD','USED')"),
];

pub fn checks() -> Vec<Invariant> {
    let without_order = EFFECTS.map(|(name, table, shown, condition)| {
        format!(
            "select '{name}', x.order_id, x.{shown} from {table} x
             where {condition} and not exists (select 1 from orders_orders o where o.id=x.order_id)"
        )
    });
    vec![Invariant::one_moment("I-O15", "every payment, sale, hold and used coupon has its order", without_order.join("\nunion all\n"))]
}
