//! Effects of an order on the rows of other services.

use kit::Invariant;

const PAID_STATES: &str = "('PAID','PREPARING','SHIPPING','DELIVERED','CONFIRMED')";
const ENDED_STATES: &str = "('CANCELLED','FAILED','EXPIRED')";

pub fn checks() -> Vec<Invariant> {
    vec![
        // The redundant conditions match a partial index. Without them, the query would scan all payments for each order.
        Invariant::quiet(
            "I-O2",
            "a paid order has exactly one charge, of its total",
            format!(
                "select o.id, o.total, count(p.id), sum(p.amount) from orders_orders o
                 left join payments_payments p on p.order_id=o.id and p.state='APPROVED' and p.state<>'FAILED' and p.state<>'CANCELLED'
                 where o.state in {PAID_STATES} and o.total>0 group by o.id, o.total having count(p.id)<>1 or sum(p.amount)<>o.total"
            ),
        ),
        Invariant::quiet(
            "I-O2b",
            "a paid order has used exactly its points, once in the holds and once in the ledger",
            format!(
                "select o.id, o.points_used, h.used, h.held, e.spent from orders_orders o
                 left join (select order_id, sum(case when state='USED' then amount end) as used, sum(case when state='HELD' then amount end) as held
                            from wallet_holds group by order_id) h on h.order_id=o.id
                 left join (select t.order_id, e.owner_id, -sum(e.amount) as spent from wallet_transactions t
                            join wallet_entries e on e.tx_id=t.id and e.kind='REWARD' where t.kind='use' group by t.order_id, e.owner_id) e
                  on e.order_id=o.id and e.owner_id=o.member_id
                 where o.state in {PAID_STATES} and (coalesce(h.used,0)<>o.points_used or coalesce(h.held,0)<>0 or coalesce(e.spent,0)<>o.points_used)"
            ),
        ),
        Invariant::quiet(
            "I-O3",
            "a paid order has one stock deduction for each line, of its quantity",
            format!(
                "select l.order_id, l.line_no, l.quantity, sum(m.quantity) from orders_lines l join orders_orders o on o.id=l.order_id
                 left join stock_movements m on m.order_id=l.order_id and m.line_no=l.line_no and m.kind='SALE' and m.sku=l.sku
                 where o.state in {PAID_STATES} group by l.order_id, l.line_no, l.quantity
                 having count(m.n)<>1 or -sum(m.quantity)<>l.quantity"
            ),
        ),
        Invariant::quiet(
            "I-O3b",
            "an order that awaits its payment holds exactly its stock, points and coupons",
            "select o.id, 'stock', l.line_no, h.quantity from orders_orders o join orders_lines l on l.order_id=o.id
              left join stock_holds h on h.order_id=l.order_id and h.line_no=l.line_no and h.sku=l.sku and h.state='ACTIVE'
              where o.state='AWAITING_PAYMENT' and coalesce(h.quantity,0)<>case when l.policy='reserve_on_order' then l.quantity else 0 end
             union all
             select o.id, 'points', o.points_used, w.amount from orders_orders o left join wallet_holds w on w.order_id=o.id and w.state='HELD'
              where o.state='AWAITING_PAYMENT' and coalesce(w.amount,0)<>o.points_used
             union all
             select o.id, 'coupon', a.issued_coupon_id, k.state from orders_orders o join orders_coupons a on a.order_id=o.id
              left join coupons_issued k on k.id=a.issued_coupon_id
              where o.state='AWAITING_PAYMENT' and (k.id is null or k.state<>'HELD' or k.order_id<>o.id)",
        ),
        Invariant::quiet(
            "I-O4",
            "a paid order's coupons are used, by it",
            format!(
                "select a.order_id, a.issued_coupon_id, k.state from orders_coupons a join orders_orders o on o.id=a.order_id
                 left join coupons_issued k on k.id=a.issued_coupon_id
                 where o.state in {PAID_STATES} and (k.id is null or k.state<>'USED' or k.order_id<>o.id)"
            ),
        ),
        Invariant::quiet(
            "I-O5",
            "an order that ended leaves no hold, coupon, points or stock behind",
            format!(
                "select o.id, o.state, 'stock held' from orders_orders o join stock_holds h on h.order_id=o.id and h.state='ACTIVE' where o.state in {ENDED_STATES}
                 union all
                 select o.id, o.state, 'coupon held' from orders_orders o join orders_coupons a on a.order_id=o.id
                 join coupons_issued k on k.id=a.issued_coupon_id and k.order_id=o.id and k.state in ('HELD','USED') where o.state in {ENDED_STATES}
                 union all
                 select o.id, o.state, 'points held' from orders_orders o join wallet_holds w on w.order_id=o.id and w.state in ('HELD','USED') where o.state in {ENDED_STATES}
                 union all
                 select o.id, o.state, 'stock gone' from orders_orders o join stock_movements m on m.order_id=o.id where o.state in {ENDED_STATES}
                 group by o.id, o.state having sum(m.quantity)<>0"
            ),
        ),
        Invariant::quiet(
            "I-O6",
            "an order that ended keeps no money",
            format!(
                "select o.id, o.state, p.id, p.amount from orders_orders o join payments_payments p on p.order_id=o.id and p.captured_at is not null
                 left join payments_refunds r on r.payment_id=p.id and r.state='DONE'
                 where o.state in {ENDED_STATES} group by o.id, o.state, p.id, p.amount having coalesce(sum(r.amount),0)<>p.amount"
            ),
        ),
        Invariant::quiet(
            "I-O7",
            "the ledger of an order that ended nets to zero for everyone",
            format!(
                "select t.order_id, e.owner_id, e.kind, sum(e.amount) from wallet_transactions t join wallet_entries e on e.tx_id=t.id
                 join orders_orders o on o.id=t.order_id where o.state in {ENDED_STATES} group by t.order_id, e.owner_id, e.kind having sum(e.amount)<>0"
            ),
        ),
        Invariant::quiet(
            "I-C5",
            "a used coupon belongs to exactly one paid order",
            "select k.id, k.order_id, o.state from coupons_issued k left join orders_orders o on o.id=k.order_id
             left join orders_coupons a on a.order_id=k.order_id and a.issued_coupon_id=k.id
             where k.state='USED' and (o.id is null or a.order_id is null
               or o.state not in ('PAID','PREPARING','SHIPPING','DELIVERED','CONFIRMED'))",
        ),
    ]
}
