//! The invariants of coupons: quantities, numbers, the waitlist.

use kit::Invariant;

pub fn checks() -> Vec<Invariant> {
    vec![
        Invariant::always(
            "I-C1",
            "coupons issued never exceed the quantity, and are counted correctly",
            "select c.id, c.quantity, c.issued, count(k.id) from coupons_definitions c
             left join coupons_issued k on k.coupon_id=c.id and k.state<>'CANCELLED' and not k.slot_returned
             group by c.id, c.quantity, c.issued having count(k.id)>coalesce(c.quantity, count(k.id)) or count(k.id)<>c.issued",
        ),
        Invariant::always(
            "I-C2",
            "no member has more of a coupon than allowed",
            "select k.coupon_id, k.member_id, count(*) from coupons_issued k join coupons_definitions c on c.id=k.coupon_id
             where k.state<>'CANCELLED' group by k.coupon_id, k.member_id, c.per_member having count(*)>c.per_member",
        ),
        Invariant::always(
            "I-C3",
            "issue numbers are 1..n without gap or repeat",
            "select coupon_id, min(number), max(number), count(*) from coupons_issued group by coupon_id
             having min(number)<>1 or max(number)<>count(*) or count(distinct number)<>count(*)",
        ),
        Invariant::always(
            "I-C7",
            "no coupon is used after it expired",
            "select id, used_at, expires_at from coupons_issued where used_at>=expires_at",
        ),
        Invariant::quiet(
            "I-W1",
            "the waitlist admits in ticket order, and the waiting members are counted correctly",
            "select b.coupon_id, b.ticket from coupons_waiting b where b.state='ADMITTED' and exists (
               select 1 from coupons_waiting a where a.coupon_id=b.coupon_id and a.ticket<b.ticket and a.state='WAITING')
             union all
             select c.id, c.waiting from coupons_definitions c where c.waiting<>(
               select count(*) from coupons_waiting w where w.coupon_id=c.id and w.state='WAITING')",
        ),
    ]
}
