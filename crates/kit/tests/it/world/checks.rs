use super::World;
use kit::testing::App;

/// Who reads which stream here, and the kinds it acts on.
const READINGS: &[(&str, &str, &[&str])] = &[
    ("stock", "orders", &["stock.reserve", "stock.release", "stock.commit"]),
    ("coupons", "orders", &["coupon.hold"]),
    ("orders", "stock", &["stock.reserved", "stock.refused", "stock.released"]),
    ("orders", "coupons", &["coupon.held"]),
    ("wallet", "stock", &["stock.reserved"]),
    ("wallet", "coupons", &["coupon.held"]),
];

/// I-M1 to I-M8 as far as they can be asked at any moment; with `quiet`, also that everybody comes to have read everything (I-M10).
pub async fn check_log(world: &World, quiet: bool) {
    let app = &world.app;
    if quiet {
        let behind = READINGS.iter().map(|(reader, source, _)| {
            format!("(select coalesce(max(seq), 0) from {source}_outbox) - (select coalesce(max(seq), 0) from {reader}_positions where source='{source}')")
        });
        app.eventually(&format!("select {}", behind.collect::<Vec<_>>().join(" + ")), 0).await;
    }
    for source in ["orders", "stock", "coupons"] {
        none(app, &format!("select min(seq), max(seq) from {source}_outbox having min(seq)<>1 or max(seq)<>count(*)"), "I-M2").await;
    }
    for (reader, source, kinds) in READINGS {
        let (position, head) = (world.position(reader, source).await, head(app, source).await);
        assert!(position <= head, "I-M7: {reader} is at {source}:{position} of {head}");
        let sql = format!("select from_seq, to_seq from {reader}_deliveries where source='{source}' order by from_seq");
        let end = app.rows::<(i64, i64)>(&sql).await.into_iter().fold(0, |end, (from, to)| {
            assert!(from == end + 1 && to >= from, "I-M4, I-M5: {reader} took {source}:{from}..{to} after {end}");
            to
        });
        assert_eq!(end, position, "I-M6: {reader} of {source}");
        let kinds: Vec<String> = kinds.iter().map(|kind| format!("'{kind}'")).collect();
        let kinds = kinds.join(",");
        let unapplied = format!(
            "select seq, seq from {source}_outbox o where seq<={position} and kind in ({kinds})
             and not exists (select 1 from {reader}_dead_letters d where d.source='{source}' and d.seq=o.seq and d.state<>'resolved')"
        );
        if *reader != "coupons" {
            let seen = format!("and not exists (select 1 from {reader}_seen s where s.source='{source}' and s.seq=o.seq)");
            none(app, &format!("{unapplied} {seen}"), "I-M5").await;
            let twice = format!("select seq, count(*) from {reader}_seen where source='{source}' group by seq having count(*)>1");
            none(app, &twice, "I-M4").await;
            let ahead = format!("select seq, seq from {reader}_seen where source='{source}' and seq>{position}");
            none(app, &ahead, "I-M6").await;
        }
    }
    let past_the_dead = "select s.seq, d.seq from stock_seen s join stock_dead_letters d on d.source=s.source and d.key=s.key \
                         where d.state<>'resolved' and s.seq>=d.seq";
    none(app, past_the_dead, "I-M8").await;
}

async fn head(app: &App, source: &str) -> i64 {
    app.sql_i64(&format!("select coalesce(max(seq), 0) from {source}_outbox")).await
}

async fn none(app: &App, sql: &str, invariant: &str) {
    let rows: Vec<(i64, i64)> = app.rows(sql).await;
    assert!(rows.is_empty(), "{invariant}: {rows:?} from {sql}");
}

/// What the services know, without the order in which different keys were settled.
pub async fn dump(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    for sql in [
        "select 'stock', cast(units as text) from stock_shelf",
        "select 'ask ' || hex(id), state || ' ' || laps from orders_asks order by 1",
        "select 'reserved ' || hex(order_id), cast(quantity as text) from stock_reservations order by 1",
        "select 'held', hex(order_id) from coupons_holds order by 2",
        "select 'orders ' || hex(key), group_concat(kind || data) from (select * from orders_outbox order by seq) group by key order by 1",
        "select 'stock ' || hex(key), group_concat(kind || data) from (select * from stock_outbox order by seq) group by key order by 1",
        "select 'coupons ' || hex(key), group_concat(kind || data) from (select * from coupons_outbox order by seq) group by key order by 1",
    ] {
        found.extend(world.app.rows::<(String, String)>(sql).await.into_iter().map(|(what, value)| format!("{what}: {value}")));
    }
    found
}
