use super::Invariant;
use orders::model::OrderState;

const PAID_STATES: &str = "('PAID','PREPARING','SHIPPING','DELIVERED','CONFIRMED')";
const ENDED_STATES: &str = "('CANCELLED','FAILED','EXPIRED')";

/// SQL condition: the saga of the order has not ended.
pub const RUNNING_SAGA: &str = "o.saga_state in ('RUNNING','UNDOING')";

/// SQL condition: a running saga does not end by itself. Its deadline passed a minute ago, or nothing has happened for 15 minutes.
/// The second part covers payments, which have no deadline, and undos, which are requested repeatedly.
pub const STUCK_SAGA: &str = "coalesce(o.due_at<:now-60000000, false) or :now-900000000>coalesce((select max(at) from (
    select max(e.at) as at from orders_events e where e.order_id=o.id union all
    select max(s.ended_at) from orders_steps s where s.order_id=o.id)), 0)";

pub fn checks() -> Vec<Invariant> {
    vec![
        Invariant::always(
            "I-O1",
            "total = lines - discount - points + shipping",
            "select o.id, o.total from orders_orders o left join orders_lines l on l.order_id=o.id
             group by o.id, o.subtotal, o.discount, o.points_used, o.shipping, o.total
             having coalesce(sum(l.quantity*l.unit_price),0)<>o.subtotal or coalesce(sum(l.line_discount),0)<>o.discount
                 or o.total<>o.subtotal-o.discount-o.points_used+o.shipping",
        ),
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
        Invariant::always("I-O8", "state transitions are legal and numbered without gap, and the last one is the state of the order", legal_transitions()),
        Invariant::quiet(
            "I-O9",
            "every saga ends",
            format!("select o.id, o.saga_state, o.due_at from orders_orders o where {RUNNING_SAGA} and ({STUCK_SAGA})"),
        ),
        Invariant::always(
            "I-O10",
            "each step is done once and undone once",
            "select order_id, step, kind, count(*) from orders_steps where state='OK' group by order_id, step, kind having count(*)>1",
        ),
        Invariant::always(
            "I-O11",
            "no step is done after it was undone",
            "select d.order_id, d.step from orders_steps d join orders_steps u on u.order_id=d.order_id and u.step=d.step
             and u.kind='UNDO' and u.state='OK' where d.kind='DO' and d.state='OK' and d.n>u.n",
        ),
        Invariant::quiet(
            "I-O12",
            "a saga that was undone is undone completely",
            "select o.id, d.step from orders_orders o join orders_steps d on d.order_id=o.id and d.kind='DO' and d.state='OK'
             where o.saga_state='UNDONE' and not exists (
               select 1 from orders_steps u where u.order_id=o.id and u.step=d.step and u.kind='UNDO' and u.state='OK')",
        ),
        Invariant::always(
            "I-O13",
            "one order for each member and idempotency key",
            // Keys are stored for a day. The same text after that is a new key.
            "select member_id, idempotency_key, count(*) from orders_orders group by member_id, idempotency_key
             having count(*)>1 and max(created_at)-min(created_at)<86400000000",
        ),
    ]
}

fn legal_transitions() -> String {
    let pairs: Vec<String> = OrderState::TRANSITIONS.iter().map(|(from, to)| format!("('{}','{}')", from.as_str(), to.as_str())).collect();
    format!(
        "with legal(a, b) as (values {}),
         moves as (select order_id, n, from_state, to_state, lag(to_state) over (partition by order_id order by n) as before,
                          lead(n) over (partition by order_id order by n) as next from orders_events)
         select m.order_id, m.n, m.from_state, m.to_state from moves m left join legal g on g.a=m.from_state and g.b=m.to_state
          where (m.n=1 and (m.from_state is not null or m.to_state<>'PENDING')) or (m.n>1 and (g.a is null or m.from_state<>m.before))
         union all
         select order_id, max(n), count(*), 'numbers' from orders_events group by order_id having max(n)<>count(*) or min(n)<>1
         union all
         select o.id, o.events, m.to_state, o.state from orders_orders o left join moves m on m.order_id=o.id and m.next is null
          where m.to_state is null or m.to_state<>o.state or m.n<>o.events",
        pairs.join(",")
    )
}
