//! The invariants of orders: prices, states, sagas.

use crate::model::OrderState;
use kit::Invariant;

/// SQL condition: the saga of the order has not ended.
pub const RUNNING_SAGA: &str = "o.saga_state in ('RUNNING','UNDOING')";

/// SQL condition: a running saga does not end by itself. Its deadline passed a minute ago, or nothing has happened for 15 minutes.
/// The second part covers payments, which have no deadline, and undos, which are requested repeatedly.
pub const STUCK_SAGA: &str = "coalesce(o.due_at<:now-60000000, false) or :now-900000000>coalesce((select max(at) from (
    select max(e.at) as at from orders_events e where e.order_id=o.id union all
    select max(s.ended_at) from orders_steps s where s.order_id=o.id) as moves), 0)";

pub fn checks() -> Vec<Invariant> {
    vec![
        Invariant::always(
            "I-O1",
            "total = lines - discount - points + shipping",
            // A compacted order has no lines any more.
            "select o.id, o.total from orders_orders o left join orders_lines l on l.order_id=o.id where o.compacted_at is null
             group by o.id, o.subtotal, o.discount, o.points_used, o.shipping, o.total
             having coalesce(sum(l.quantity*l.unit_price),0)<>o.subtotal or coalesce(sum(l.line_discount),0)<>o.discount
                 or o.total<>o.subtotal-o.discount-o.points_used+o.shipping",
        ),
        Invariant::always(
            "I-O8",
            "state transitions are legal and numbered without gap, and the last one is the state of the order",
            legal_transitions(),
        ),
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
        Invariant::always(
            "I-C6",
            "no coupon in two live orders",
            "select a.issued_coupon_id, count(*) from orders_coupons a join orders_orders o on o.id=a.order_id
             where o.saga_state in ('WAITING','DONE') or (o.saga_state='RUNNING' and o.state='PAYING')
             group by a.issued_coupon_id having count(*)>1",
        ),
        Invariant::always(
            "I-C9",
            "no part of a price is negative",
            "select id from orders_orders where discount<0 or discount>subtotal or points_used<0 or shipping<0 or total<0",
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
         select order_id, max(n), cast(count(*) as text), 'numbers' from orders_events group by order_id having max(n)<>count(*) or min(n)<>1
         union all
         select o.id, o.events, m.to_state, o.state from orders_orders o left join moves m on m.order_id=o.id and m.next is null
          where m.to_state is null or m.to_state<>o.state or m.n<>o.events",
        pairs.join(",")
    )
}
