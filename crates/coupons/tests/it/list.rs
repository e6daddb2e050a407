use crate::support::*;
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

// R7: case, width, normal form and space around the text do not count; also for names from an earlier version.
#[tokio::test]
async fn names_that_look_the_same_are_found_alike() {
    let mall = Mall::open().await;
    for name in [" 감귤 주스 ", "\u{1100}\u{1161}\u{11b7}\u{1100}\u{1172}\u{11af} tea", "ＳＡＬＥ", "straße"] {
        mall.announce(json!({"name": name})).await;
    }
    let all = ["straße", "ＳＡＬＥ", "감귤 tea", "감귤 주스"];
    assert_eq!(names(&mall, "").await, all);
    let decomposed = "%E1%84%80%E1%85%A1%E1%86%B7%E1%84%80%E1%85%B2%E1%86%AF";
    for (query, expected) in [(decomposed, &all[2..]), ("+%EA%B0%90%EA%B7%A4+", &all[2..]), ("sale", &all[1..2]), ("STRASSE", &all[..1])] {
        assert_eq!(names(&mall, &format!("?q={query}")).await, expected, "{query}");
    }
    let mut tx = mall.app.kit().db.open_writer().await.unwrap();
    tx.batch("update coupons_definitions set search='ｓａｌｅ' where name='ＳＡＬＥ'").await.unwrap();
    drop(tx);
    assert_eq!(names(&mall, "?q=sale").await, Vec::<String>::new());
    let mall = mall.restart().await;
    assert_eq!(names(&mall, "?q=sale").await, ["ＳＡＬＥ"]);
}
