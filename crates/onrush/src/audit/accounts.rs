//! Closed accounts at all services.

use kit::Invariant;

pub fn checks() -> Vec<Invariant> {
    // A closing reaches the services by its first message. A request that ran at the same time may come later, and the second message ends
    // its effect. So rows count that are older than the closing, and after the second message all rows.
    let settled = "m.closings=2";
    vec![Invariant::quiet(
        "I-A6",
        "a closed account has no session, stored answer, store, cart, unpaid order, points, unused coupon, or place in a waitlist",
        format!(
            "with gone as (select id, closed_at, closings from accounts_members where state='closed' and closings>0)
             select m.id, 'session', s.id from gone m join accounts_sessions s on s.member_id=m.id where s.revoked_at is null
             union all
             select m.id, 'stored answer', i.operation from gone m join accounts_idempotency i on i.scope=m.id
              where i.status<300 and length(i.body)>0
             union all
             select m.id, 'store', s.id from gone m join stores_stores s on s.seller_id=m.id
              where s.deleted_at is null and (s.created_at<=m.closed_at or {settled})
             union all
             select m.id, 'cart', i.sku from gone m join orders_cart_items i on i.member_id=m.id where {settled}
             union all
             select m.id, 'unpaid order', o.id from gone m join orders_orders o on o.member_id=m.id
              where o.state in ('PENDING','AWAITING_PAYMENT') and (o.updated_at<=m.closed_at or {settled})
             union all
             select m.id, 'points', a.balance-a.held from gone m join wallet_accounts a on a.owner_id=m.id
              where a.kind='REWARD' and a.balance>a.held
             union all
             select m.id, 'coupon', k.id from gone m join coupons_issued k on k.member_id=m.id
              where k.state='ISSUED' and (k.issued_at<=m.closed_at or {settled})
             union all
             select m.id, 'waiting', w.ticket from gone m join coupons_waiting w on w.member_id=m.id
              where w.state='WAITING' and (w.at<=m.closed_at or {settled})"
        ),
    )]
}
