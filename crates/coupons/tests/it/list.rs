use crate::support::*;
use kit::{params, ports::new_id};
use serde_json::{Value, json};

async fn names(mall: &Mall, query: &str) -> Vec<String> {
    let page = mall.app.get(format!("/v1/coupons{query}")).send().await.expect(200);
    page.body["items"].as_array().unwrap().iter().map(|coupon| coupon["name"].as_str().unwrap().to_owned()).collect()
}

// C23: by name, store and state; row 20 of the bad inputs
#[tokio::test]
async fn coupons_are_found_by_name_store_and_state() {
    let mall = Mall::open().await;
    let later = mall.now().after(HOUR);
    mall.announce(json!({"name": "Wine 100%", "scope": "store", "store_id": STORE})).await;
    mall.announce(json!({"name": "WINE_night", "issue_from": later, "scope": "item", "store_id": OTHER_STORE})).await;
    mall.announce(json!({"name": "꽃 봄", "issue_until": later})).await;
    for (query, expected) in [
        ("", vec!["꽃 봄", "WINE_night", "Wine 100%"]),
        ("?q=wine", vec!["WINE_night", "Wine 100%"]),
        ("?q=%25", vec!["Wine 100%"]),
        ("?q=_", vec!["WINE_night"]),
        ("?q=!", vec![]),
        ("?q=%5C", vec![]),
        ("?q=%27+or+1%3D1--", vec![]),
        ("?q=%EA%BD%83", vec!["꽃 봄"]),
        ("?state=open", vec!["꽃 봄", "Wine 100%"]),
        ("?state=upcoming", vec!["WINE_night"]),
        ("?state=open&q=wine", vec!["Wine 100%"]),
    ] {
        assert_eq!(names(&mall, query).await, expected, "{query}");
    }
    assert_eq!(names(&mall, &format!("?store={STORE}")).await, ["Wine 100%"]);
    mall.app.clock.advance(HOUR);
    assert_eq!(names(&mall, "?state=closed").await, ["꽃 봄"]);
    assert_eq!(names(&mall, "?state=open").await, ["WINE_night", "Wine 100%"]);
}

#[tokio::test]
async fn pages_hold_every_coupon_once() {
    let mall = Mall::open().await;
    for number in 0..5 {
        mall.announce(json!({"name": format!("no {number}")})).await;
    }
    let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        seen.extend(names(&mall, &query).await);
        let page = mall.app.get(format!("/v1/coupons{query}")).send().await.expect(200);
        let Value::String(cursor) = &page.body["next_cursor"] else { break };
        query = format!("?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ["no 4", "no 3", "no 2", "no 1", "no 0"]);
}

// rows 17 to 19 of the bad inputs
#[tokio::test]
async fn bad_parameters_are_refused() {
    let mall = Mall::open().await;
    for (query, status, slug) in [
        ("limit=0", 422, "invalid-parameter"),
        ("limit=101", 422, "invalid-parameter"),
        ("state=sold", 422, "invalid-parameter"),
        ("sort=id", 422, "invalid-parameter"),
        ("store=7", 422, "invalid-parameter"),
        ("limit=1&limit=2", 400, "duplicate-parameter"),
        ("cursor=AAAA", 400, "invalid-cursor"),
    ] {
        let _ = mall.app.get(format!("/v1/coupons?{query}")).send().await.expect_problem(status, slug);
    }
    let long = format!("/v1/coupons?q={}", "x".repeat(101));
    let _ = mall.app.get(long).send().await.expect_problem(422, "invalid-parameter");
}

// R7
#[tokio::test]
async fn names_that_look_the_same_are_found() {
    let mall = Mall::open().await;
    mall.announce(json!({"name": "ＡＢＣ 감귤"})).await;
    let renamed = mall.announce(json!({"name": "old"})).await;
    let change = mall.app.patch(format!("/v1/coupons/{renamed}")).bearer(&mall.operator()).json(&json!({"name": "Straße"}));
    let _ = change.send().await.expect(200);
    for (query, expected) in [
        ("?q=abc", vec!["ＡＢＣ 감귤"]),
        ("?q=%E1%84%80%E1%85%A1%E1%86%B7", vec!["ＡＢＣ 감귤"]),
        ("?q=STRASSE", vec!["Straße"]),
        ("?q=old", vec![]),
    ] {
        assert_eq!(names(&mall, query).await, expected, "{query}");
    }
    // A name in lower case, as an earlier binary writes it.
    {
        let mut tx = mall.app.kit_of("coupons").db.open_writer().await.unwrap();
        let sql = "update coupons_definitions set search='straße', folded=false where id=$1";
        assert_eq!(tx.execute(sql, &params![renamed]).await.unwrap(), 1);
    }
    assert!(names(&mall, "?q=STRASSE&limit=2").await.is_empty());
    mall.app.job("coupons.fold").await;
    assert_eq!(names(&mall, "?q=STRASSE&limit=3").await, ["Straße"]);
    assert_eq!(mall.app.sql_i64("select count(*) from coupons_definitions where not folded").await, 0);
}

// H1: a search looks at 5,000 coupons. The cursor of an empty page continues behind them.
#[tokio::test]
async fn a_search_looks_at_a_bounded_number_of_coupons() {
    let mall = Mall::open().await;
    mall.announce(json!({"name": "needle"})).await;
    {
        let mut tx = mall.app.kit_of("coupons").db.open_writer().await.unwrap();
        let sql = "insert into coupons_definitions (id, name, search, discount_won, scope, min_order, per_member, reissue_after_cancel, \
                   waitlist, issue_from, issue_until, closes_at, valid_days, issued, next_number, next_ticket, head_ticket, waiting, \
                   expire_number, created_at, version, folded) \
                   values ($1, 'hay', 'hay', 1, 'order', 0, 1, false, false, 1, 2, 2, 1, 0, 1, 1, 1, 0, 1, 1, 0, true)";
        tx.execute_many(sql, (0..6_000).map(|_| params![new_id()])).await.unwrap();
    }
    for query in ["?q=needle", "?state=open"] {
        let first = mall.app.get(format!("/v1/coupons{query}")).send().await.expect(200).body;
        assert_eq!(first["items"], json!([]), "{query}");
        let cursor = first["next_cursor"].as_str().expect("more follow").to_owned();
        let second = mall.app.get(format!("/v1/coupons{query}&cursor={cursor}")).send().await.expect(200).body;
        assert_eq!((&second["items"][0]["name"], &second["next_cursor"]), (&json!("needle"), &Value::Null), "{query}");
    }
}

// H1
#[tokio::test]
async fn searches_wait_for_each_other_and_not_for_other_reads() {
    let mall = Mall::open().await;
    mall.announce(json!({"name": "Autumn"})).await;
    let db = &mall.app.kit_of("coupons").db;
    let held = (db.heavy_reader().await.unwrap(), db.heavy_reader().await.unwrap());
    let refused = mall.app.get("/v1/coupons?q=autumn").once().send().await.expect_problem(503, "unavailable");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(names(&mall, "").await, ["Autumn"]);
    drop(held);
    assert_eq!(names(&mall, "?q=autumn").await, ["Autumn"]);
}
