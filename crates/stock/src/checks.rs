//! The invariants of stock: quantities, movements and holds.

use kit::Invariant;

pub fn checks() -> Vec<Invariant> {
    vec![
        Invariant::always(
            "I-S1",
            "stock is never negative and never reserved beyond what is on hand",
            "select sku, on_hand, reserved from stock_items where on_hand<0 or reserved<0 or reserved>on_hand or sold<0",
        ),
        Invariant::always(
            "I-S2",
            "movements add up to what is on hand and what was sold",
            "select i.sku, i.on_hand, sum(m.quantity) from stock_items i left join stock_movements m on m.sku=i.sku
             group by i.sku, i.on_hand, i.sold
             having coalesce(sum(m.quantity),0)<>i.on_hand
                 or -coalesce(sum(case when m.kind in ('SALE','RETURN') then m.quantity end),0)<>i.sold",
        ),
        Invariant::always(
            "I-S3",
            "active holds add up to what is reserved",
            "select i.sku, i.reserved, sum(h.quantity) from stock_items i left join stock_holds h on h.sku=i.sku and h.state='ACTIVE'
             group by i.sku, i.reserved having coalesce(sum(h.quantity),0)<>i.reserved",
        ),
        Invariant::always(
            "I-S4",
            "one sale movement for each order line",
            "select order_id, line_no, count(*) from stock_movements where kind='SALE' group by order_id, line_no having count(*)>1",
        ),
        Invariant::quiet(
            "I-S5",
            "no hold outlives its expiry by more than a minute, which its order may take to end",
            "select order_id, expires_at from stock_reservations where state='HELD' and expires_at<:now-60000000",
        ),
        Invariant::always(
            "I-S6",
            "stock was never oversold at any past moment",
            "select sku, n, balance from (select sku, n, sum(quantity) over (partition by sku order by n) as balance from stock_movements) where balance<0",
        ),
    ]
}
