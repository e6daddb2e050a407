use super::World;
use kit::{Db, db::FromRow, ports::Stopwatch};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use uuid::Uuid;

/// Readers, the streams they read, and the kinds they handle.
const READS: &[(&str, &str, &[&str])] = &[
    ("stock", "orders", &["stock.reserve", "stock.release", "stock.commit"]),
    ("coupons", "orders", &["coupon.hold"]),
    ("orders", "stock", &["stock.reserved", "stock.refused", "stock.released"]),
    ("orders", "coupons", &["coupon.held"]),
    ("wallet", "stock", &["stock.reserved"]),
    ("wallet", "coupons", &["coupon.held"]),
];
/// Time limit for all readers to catch up after the last fault (I-M10).
pub const BOUND: Duration = Duration::from_secs(30);

pub async fn rows<T: FromRow>(db: &Db, sql: &str) -> Vec<T> {
    let mut reader = db.reader().await.expect("a read connection");
    reader.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

pub async fn number(db: &Db, sql: &str) -> i64 {
    rows::<(i64,)>(db, sql).await.first().map(|(value,)| *value).expect("the query has a row")
}

/// Waits until a query returns this number. Fails after half a minute.
pub async fn eventually(db: &Db, sql: &str, wanted: i64) {
    let waiting = Stopwatch::start();
    let mut last = None;
    while waiting.elapsed() < BOUND {
        last = rows::<(i64,)>(db, sql).await.first().map(|(value,)| *value);
        if last == Some(wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{sql}: wanted {wanted}, stayed {last:?}");
}

/// Checks I-M1 to I-M8 as far as they hold at any moment. With `quiet`, also waits until all readers have caught up (I-M10).
pub async fn check_log(world: &World, quiet: bool) {
    check_streams(&world.app.kit().db, quiet).await;
}

/// The same for any database with these services.
pub async fn check_streams(db: &Db, quiet: bool) {
    if quiet {
        eventually(db, &lag(db), 0).await;
    }
    for source in ["orders", "stock", "coupons"] {
        let sql =
            format!("select min(seq), max(seq) from {source}_outbox group by epoch, partition having min(seq)<>1 or max(seq)<>count(*)");
        assert_no_rows(db, &sql, "I-M2").await;
    }
    for (reader, source, kinds) in READS {
        check_position(db, reader, source).await;
        if *reader != "coupons" {
            check_effects(db, reader, source, kinds).await;
        }
    }
    let past_the_dead = "select s.seq, d.seq from stock_seen s join stock_dead_letters d on d.source=s.source and d.key=s.key \
                         where d.state<>'resolved' and s.seq>=d.seq";
    assert_no_rows(db, past_the_dead, "I-M8").await;
}

/// SQL for the number of messages without a sequence number or unread.
pub fn lag(db: &Db) -> String {
    let behind = READS.iter().map(|(reader, source, _)| {
        format!(
            "(select coalesce(sum(h.seq-coalesce(p.seq,0)),0) from (select epoch, partition, max(seq) as seq from {source}_outbox \
             group by epoch, partition) h left join {reader}_positions p on p.source='{source}' and p.epoch=h.epoch \
             and p.partition=h.partition)"
        )
    });
    let pending = ["orders", "stock", "coupons"].map(|service| format!("(select count(*) from {service}_pending)"));
    let waiting = pending.into_iter().filter(|_| db.is_postgres());
    format!("select cast({} as BIGINT)", behind.chain(waiting).collect::<Vec<_>>().join("+"))
}

async fn check_position(db: &Db, reader: &str, source: &str) {
    let above = format!(
        "select p.seq, coalesce(max(o.seq),0) from {reader}_positions p left join {source}_outbox o on o.epoch=p.epoch \
         and o.partition=p.partition where p.source='{source}' group by p.epoch, p.partition, p.seq having p.seq>coalesce(max(o.seq),0)"
    );
    assert_no_rows(db, &above, "I-M7").await;
    let sql = format!("select epoch, partition, from_seq, to_seq from {reader}_deliveries where source='{source}' order by 1,2,3");
    let mut ends: HashMap<(i64, i64), i64> = HashMap::new();
    for (epoch, partition, from, to) in rows::<(i64, i64, i64, i64)>(db, &sql).await {
        let end = ends.insert((epoch, partition), to).unwrap_or(0);
        assert!(from == end + 1 && to >= from, "I-M4, I-M5: {reader} took {source}:{epoch}:{partition}:{from}..{to} after {end}");
    }
    let sql = format!("select epoch, partition, seq from {reader}_positions where source='{source}'");
    for (epoch, partition, position) in rows::<(i64, i64, i64)>(db, &sql).await {
        assert_eq!(ends.get(&(epoch, partition)), Some(&position), "I-M6: {reader} of {source}:{epoch}:{partition}");
    }
}

/// A key belongs to one partition, so key and sequence number identify a message. Compared in memory, because PostgreSQL without
/// statistics would compare every pair of rows.
async fn check_effects(db: &Db, reader: &str, source: &str, kinds: &[&str]) {
    let sql = format!(
        "select o.key, o.seq, o.kind, o.data, case when o.seq<=coalesce(p.seq, 0) then 1 else 0 end from {source}_outbox o
         left join {reader}_positions p on p.source='{source}' and p.epoch=o.epoch and p.partition=o.partition"
    );
    let written: Vec<(Uuid, i64, String, String, i64)> = rows(db, &sql).await;
    let seen: Vec<(Uuid, i64)> = rows(db, &format!("select key, seq from {reader}_seen where source='{source}'")).await;
    let letters = format!("select key, seq from {reader}_dead_letters where source='{source}' and state<>'resolved'");
    let letters: HashSet<(Uuid, i64)> = rows(db, &letters).await.into_iter().collect();
    let parked = format!("select key, seq, kind, data from {reader}_dead_letters where source='{source}'");
    let parked: Vec<(Uuid, i64, String, String)> = rows(db, &parked).await;
    let distinct: HashSet<(Uuid, i64)> = seen.iter().copied().collect();
    assert_eq!(distinct.len(), seen.len(), "I-M4: {reader} acted twice on a message of {source}");
    for (key, seq, kind, data, is_passed) in written {
        let is_seen = distinct.contains(&(key, seq));
        // A repeat of a parked message is not parked again.
        let repeats = |letter: &(Uuid, i64, String, String)| letter.0 == key && letter.1 < seq && letter.2 == kind && letter.3 == data;
        let is_put_aside = letters.contains(&(key, seq)) || !is_seen && parked.iter().any(repeats);
        match is_passed {
            0 => assert!(!is_seen && !is_put_aside, "I-M6: {reader} took {source}:{seq} ahead of its position"),
            _ if kinds.contains(&kind.as_str()) => assert!(is_seen != is_put_aside, "I-M5: {reader} passed {source}:{seq} over"),
            _ => assert!(!is_seen, "{reader} acted on {kind}"),
        }
    }
}

async fn assert_no_rows(db: &Db, sql: &str, invariant: &str) {
    let rows: Vec<(i64, i64)> = rows(db, sql).await;
    assert!(rows.is_empty(), "{invariant}: {rows:?} from {sql}");
}

/// State of the services, independent of the order between keys.
pub async fn dump(db: &Db) -> Vec<String> {
    let mut found = Vec::new();
    for (what, sql) in [
        ("ask", "select id, state || ' ' || laps from orders_asks order by 1"),
        ("reserved", "select order_id, cast(quantity as text) from stock_reservations order by 1"),
        ("held", "select order_id, '' from coupons_holds order by 1"),
        ("says orders", "select key, kind || data from orders_outbox order by key, epoch, seq"),
        ("says stock", "select key, kind || data from stock_outbox order by key, epoch, seq"),
        ("says coupons", "select key, kind || data from coupons_outbox order by key, epoch, seq"),
    ] {
        found.extend(rows::<(Uuid, String)>(db, sql).await.into_iter().map(|(key, value)| format!("{what} {key}: {value}")));
    }
    found.push(format!("left: {}", number(db, "select units from stock_shelf").await));
    found
}
