use crate::{
    participants_stub::Reaction,
    world::{Code, World},
};
use contracts::{MemberId, StoreId, messages::StockPolicy};
use kit::{auth::Role, ports::new_id};
use serde_json::{Value, json};
use testkit::TestResponse;

async fn sold(world: &World, store: StoreId, token: &str, query: &str) -> TestResponse {
    world.app.get(format!("/v1/stores/{store}/orders{query}")).bearer(token).send().await
}

fn skus(order: &Value) -> Vec<&Value> {
    order["lines"].as_array().expect("lines").iter().map(|line| &line["sku"]).collect()
}

// O6, row 40
#[tokio::test]
async fn a_seller_sees_only_lines_of_the_own_store() {
    let world = World::new().await;
    let other = MemberId(new_id());
    let other_store = world.participants.open_store(other);
    let (ours, theirs) = (world.sell(5_000), world.participants.sell_in(other_store, 7_000, StockPolicy::ReserveOnOrder));
    let both = json!({"items": [{"sku": ours, "quantity": 1}, {"sku": theirs, "quantity": 2}], "payment": {"method": "wallet"}});
    let shared = world.order_in_state(&both, "PAID").await;
    let only_theirs = json!({"items": [{"sku": theirs, "quantity": 1}], "payment": {"method": "wallet"}});
    let _ = world.order_in_state(&only_theirs, "PAID").await;

    let page = sold(&world, world.store, &world.seller_token(), "").await.expect(200);
    let items = page.body["items"].as_array().expect("a list");
    assert_eq!(items.len(), 1);
    assert_eq!((&items[0]["id"], skus(&items[0])), (&json!(shared), vec![&json!(ours)]));

    let other_token = world.app.token(other, Role::Seller);
    let page = sold(&world, other_store, &other_token, "").await.expect(200);
    let items = page.body["items"].as_array().expect("a list");
    assert_eq!(items.iter().map(skus).collect::<Vec<_>>(), vec![vec![&json!(theirs)]; 2]);

    let _ = sold(&world, world.store, &other_token, "").await.expect_problem(404, "not-found");
    let _ = sold(&world, StoreId(new_id()), &other_token, "").await.expect_problem(404, "not-found");
    let _ = sold(&world, world.store, &world.token, "").await.expect_problem(403, "forbidden");
    let _ = sold(&world, world.store, &world.operator_token(), "").await.expect(200);
}

// M4, R4
#[tokio::test]
async fn a_seller_sees_only_the_own_sums_and_no_words_of_the_buyer() {
    let world = World::new().await;
    let other_store = world.participants.open_store(MemberId(new_id()));
    let (ours, theirs) = (world.sell(10_000), world.participants.sell_in(other_store, 70_000, StockPolicy::ReserveOnOrder));
    let items = json!([{"sku": ours, "quantity": 1}, {"sku": theirs, "quantity": 1}]);
    let body = json!({"items": items, "coupons": [world.coupon(8_000)], "points": 7_200, "payment": {"method": "wallet"}});
    let order = world.order_in_state(&body, "PAID").await;
    let page = sold(&world, world.store, &world.seller_token(), "").await.expect(200);
    let shown = &page.body["items"][0];
    // A coupon of 8,000 on 80,000 takes 1,000 off our line; 900 of 7,200 points are for its 9,000.
    let sums = [&shown["subtotal"], &shown["discount"], &shown["points_used"], &shown["total"]];
    assert_eq!(sums, [&json!(10_000), &json!(1_000), &json!(900), &json!(8_100)]);
    assert_eq!(shown["lines"][0]["discount"], 1_000);

    let moved = world.app.post(format!("/v1/orders/{order}/fulfilment")).bearer(&world.operator_token());
    let moved = moved.json(&json!({"state": "PREPARING"})).send().await.expect(200);
    assert_eq!((&moved.body["subtotal"], &moved.body["total"]), (&json!(80_000), &json!(64_800)));
    let words = json!({"reason": "call 010-1234-5678"});
    let _ = world.post(&format!("/v1/orders/{order}/cancellation"), "c", &words).header("prefer", "wait=20").send().await.expect(200);
    let page = sold(&world, world.store, &world.seller_token(), "").await.expect(200);
    assert_eq!(page.body["items"][0]["state"], "CANCELLED");
    for answer in [&moved, &page] {
        let shown = if answer.body["items"].is_array() { &answer.body["items"][0] } else { &answer.body };
        let mut fields: Vec<&str> = shown.as_object().expect("an order").keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["created_at", "discount", "id", "lines", "paid_at", "points_used", "state", "states", "subtotal", "total"]);
        assert!(!String::from_utf8_lossy(&answer.bytes).contains("010-1234"), "the buyer's words");
    }
}

// M4
#[tokio::test]
async fn a_seller_sees_no_unpaid_or_failed_order() {
    let world = World::new().await;
    let _ = world.order_in_state(&world.plain(), "AWAITING_PAYMENT").await;
    world.set_reaction("payment.request", Reaction::Refuse(Code::InsufficientFunds));
    let _ = world.order("k", &world.plain_paid()).await.expect_problem(409, "insufficient-funds");
    let page = sold(&world, world.store, &world.seller_token(), "").await.expect(200);
    assert_eq!((&page.body["items"], &page.body["next_cursor"]), (&json!([]), &json!(null)));
}

#[tokio::test]
async fn pages_list_each_order_once() {
    let world = World::new().await;
    let mut all = Vec::new();
    for _ in 0..5 {
        // An order with two lines is listed once.
        let items = json!([{"sku": world.sell(1_000), "quantity": 1}, {"sku": world.sell(2_000), "quantity": 1}]);
        all.push(json!(world.order_in_state(&json!({"items": items, "payment": {"method": "wallet"}}), "PAID").await));
    }
    all.reverse();
    let seller = world.seller_token();
    let (mut found, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = sold(&world, world.store, &seller, &query).await.expect(200);
        found.extend(page.body["items"].as_array().expect("a list").iter().map(|order| order["id"].clone()));
        match page.body["next_cursor"].as_str() {
            Some(next) => query = format!("?limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, all);
    let refused = sold(&world, world.store, &seller, "?limit=0").await;
    let _ = refused.expect_problem(422, "invalid-parameter");
}

// H1
#[tokio::test]
async fn a_large_page_takes_no_connection_from_other_reads() {
    let world = World::new().await;
    let (seller, db) = (world.seller_token(), world.app.kit_of("orders").db.clone());
    let held = (db.heavy_reader().await.expect("free"), db.heavy_reader().await.expect("free"));
    let request = world.app.get(format!("/v1/stores/{}/orders", world.store)).bearer(&seller).once();
    let refused = request.send().await.expect_problem(503, "unavailable");
    assert_eq!(refused.headers["retry-after"], "1");
    let _ = world.app.get("/v1/orders").bearer(&world.token).send().await.expect(200);
    drop(held);
    let _ = sold(&world, world.store, &seller, "").await.expect(200);
}
