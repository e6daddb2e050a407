//! The streams of all services, and whether messages are under way.

use crate::documents::subscriptions;
use contracts::{Kind, OrderId, SERVICES, Timestamp, messages::SagaStep};
use kit::Invariant;
use orders::{RUNNING_SAGA, STUCK_SAGA};
use rusqlite::Connection;
use uuid::Uuid;

/// Reason why this is not a quiet moment: messages under way, or running sagas. `None`: it is quiet. A stuck saga does not count, because
/// waiting does not end it.
///
/// Messages under way have no number yet, or a reader has not reached them in a partition of the newest epoch. Unread messages of an
/// older epoch are never read, so they are a violation (I-M5).
pub fn not_quiet_reason(connection: &Connection, now: Timestamp) -> rusqlite::Result<Option<String>> {
    let mut undelivered = 0i64;
    for (reader, source, _) in subscriptions() {
        let sql = format!(
            "select coalesce(sum(max(h.seq-coalesce(p.seq,0), 0)), 0) from ({}) h left join {reader}_positions p
             on p.source='{source}' and p.epoch=h.epoch and p.partition=h.partition",
            stream_heads(source, "=")
        );
        undelivered += connection.query_row(&sql, [], |row| row.get::<_, i64>(0))?;
    }
    for service in SERVICES {
        // Failed messages without a dead one before them are retried.
        let set_aside = format!(
            "select count(*) from {service}_dead_letters l where state in ('redrive', 'parked') and not exists (
             select 1 from {service}_dead_letters d where d.source=l.source and d.key=l.key and d.state='dead')"
        );
        undelivered += connection.query_row(&set_aside, [], |row| row.get::<_, i64>(0))?;
        let pending = format!("{service}_pending");
        if connection.table_exists(None, pending.as_str())? {
            undelivered += connection.query_row(&format!("select count(*) from {pending}"), [], |row| row.get::<_, i64>(0))?;
        }
    }
    let sql = format!("select count(*) from orders_orders o where {RUNNING_SAGA} and not ({STUCK_SAGA})");
    let running: i64 = connection.query_row(&sql, rusqlite::named_params! {":now": now.0}, |row| row.get(0))?;
    Ok((undelivered > 0 || running > 0).then(|| format!("{undelivered} messages under way, {running} sagas running")))
}

/// SQL for the last number of each partition of a stream, in its newest epoch (`=`) or in older ones (`<`).
fn stream_heads(source: &str, epochs: &str) -> String {
    format!(
        "select epoch, partition, max(seq) as seq from {source}_outbox where epoch{epochs}(select max(epoch) from {source}_stream)
         group by epoch, partition"
    )
}

pub fn checks() -> Vec<Invariant> {
    let pairs = subscriptions();
    let each_pair = |make: &dyn Fn(&str, &str, &[&str]) -> String| {
        pairs.iter().map(|(reader, source, kinds)| make(reader, source, kinds)).collect::<Vec<_>>().join("\nunion all\n")
    };
    let each_stream = |make: &dyn Fn(&str) -> String| SERVICES.iter().map(|source| make(source)).collect::<Vec<_>>().join("\nunion all\n");
    vec![
        Invariant::quiet("I-M1", "each state change has its message in the stream", emitted_messages()),
        Invariant::always(
            "I-M2",
            "message numbers are dense",
            each_stream(&|source| {
                format!(
                    "select '{source}', epoch, partition, min(seq), max(seq), count(*) from {source}_outbox group by epoch, partition
                     having max(seq)-min(seq)+1<>count(*)"
                )
            }),
        ),
        Invariant::always(
            "I-M3",
            "per key, messages are in one partition, and a step is requested before it is undone or confirmed",
            format!("{}\nunion all\n{}", step_order(), each_stream(&keys_in_one_partition)),
        ),
        Invariant::always(
            "I-M4",
            "no message is applied twice",
            each_pair(&|reader, source, _| {
                format!(
                    "select '{reader}', '{source}', from_seq, before from (select from_seq, lag(to_seq) over (partition by epoch, partition
                     order by from_seq) as before from {reader}_deliveries where source='{source}') where from_seq<=before"
                )
            }),
        ),
        Invariant::always(
            "I-M5",
            "no message is skipped, also none of an older epoch",
            each_pair(&|reader, source, _| {
                format!(
                    "select '{reader}', '{source}', from_seq, before from (select from_seq, lag(to_seq) over (partition by epoch, partition
                     order by from_seq) as before from {reader}_deliveries where source='{source}') where from_seq>before+1
                     union all
                     select '{reader}', '{source}', h.seq, coalesce(p.seq,0) from ({}) h left join {reader}_positions p
                     on p.source='{source}' and p.epoch=h.epoch and p.partition=h.partition where coalesce(p.seq,0)<h.seq",
                    stream_heads(source, "<")
                )
            }),
        ),
        Invariant::always(
            "I-M6",
            "a position is where its last delivery ended",
            each_pair(&|reader, source, _| {
                format!(
                    "select '{reader}', '{source}', p.seq, max(d.to_seq) from {reader}_positions p left join {reader}_deliveries d
                     on d.source=p.source and d.epoch=p.epoch and d.partition=p.partition where p.source='{source}'
                     group by p.epoch, p.partition, p.seq having max(d.to_seq) is not null and max(d.to_seq)<>p.seq"
                )
            }),
        ),
        Invariant::one_moment(
            "I-M7",
            "no position is beyond the end of its stream",
            each_pair(&|reader, source, _| {
                format!(
                    "select '{reader}', '{source}', p.seq, max(o.seq) from {reader}_positions p left join {source}_outbox o
                     on o.epoch=p.epoch and o.partition=p.partition where p.source='{source}'
                     group by p.epoch, p.partition, p.seq having coalesce(max(o.seq),0)<p.seq"
                )
            }),
        ),
        Invariant::quiet(
            "I-M8",
            "behind a dead letter, nothing of its key is applied",
            each_pair(&|reader, source, kinds| {
                let kinds: Vec<String> = kinds.iter().map(|kind| format!("'{kind}'")).collect();
                // A repeat of a parked message is not parked again.
                format!(
                    "select '{reader}', '{source}', d.key, o.seq from {reader}_dead_letters d join {source}_outbox o
                     on o.key=d.key and (o.epoch>d.epoch or o.epoch=d.epoch and o.partition=d.partition and o.seq>d.seq) and o.kind in ({})
                     join {reader}_positions p on p.source='{source}' and p.epoch=o.epoch and p.partition=o.partition and o.seq<=p.seq
                     where d.source='{source}' and d.state='dead' and not exists (select 1 from {reader}_dead_letters x
                       where x.source=d.source and x.epoch=o.epoch and x.partition=o.partition and x.seq=o.seq)
                     and not exists (select 1 from {reader}_dead_letters x where x.source=d.source and x.state='parked'
                       and x.key=o.key and x.kind=o.kind and x.data=o.data and (x.epoch<o.epoch or x.epoch=o.epoch and x.seq<o.seq))",
                    kinds.join(",")
                )
            }),
        ),
    ]
}

/// SQL for state changes without their message. Streams delete messages after a week, partition by partition. So the check covers only
/// changes younger than the oldest message of each partition from which messages were deleted.
fn emitted_messages() -> String {
    let since = |source: &str| {
        format!(
            "(select max(since) from (select case when min(seq)=1 then 0 else min(at)+1 end as since from {source}_outbox
              group by epoch, partition))"
        )
    };
    let emitted = |source: &str, from: &str, key: &str, at: &str, kind: &str, filter: &str| {
        format!(
            "select '{kind}', x.{key} from {from} x where {filter} and x.{at}>={}
             and x.{key} not in (select key from {source}_outbox where kind='{kind}')",
            since(source)
        )
    };
    [
        emitted("orders", "orders_orders", "id", "paid_at", "order.paid", "x.paid_at is not null"),
        emitted("orders", "orders_orders", "id", "created_at", "order.failed", "x.state='FAILED'"),
        emitted("orders", "orders_orders", "id", "created_at", "order.cancelled", "x.state='CANCELLED'"),
        emitted("orders", "orders_orders", "id", "created_at", "order.expired", "x.state='EXPIRED'"),
        format!(
            "select 'coupon.issued', k.coupon_id from coupons_issued k where k.issued_at>={}
             group by k.coupon_id having count(*)>(select count(*) from coupons_outbox o where o.key=k.coupon_id and o.kind='coupon.issued')",
            since("coupons")
        ),
    ]
    .join("\nunion all\n")
}

/// SQL for keys in several partitions of one epoch. A key must stay in one partition, because that keeps its messages in order.
fn keys_in_one_partition(source: &str) -> String {
    format!("select key, '{source}', count(distinct partition) from {source}_outbox group by key, epoch having count(distinct partition)>1")
}

fn step_order() -> String {
    let commands = SagaStep::MESSAGES.iter().filter_map(|row| row.commands.split_first());
    let after_request = commands.flat_map(|(request, later)| later.iter().map(|kind| (request.as_str(), kind.as_str())));
    let commits = SagaStep::ALL.iter().filter_map(|step| step.commit(OrderId(Uuid::nil())));
    let pairs = after_request.chain(commits.map(|commit| (Kind::OrdersSlip.as_str(), commit.kind())));
    // All messages of a key in one epoch are in one partition, so epoch and number give their order.
    let first = |kind: &str| format!("select key, min((epoch<<40)+seq) as place from orders_outbox where kind='{kind}' group by key");
    pairs
        .map(|(before, after)| {
            let (first_after, first_before) = (first(after), first(before));
            format!(
                "select a.key, '{after}', a.place & ((1<<40)-1) from ({first_after}) a
                 join ({first_before}) b on b.key=a.key where a.place<b.place"
            )
        })
        .collect::<Vec<_>>()
        .join("\nunion all\n")
}
