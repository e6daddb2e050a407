//! Payments beside the books of the provider and of the wallet.

use kit::Invariant;
use rusqlite::Connection;
use std::path::Path;

/// Attaches the ledger of the test provider as `book.psp_charges`. It is empty if the file does not exist.
pub fn attach_provider_book(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    if path.exists() {
        connection.execute("attach database ?1 as book", [path.to_string_lossy()])?;
        return Ok(());
    }
    connection.execute_batch(
        "attach database ':memory:' as book;
         create table book.psp_charges (psp_key TEXT, psp_ref TEXT, order_ref TEXT, amount BIGINT, captured BOOLEAN, refunded BIGINT)",
    )
}

pub fn checks() -> Vec<Invariant> {
    vec![
        Invariant::always(
            "I-P1",
            "the provider captured at most once for an order",
            "select p.order_id, count(*) from book.psp_charges c join payments_payments p on p.provider_key=c.psp_key
             where c.captured=1 and c.refunded=0 group by p.order_id having count(*)>1",
        ),
        Invariant::quiet(
            "I-P3",
            "our payments equal those of the provider and of the wallet, in both directions",
            "select p.id, p.state, p.amount, c.amount from payments_payments p left join book.psp_charges c on c.psp_key=p.provider_key and c.captured=1
              where p.method='test' and p.captured_at is not null and (c.psp_key is null or c.amount<>p.amount)
             union all
             select c.psp_ref, 'only theirs', c.amount, null from book.psp_charges c left join payments_payments p
              on p.provider_key=c.psp_key and p.captured_at is not null where c.captured=1 and p.id is null
             union all
             select p.id, p.state, p.amount, t.amount from payments_payments p left join wallet_transactions t
              on t.kind='pay' and t.ref=p.id and t.refused is null
              where p.method='wallet' and p.captured_at is not null and (t.id is null or t.amount<>p.amount)
             union all
             select t.ref, 'only in the wallet', t.amount, null from wallet_transactions t left join payments_payments p
              on p.id=t.ref and p.captured_at is not null where t.kind='pay' and t.refused is null and p.id is null",
        ),
        Invariant::quiet(
            "I-P5",
            "our refunds equal those of the provider and of the wallet, in both directions",
            "select p.id, p.method, r.amount, c.refunded from payments_payments p
              left join payments_refunds r on r.payment_id=p.id and r.state='DONE' left join book.psp_charges c on c.psp_key=p.provider_key
              where p.method='test' and coalesce(r.amount,0)<>coalesce(c.refunded,0)
             union all
             select c.psp_ref, 'only theirs', null, c.refunded from book.psp_charges c where c.refunded<>0
              and not exists (select 1 from payments_payments p where p.provider_key=c.psp_key)
             union all
             select p.id, p.method, r.amount, t.amount from payments_payments p
              left join payments_refunds r on r.payment_id=p.id and r.state='DONE'
              left join wallet_transactions t on t.kind='refund' and t.ref=p.id and t.refused is null
              where p.method='wallet' and coalesce(r.amount,0)<>coalesce(t.amount,0)
             union all
             select t.ref, 'only in the wallet', null, t.amount from wallet_transactions t where t.kind='refund' and t.refused is null
              and not exists (select 1 from payments_payments p where p.id=t.ref)",
        ),
    ]
}
