use crate::world::{World, id_of};
use contracts::OrderId;
use serde_json::json;
use testkit::TestResponse;

fn ids(page: &TestResponse) -> Vec<OrderId> {
    let items = page.body["items"].as_array().expect("a list");
    items.iter().map(|item| item["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")).collect()
}

async fn list(world: &World, query: &str) -> TestResponse {
    world.app.get(format!("/v1/orders{query}")).bearer(&world.token).send().await
}

// O6
#[tokio::test]
async fn pages_list_each_own_order_once_newest_first() {
    let world = World::new().await;
    let mut all = Vec::new();
    for n in 0..7 {
        all.push(id_of(&world.order(&format!("k{n}"), &world.plain()).await.expect(201)));
        // Another member's orders in between.
        let _ = world.app.post("/v1/orders").bearer(&world.stranger_token()).key("k").json(&world.plain()).send().await.expect(201);
    }
    all.reverse();
    assert_eq!(ids(&list(&world, "").await.expect(200)), all);
    let (mut found, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = list(&world, &format!("?limit=3{cursor}")).await.expect(200);
        found.extend(ids(&page));
        pages += 1;
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((found, pages), (all, 3));
    let other = world.app.get("/v1/orders").bearer(&world.stranger_token()).send().await.expect(200);
    assert_eq!(other.body, json!({"items": [], "next_cursor": null}));
}

#[tokio::test]
async fn a_full_last_page_has_no_cursor() {
    let world = World::new().await;
    for n in 0..2 {
        let _ = world.order(&format!("k{n}"), &world.plain()).await.expect(201);
    }
    let page = list(&world, "?limit=2").await.expect(200);
    assert_eq!((ids(&page).len(), &page.body["next_cursor"]), (2, &json!(null)));
}

#[tokio::test]
async fn the_list_can_be_filtered_by_state() {
    let world = World::new().await;
    let paid = world.order_in_state(&world.plain_paid(), "PAID").await;
    let waiting = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
    let paid_too = world.order_in_state(&world.plain_paid(), "PAID").await;
    assert_eq!(ids(&list(&world, "?state=PAID").await.expect(200)), [paid_too, paid]);
    assert_eq!(ids(&list(&world, "?state=AWAITING_PAYMENT").await.expect(200)), [waiting]);
    assert_eq!(ids(&list(&world, "?state=EXPIRED").await.expect(200)), []);
    let first = list(&world, "?state=PAID&limit=1").await.expect(200);
    let next = first.body["next_cursor"].as_str().expect("there is one more");
    assert_eq!(ids(&list(&world, &format!("?state=PAID&limit=1&cursor={next}")).await.expect(200)), [paid]);
    let item = &first.body["items"][0];
    assert_eq!((&item["state"], &item["total"], &item["lines"]), (&json!("PAID"), &json!(5_000), &json!(null)));
}

// rows 17 to 19
#[tokio::test]
async fn bad_parameters_are_refused() {
    let world = World::new().await;
    for query in ["?limit=0", "?limit=-1", "?limit=101", "?limit=1000000000", "?limit=x", "?state=LOST", "?state=paid", "?sort=id"] {
        let refused = list(&world, query).await;
        assert_eq!((refused.status, refused.problem()), (422, "invalid-parameter"), "{query}");
    }
    let _ = list(&world, "?limit=1&limit=2").await.expect_problem(400, "duplicate-parameter");
    let _ = list(&world, "?cursor=AAAA").await.expect_problem(400, "invalid-cursor");
    for n in 0..2 {
        let _ = world.order(&format!("k{n}"), &world.plain_paid()).await.expect(201);
    }
    let sold = world.app.get(format!("/v1/stores/{}/orders?limit=1", world.store)).bearer(&world.seller_token()).send().await.expect(200);
    let foreign = sold.body["next_cursor"].as_str().expect("there is one more");
    let _ = list(&world, &format!("?cursor={foreign}")).await.expect_problem(400, "invalid-cursor");
    let _ = world.app.get("/v1/orders").send().await.expect_problem(401, "unauthenticated");
}
