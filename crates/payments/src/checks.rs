//! The invariants of payments: refunds, and payments of unknown outcome.

use kit::Invariant;

/// Maximum age of a payment of unknown outcome, in microseconds: several polls of the provider.
const MAX_UNKNOWN_MICROS: i64 = 15 * 60 * 1_000_000;

pub fn checks() -> Vec<Invariant> {
    vec![
        Invariant::always(
            "I-P2",
            "refunds never exceed what was captured",
            "select p.id, p.amount, sum(r.amount) from payments_payments p join payments_refunds r on r.payment_id=p.id
             and r.state in ('PENDING','DONE') group by p.id, p.amount having sum(r.amount)>p.amount",
        ),
        Invariant::quiet(
            "I-P4",
            "no payment stays unknown",
            format!(
                "select id, state, updated_at from payments_payments where state in ('INTENT','UNKNOWN') and updated_at<:now-{MAX_UNKNOWN_MICROS}"
            ),
        ),
    ]
}
