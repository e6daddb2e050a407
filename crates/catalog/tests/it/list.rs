//! `catalog.list`

use crate::world::{World, id, names, skus};
use kit::ports::new_id;
use serde_json::{Value, json};
use std::time::Duration;

/// Creates products at increasing times, some at the same price.
async fn create_products(world: &World) {
    for (name, price, stock) in [("Merlot", 30, 5), ("Rose", 10, 0), ("merlot rosé", 20, 1), ("100%_\\ wool", 20, 2), ("Éclair", 40, 9)] {
        world.product(name, price, stock).await;
        world.app.clock.advance(Duration::from_secs(1));
    }
}

// P2 P9
#[tokio::test]
async fn products_are_sorted_as_requested() {
    let world = World::new().await;
    create_products(&world).await;
    let newest = ["Éclair", "100%_\\ wool", "merlot rosé", "Rose", "Merlot"];
    assert_eq!(names(&world.list("").await), newest);
    assert_eq!(names(&world.list("?sort=newest").await), newest);
    assert_eq!(names(&world.list("?sort=oldest").await), ["Merlot", "Rose", "merlot rosé", "100%_\\ wool", "Éclair"]);
    assert_eq!(names(&world.list("?sort=price_asc").await), ["Rose", "merlot rosé", "100%_\\ wool", "Merlot", "Éclair"]);
    assert_eq!(names(&world.list("?sort=price_desc").await), ["Éclair", "Merlot", "100%_\\ wool", "merlot rosé", "Rose"]);
}

// P2
#[tokio::test]
async fn products_are_filtered_by_store_price_and_stock() {
    let world = World::new().await;
    create_products(&world).await;
    let _ = world
        .app
        .post("/v1/products")
        .bearer(&world.operator())
        .json(&json!({"name": "Ours", "price": 20, "stock": 1}))
        .send()
        .await
        .expect(201);
    assert_eq!(names(&world.list("?min_price=20&max_price=30&sort=oldest").await), ["Merlot", "merlot rosé", "100%_\\ wool", "Ours"]);
    assert_eq!(
        names(&world.list(&format!("?store={}&max_price=20&sort=oldest", world.store_id)).await),
        ["Rose", "merlot rosé", "100%_\\ wool"]
    );
    assert_eq!(names(&world.list(&format!("?store={}", new_id())).await).len(), 0);
    assert_eq!(names(&world.list("?min_price=31&max_price=29").await).len(), 0);
    assert_eq!(names(&world.list("?in_stock=true&sort=oldest").await), ["Merlot", "merlot rosé", "100%_\\ wool", "Éclair", "Ours"]);
    assert_eq!(names(&world.list("?in_stock=false").await).len(), 6);
}

// P2 P10 row 20
#[tokio::test]
async fn search_text_is_matched_literally() {
    let world = World::new().await;
    create_products(&world).await;
    let search = async |text: &str| {
        let body = world.list(&format!("?sort=oldest&q={text}")).await;
        names(&body).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(search("MERLOT").await, ["Merlot", "merlot rosé"]);
    assert_eq!(search("ROS%C3%89").await, ["merlot rosé"]);
    assert_eq!(search("%C3%A9CLAIR").await, ["Éclair"]);
    for (text, found) in
        [("%25", 1), ("_", 1), ("%5C", 1), ("%25_%5C", 1), ("%25lot", 0), ("M_rlot", 0), ("%27+or+1%3D1--", 0), ("%20", 5), ("", 5)]
    {
        assert_eq!(search(text).await.len(), found, "{text}");
    }
}

// P2
#[tokio::test]
async fn pages_join_without_gap_or_repeat() {
    let world = World::new().await;
    for n in 0..25 {
        world.product(&format!("no {n:02}"), 100 + n % 3, n % 2).await;
        if n % 4 == 0 {
            world.app.clock.advance(Duration::from_secs(1));
        }
    }
    for query in ["sort=newest", "sort=oldest", "sort=price_asc", "sort=price_desc", "q=no&sort=price_asc", "in_stock=true&sort=price_desc"]
    {
        let whole = world.list(&format!("?{query}&limit=100")).await;
        assert_eq!(whole["next_cursor"], Value::Null);
        for limit in [1, 4, 12, 13, 24, 25] {
            let mut seen: Vec<String> = Vec::new();
            let mut next = format!("/v1/products?{query}&limit={limit}");
            loop {
                let page = world.app.get(&next).send().await.expect(200);
                assert!(names(&page.body).len() <= limit);
                seen.extend(names(&page.body).into_iter().map(str::to_owned));
                let Some(cursor) = page.body["next_cursor"].as_str() else {
                    assert!(page.headers.get("link").is_none());
                    break;
                };
                next = format!("/v1/products?{query}&limit={limit}&cursor={cursor}");
                assert_eq!(page.headers["link"], format!("<{next}>; rel=\"next\""));
            }
            assert_eq!(seen, names(&whole), "{query} by {limit}");
        }
    }
}

// P2
#[tokio::test]
async fn rare_products_in_stock_are_found() {
    let world = World::new().await;
    let rare = world.product("rare", 5, 1).await.1;
    for n in 0..130 {
        world.product(&format!("gone {n}"), 5, 0).await;
    }
    assert_eq!(names(&world.list("?in_stock=true&limit=1").await), ["rare"]);
    world.set_available(rare, 0);
    assert_eq!(names(&world.list("?in_stock=true").await).len(), 0, "sold out");
}

// R6
#[tokio::test]
async fn products_are_found_and_sorted_by_their_options_prices() {
    let world = World::new().await;
    let with_options = |name: &str, price: i64, deltas: &[i64]| {
        let options = deltas.iter().enumerate().map(|(n, delta)| json!({"name": n.to_string(), "price_delta": delta, "stock": 1}));
        json!({"name": name, "price": price, "options": options.collect::<Vec<_>>()})
    };
    let dear = world.create(&with_options("dear", 0, &[50_000, 90_000])).await.expect(201).body;
    let half = world.create(&with_options("half", 40_000, &[0, -25_000])).await.expect(201).body;
    world.product("plain", 20_000, 1).await;
    for (query, found) in [
        ("?max_price=20000&sort=price_asc", vec!["half", "plain"]),
        ("?max_price=14999", vec![]),
        ("?min_price=30000&sort=oldest", vec!["dear", "half"]),
        ("?min_price=30000&sort=price_desc", vec!["dear", "half"]),
        ("?min_price=16000&max_price=19000", vec!["half"]),
        ("?min_price=90001", vec![]),
        ("?sort=price_asc", vec!["half", "plain", "dear"]),
        ("?sort=price_desc", vec!["dear", "plain", "half"]),
    ] {
        assert_eq!(names(&world.list(query).await), found, "{query}");
        let paged = if query.contains("sort=") { query.to_owned() } else { format!("{query}&sort=newest") };
        assert_eq!(world.list_all(&format!("{paged}&limit=1")).await.0, found, "{query}, one by one");
    }
    let _ = world.change(id(&half), &json!({"remove_options": [skus(&half)[1]]})).await.expect(200);
    let _ = world.change(id(&dear), &json!({"add_options": [{"name": "sample", "price_delta": 5}]})).await.expect(200);
    assert_eq!(names(&world.list("?sort=price_asc").await), ["dear", "plain", "half"]);
    assert_eq!(names(&world.list("?max_price=20000&sort=oldest").await), ["dear", "plain"]);
}

// R7
#[tokio::test]
async fn texts_that_look_the_same_are_found() {
    let world = World::new().await;
    for name in ["감귤 주스", "ＡＢＣ", "ﬁne Straße", "İstanbul"] {
        world.product(name, 5, 1).await;
    }
    for (text, found) in [
        ("%E1%84%80%E1%85%A1%E1%86%B7%E1%84%80%E1%85%B2%E1%86%AF", "감귤 주스"),
        ("+%EA%B0%90%EA%B7%A4+", "감귤 주스"),
        ("abc", "ＡＢＣ"),
        ("%EF%BD%83", "ＡＢＣ"),
        ("FINE", "ﬁne Straße"),
        ("STRASSE", "ﬁne Straße"),
        ("istan", "İstanbul"),
        ("%C4%B0STAN", "İstanbul"),
    ] {
        assert_eq!(names(&world.list(&format!("?q={text}")).await), [found], "{text}");
    }
    let renamed = id(&world.create(&json!({"name": "old", "price": 5})).await.expect(201).body);
    let _ = world.change(renamed, &json!({"name": "ﬂat"})).await.expect(200);
    assert_eq!(names(&world.list("?q=FLAT").await), ["ﬂat"]);
}

// H1: a search looks at 5,000 products. The cursor of an empty page continues behind them.
#[tokio::test]
async fn a_search_looks_at_a_bounded_number_of_products() {
    let world = World::new().await;
    let (needle, _) = world.product("needle", 900, 1).await;
    world.insert_products(12_000, "hay", 5).await;
    for query in ["?q=needle", "?min_price=800&sort=newest", "?q=needle&sort=price_desc&min_price=800"] {
        let first = world.list(query).await;
        let is_first = query.contains("price_desc");
        assert_eq!(names(&first), if is_first { vec!["needle"] } else { vec![] }, "{query}");
        assert!(first["next_cursor"].is_string(), "{query}");
        assert_eq!(world.list_all(query).await, (vec!["needle".to_owned()], 3), "{query}");
    }
    assert_eq!(world.list_all("?q=absent").await, (vec![], 3));
    // A filter that the order serves passes nothing over.
    assert_eq!(world.list_all("?sort=price_desc&max_price=4").await, (vec![], 1));
    assert_eq!(names(&world.list("?sort=oldest&limit=1&q=needle").await), ["needle"]);
    let _ = world.app.delete(format!("/v1/products/{needle}")).bearer(&world.seller()).send().await.expect(204);
    assert_eq!(world.list_all("?q=needle").await, (vec![], 3));
}

// H1
#[tokio::test]
async fn searches_wait_for_each_other_and_not_for_other_reads() {
    let world = World::new().await;
    world.product("Rose", 5, 1).await;
    let db = &world.app.kit_of("catalog").db;
    let held = (db.heavy_reader().await.expect("free"), db.heavy_reader().await.expect("free"));
    let refused = world.app.get("/v1/products?q=rose").once().send().await;
    assert_eq!((refused.status, refused.problem()), (503, "unavailable"), "{}", refused.body);
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(names(&world.list("").await), ["Rose"]);
    assert_eq!(names(&world.list("?sort=price_asc&max_price=9").await), ["Rose"]);
    drop(held);
    assert_eq!(names(&world.list("?q=rose").await), ["Rose"]);
}

// R9
#[tokio::test]
async fn the_cursor_of_an_empty_page_leads_to_products_in_stock() {
    let world = World::new().await;
    for name in ["one", "two", "three"] {
        world.product(name, 5, 1).await;
    }
    world.insert_products(1_000, "gone", 5).await;
    let first = world.list("?in_stock=true").await;
    assert!(names(&first).is_empty() && first["next_cursor"].is_string(), "{first}");
    let (found, pages) = world.list_all("?in_stock=true").await;
    assert_eq!(found.len(), 3);
    assert!(pages <= 4, "{pages}");
}

// P2
#[tokio::test]
async fn an_item_has_prices_options_and_quantities() {
    let world = World::new().await;
    let created = world
        .create(&json!({"name": "Merlot", "price": 500, "options": [{"name": "a", "stock": 2}, {"name": "b", "price_delta": -100}]}))
        .await;
    let created = created.expect(201).body;
    let options = skus(&created);
    let item = json!({
        "id": id(&created), "name": "Merlot", "store": {"id": world.store_id, "name": "Cellar \"9\""}, "price": 500, "lowest_price": 400,
        "available": 2,
        "options": [{"sku": options[0], "name": "a", "price": 500, "available": 2}, {"sku": options[1], "name": "b", "price": 400, "available": 0}],
    });
    assert_eq!(world.list("").await, json!({"items": [item], "next_cursor": null}));
    world.set_available(options[1], 4);
    assert_eq!(world.list("").await["items"][0]["available"], 6, "quantities are never cached");
}

// P2 rows 17, 18, 19
#[tokio::test]
async fn bad_parameters_are_refused() {
    let world = World::new().await;
    world.product("one", 1, 1).await;
    world.product("two", 2, 1).await;
    let cursor = world.list("?limit=1").await["next_cursor"].as_str().expect("a second page").to_owned();
    let mut forged = cursor.clone();
    forged.replace_range(0..1, if cursor.starts_with('A') { "B" } else { "A" });
    let long = "x".repeat(201);
    let cases = [
        ("limit=1&limit=9".to_owned(), 400, "duplicate-parameter"),
        ("limit=0".to_owned(), 422, "invalid-parameter"),
        ("limit=-1".to_owned(), 422, "invalid-parameter"),
        ("limit=101".to_owned(), 422, "invalid-parameter"),
        ("limit=1000000000".to_owned(), 422, "invalid-parameter"),
        ("limit=ten".to_owned(), 422, "invalid-parameter"),
        ("sort=id%3Bdrop+table".to_owned(), 422, "invalid-parameter"),
        ("sort=name".to_owned(), 422, "invalid-parameter"),
        ("min_price=-1".to_owned(), 422, "invalid-parameter"),
        ("max_price=1e3".to_owned(), 422, "invalid-parameter"),
        ("max_price=9223372036854775808".to_owned(), 422, "invalid-parameter"),
        ("store=mine".to_owned(), 422, "invalid-parameter"),
        ("in_stock=perhaps".to_owned(), 422, "invalid-parameter"),
        ("q=a%00b".to_owned(), 422, "invalid-parameter"),
        (format!("q={long}"), 422, "invalid-parameter"),
        ("price=1".to_owned(), 422, "invalid-parameter"),
        (format!("cursor={forged}"), 400, "invalid-cursor"),
        (format!("cursor={cursor}&sort=oldest"), 400, "invalid-cursor"),
        ("cursor=".to_owned(), 400, "invalid-cursor"),
        (format!("cursor={long}"), 400, "invalid-cursor"),
    ];
    for (query, status, slug) in cases {
        let answer = world.app.get(format!("/v1/products?{query}")).send().await;
        assert_eq!((answer.status, answer.problem()), (status, slug), "{query}: {}", answer.body);
    }
}
